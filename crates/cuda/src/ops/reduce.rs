//! Sums over many numbers.

use std::ops::Range;

use super::launch::{NUMBERS, blocks, count, numbers, pointer, pointer_at, run, same_device};
use crate::device::Buffer;
use crate::error::Error;
use crate::kernel::Source;

/// `reduce.cu`.
pub(crate) static REDUCE: Source = Source {
    name: "reduce.cu",
    text: include_str!("../kernels/reduce.cu"),
    kernels: &["sum_of_squares", "total"],
    macros: &[NUMBERS],
};

/// What [`sum_of_squares`] wants in `partial`. It does not depend on the device, so that neither do the
/// bits of a sum.
pub const SUM_PARTIAL_LEN: usize = 1024;
/// What the kernels are written for.
const THREADS: u32 = 256;

/// `sums[at] = Σ x²` over the range, in f64; it stays in device memory.
///
/// # Errors
/// As [`Device::launch`](crate::Device::launch).
///
/// # Panics
/// If lengths disagree.
pub fn sum_of_squares(
    sums: &mut Buffer<f64>,
    at: usize,
    x: &Buffer<f32>,
    range: Range<usize>,
    partial: &mut Buffer<f64>,
) -> Result<(), Error> {
    assert!(
        range.start <= range.end
            && range.end <= x.len()
            && at < sums.len()
            && partial.len() >= SUM_PARTIAL_LEN,
        "sum_of_squares shapes disagree: {range:?} of {} to {at} of {}, partial {} of {SUM_PARTIAL_LEN}",
        x.len(),
        sums.len(),
        partial.len()
    );
    same_device("sum_of_squares", &[sums.gpu(), x.gpu(), partial.gpu()]);
    let numbers = numbers(&[range.start, range.len()]);
    let items = range.len() / numbers as usize;
    let n_partial = items.div_ceil(THREADS as usize).min(SUM_PARTIAL_LEN);
    let arguments = [pointer(partial), pointer_at(x, range.start), count(items)];
    // SAFETY: the arguments are the declaration's; items end with the range, and each block has a number
    // of `partial`.
    unsafe {
        run(
            sums.gpu(),
            (&REDUCE, "sum_of_squares"),
            &[numbers],
            blocks(n_partial, THREADS),
            &arguments,
        )?;
    }
    let arguments = [pointer_at(sums, at), pointer(partial), count(n_partial)];
    // SAFETY: the arguments are the declaration's; the blocks above wrote so many numbers.
    unsafe {
        run(
            sums.gpu(),
            (&REDUCE, "total"),
            &[numbers],
            blocks(1, THREADS),
            &arguments,
        )
    }
}
