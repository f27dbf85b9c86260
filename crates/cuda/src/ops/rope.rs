//! Rotary embedding.

use cwm_kernels::Direction;
use half::bf16;

use super::launch::{NUMBERS, count, numbers, pointer, run, same_device, threads};
use crate::device::{Argument, Buffer};
use crate::error::Error;
use crate::kernel::Source;

/// `rope.cu`.
pub(crate) static ROPE: Source = Source {
    name: "rope.cu",
    text: include_str!("../kernels/rope.cu"),
    kernels: &["rope"],
    macros: &[NUMBERS],
};

/// Turns the first `n_heads` heads of each row of `x` `[rows, row_width]` in place, by the angles of the
/// row's position in the tables `cos` and `sin` `[positions, head_dim / 2]`; or back. A position that the
/// tables do not have gives NaN.
///
/// # Errors
/// As [`Device::launch`](crate::Device::launch).
///
/// # Panics
/// If lengths disagree or `head_dim` is odd.
#[expect(
    clippy::too_many_arguments,
    reason = "the tensors of the operation; a struct would only rename them"
)]
pub fn rope(
    x: &mut Buffer<bf16>,
    row_width: usize,
    n_heads: usize,
    head_dim: usize,
    positions: &Buffer<u32>,
    cos: &Buffer<f32>,
    sin: &Buffer<f32>,
    rows: usize,
    direction: Direction,
) -> Result<(), Error> {
    assert!(
        n_heads > 0
            && head_dim > 0
            && head_dim.is_multiple_of(2)
            && n_heads * head_dim <= row_width
            && x.len() >= rows * row_width
            && positions.len() >= rows
            && cos.len() == sin.len()
            && (2 * cos.len()).is_multiple_of(head_dim),
        "rope shapes disagree: x {}, {rows} rows of {row_width}, {} positions, {n_heads} heads of \
         {head_dim}, tables {} and {}",
        x.len(),
        positions.len(),
        cos.len(),
        sin.len()
    );
    same_device("rope", &[x.gpu(), positions.gpu(), cos.gpu(), sin.gpu()]);
    let half = head_dim / 2;
    let numbers = numbers(&[half, row_width]);
    let items = rows * n_heads * (half / numbers as usize);
    let sign = match direction {
        Direction::Forward => 1.0,
        Direction::Backward => -1.0,
    };
    let arguments = [
        pointer(x),
        pointer(positions),
        pointer(cos),
        pointer(sin),
        count(items),
        count(row_width),
        count(n_heads),
        count(half),
        count(cos.len() / half),
        Argument::F32(sign),
    ];
    // SAFETY: the arguments are the declaration's; items end with the last head of the last row, which was
    // checked to be there, and the kernel compares positions with the length of the tables.
    unsafe {
        run(
            x.gpu(),
            (&ROPE, "rope"),
            &[numbers],
            threads(items),
            &arguments,
        )
    }
}
