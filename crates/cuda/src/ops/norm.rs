//! RMS normalisation of rows.

use std::ops::Range;

use half::bf16;

use super::launch::{
    NUMBERS, blocks, count, narrow, numbers, pointer, pointer_at, row_threads, run, same_device,
};
use crate::device::{Argument, Buffer, Gpu};
use crate::error::Error;
use crate::kernel::Source;

/// `norm.cu`.
pub(crate) static NORM: Source = Source {
    name: "norm.cu",
    text: include_str!("../kernels/norm.cu"),
    kernels: &["rms_norm", "rms_norm_backward", "add_partial"],
    macros: &[NUMBERS],
};

/// Most threads of a block that has a row.
const ROW_THREADS: u32 = 256;
/// Blocks of the backward kernel for each multiprocessor: as many as it holds at once at full width.
const BLOCKS: usize = 4;
/// What `add_partial` is written for.
const PARTIAL_THREADS: u32 = 256;
const PARTIAL_COLUMNS: usize = 32;
/// Of the backward kernel, which keeps a row of f32 in shared memory; all GPUs give 48 KiB.
const WIDEST: usize = 8 * 1024;

/// `out = x * w * inverse` of rows as long as `weight`, where `w` are the parameters of that range and
/// `inverse[row] = 1 / sqrt(mean(x²) + eps)`. `out` and `x` are `[rows, width]`.
///
/// # Errors
/// As [`Device::launch`](crate::Device::launch).
///
/// # Panics
/// If lengths disagree.
pub fn rms_norm(
    out: &mut Buffer<bf16>,
    inverse: &mut Buffer<f32>,
    x: &Buffer<f32>,
    params: &Buffer<f32>,
    weight: Range<usize>,
    rows: usize,
    eps: f32,
) -> Result<(), Error> {
    let width = weight.len();
    assert!(
        width > 0
            && weight.end <= params.len()
            && out.len() >= rows * width
            && x.len() >= rows * width
            && inverse.len() >= rows,
        "rms_norm shapes disagree: out {}, inverse {}, x {} for {rows} rows, weight {weight:?} of {} \
         parameters",
        out.len(),
        inverse.len(),
        x.len(),
        params.len()
    );
    same_device(
        "rms_norm",
        &[out.gpu(), inverse.gpu(), x.gpu(), params.gpu()],
    );
    let numbers = numbers(&[width, weight.start]);
    let launch = blocks(rows, row_threads(width, numbers, ROW_THREADS));
    let arguments = [
        pointer(out),
        pointer(inverse),
        pointer(x),
        pointer_at(params, weight.start),
        count(width),
        Argument::F32(eps),
    ];
    // SAFETY: the arguments are the declaration's; a block reads and writes its row of `width` numbers, of
    // `rows`, which were checked to be there, as was the weight.
    unsafe {
        run(
            out.gpu(),
            (&NORM, "rms_norm"),
            &[numbers],
            launch,
            &arguments,
        )
    }
}

/// Numbers that [`rms_norm_backward`] wants in `partial` to use the whole device; a whole row is enough.
pub fn norm_partial_len(gpu: &Gpu, width: usize) -> usize {
    BLOCKS * gpu.device().multiprocessors() * width
}

/// Gradients of [`rms_norm`], both added to what is there: that of `x` to `dx`, that of the weight to its
/// range of `grads`. `inverse` is what the forward function left.
///
/// # Errors
/// As [`Device::launch`](crate::Device::launch).
///
/// # Panics
/// If lengths disagree, or rows have more than 8,192 numbers.
#[expect(
    clippy::too_many_arguments,
    reason = "the tensors of the operation; a struct would only rename them"
)]
pub fn rms_norm_backward(
    dx: &mut Buffer<f32>,
    grads: &mut Buffer<f32>,
    d_out: &Buffer<bf16>,
    x: &Buffer<f32>,
    inverse: &Buffer<f32>,
    params: &Buffer<f32>,
    weight: Range<usize>,
    rows: usize,
    partial: &mut Buffer<f32>,
) -> Result<(), Error> {
    let width = weight.len();
    let lengths = [dx.len(), d_out.len(), x.len()];
    assert!(
        width > 0
            && width <= WIDEST
            && weight.end <= params.len()
            && weight.end <= grads.len()
            && lengths.iter().all(|&len| len >= rows * width)
            && inverse.len() >= rows
            && partial.len() >= width,
        "rms_norm_backward shapes disagree: dx, d_out and x {lengths:?}, inverse {}, partial {} for {rows} \
         rows, weight {weight:?} of {} parameters and {} gradients, up to {WIDEST} wide",
        inverse.len(),
        partial.len(),
        params.len(),
        grads.len()
    );
    same_device(
        "rms_norm_backward",
        &[
            dx.gpu(),
            grads.gpu(),
            d_out.gpu(),
            x.gpu(),
            inverse.gpu(),
            params.gpu(),
            partial.gpu(),
        ],
    );
    let most = partial.len().min(norm_partial_len(dx.gpu(), width)) / width;
    let n_partial = rows.min(most);
    let numbers = numbers(&[width, weight.start]);
    let mut launch = blocks(n_partial, row_threads(width, numbers, ROW_THREADS));
    launch.shared_bytes = narrow(width * size_of::<f32>());
    let arguments = [
        pointer(dx),
        pointer(partial),
        pointer(d_out),
        pointer(x),
        pointer(inverse),
        pointer_at(params, weight.start),
        count(rows),
        count(width),
    ];
    // SAFETY: the arguments are the declaration's; rows up to `rows` of `width` numbers and the weight were
    // checked to be there, `partial` has a row for each block, and dynamic shared memory is a row of f32.
    unsafe {
        run(
            dx.gpu(),
            (&NORM, "rms_norm_backward"),
            &[numbers],
            launch,
            &arguments,
        )?;
    }
    if n_partial == 0 {
        return Ok(());
    }
    let launch = blocks(width.div_ceil(PARTIAL_COLUMNS), PARTIAL_THREADS);
    let arguments = [
        pointer_at(grads, weight.start),
        pointer(partial),
        count(n_partial),
        count(width),
    ];
    // SAFETY: the arguments are the declaration's; `partial` has that many rows, and `grads` the range.
    unsafe {
        run(
            dx.gpu(),
            (&NORM, "add_partial"),
            &[numbers],
            launch,
            &arguments,
        )
    }
}
