//! Loss of a softmax classifier.

use half::bf16;

use super::launch::{NUMBERS, blocks, count, numbers, pointer, row_threads, run, same_device};
use crate::device::{Argument, Buffer};
use crate::error::Error;
use crate::kernel::Source;

/// `cross_entropy.cu`.
pub(crate) static CROSS_ENTROPY: Source = Source {
    name: "cross_entropy.cu",
    text: include_str!("../kernels/cross_entropy.cu"),
    kernels: &["cross_entropy"],
    macros: &[NUMBERS],
};

/// Most threads of a block, which has a row.
const ROW_THREADS: u32 = 512;

/// For each row of `logits` `[rows, vocab]` and its target in `ids`: `losses = weight * (lse - logit)`,
/// `d_logits = (softmax - target) * weight * scale`, and 1 in `correct` where no logit is larger than the
/// target's and none before it as large. All three are overwritten, with 0 where the weight is 0. A target
/// outside the vocabulary with another weight gives a loss of NaN.
///
/// # Errors
/// As [`Device::launch`](crate::Device::launch).
///
/// # Panics
/// If lengths disagree.
#[expect(
    clippy::too_many_arguments,
    reason = "the tensors of the operation; a struct would only rename them"
)]
pub fn cross_entropy(
    d_logits: &mut Buffer<bf16>,
    losses: &mut Buffer<f32>,
    correct: &mut Buffer<u32>,
    logits: &Buffer<f32>,
    ids: &Buffer<u32>,
    weights: &Buffer<f32>,
    scale: f32,
    rows: usize,
    vocab: usize,
) -> Result<(), Error> {
    let lengths = [losses.len(), correct.len(), ids.len(), weights.len()];
    assert!(
        vocab > 0
            && logits.len() >= rows * vocab
            && d_logits.len() >= rows * vocab
            && lengths.iter().all(|&len| len >= rows),
        "cross_entropy shapes disagree: d_logits {} and logits {} for {rows} rows of {vocab}; losses, \
         correct, ids and weights {lengths:?}",
        d_logits.len(),
        logits.len()
    );
    same_device(
        "cross_entropy",
        &[
            d_logits.gpu(),
            losses.gpu(),
            correct.gpu(),
            logits.gpu(),
            ids.gpu(),
            weights.gpu(),
        ],
    );
    let numbers = numbers(&[vocab]);
    let launch = blocks(rows, row_threads(vocab, numbers, ROW_THREADS));
    let arguments = [
        pointer(d_logits),
        pointer(losses),
        pointer(correct),
        pointer(logits),
        pointer(ids),
        pointer(weights),
        Argument::F32(scale),
        count(vocab),
    ];
    // SAFETY: the arguments are the declaration's; a block has one of `rows` rows, which were checked to be
    // in all buffers, and the kernel compares the target with the vocabulary.
    unsafe {
        run(
            d_logits.gpu(),
            (&CROSS_ENTROPY, "cross_entropy"),
            &[numbers],
            launch,
            &arguments,
        )
    }
}
