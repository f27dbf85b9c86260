//! Products with weights whose rows do not notice one another (`kernels/linear.cu`).

use std::ops::Range;

use half::bf16;

use super::launch::{count, narrow, pointer, pointer_at, run, same_device};
use crate::device::{Argument, Buffer, Launch};
use crate::error::Error;
use crate::kernel::Source;
use crate::network::Target;

/// `linear.cu`.
pub(crate) static LINEAR: Source = Source {
    name: "linear.cu",
    text: include_str!("../kernels/linear.cu"),
    kernels: &["linear", "linear_add", "linear_rounded"],
    macros: &[],
};

/// Threads of a block, and what it has of the result.
const THREADS: u32 = 128;
const COLUMNS: usize = 16;
const ROWS: usize = 64;

/// `out[rows, n] (+)= x[rows, k] · Wᵀ`, where `W[n, k]` lies at `weight`. A row of the result has the same
/// bits whatever `rows` is, which a library's product does not promise.
///
/// # Errors
/// As [`Device::launch`](crate::Device::launch).
///
/// # Panics
/// If lengths disagree, or `k` or where the weights begin is no multiple of 8.
pub fn linear(
    out: Target<'_>,
    x: &Buffer<bf16>,
    weights: &Buffer<bf16>,
    weight: Range<usize>,
    rows: usize,
    k: usize,
) -> Result<(), Error> {
    assert!(
        k > 0
            && k.is_multiple_of(8)
            && weight.start.is_multiple_of(8)
            && weight.len().is_multiple_of(k)
            && weight.end <= weights.len()
            && x.len() >= rows * k,
        "linear shapes disagree: {rows} rows of {k} from {}, weight {weight:?} of {}",
        x.len(),
        weights.len()
    );
    let n = weight.len() / k;
    out.check(rows * n);
    same_device("linear", &[x.gpu(), weights.gpu()]);
    let kernel = match &out {
        Target::Add(_) => "linear_add",
        Target::Full(_) => "linear",
        Target::Rounded(_) => "linear_rounded",
    };
    let launch = Launch {
        grid: [narrow(n.div_ceil(COLUMNS)), narrow(rows.div_ceil(ROWS)), 1],
        threads: THREADS,
        shared_bytes: 0,
    };
    let arguments = [
        Argument::Pointer(out.address()),
        pointer(x),
        pointer_at(weights, weight.start),
        count(rows),
        count(n),
        count(k),
    ];
    // SAFETY: the arguments are the declaration's; the kernel compares rows and columns with these counts,
    // and so many were checked to be in all three matrices.
    unsafe { run(x.gpu(), (&LINEAR, kernel), &[], launch, &arguments) }
}
