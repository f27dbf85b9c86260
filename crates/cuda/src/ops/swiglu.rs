//! The gated activation of the feed-forward block.

use half::bf16;

use super::launch::{NUMBERS, count, numbers, pointer, run, same_device, threads};
use crate::device::Buffer;
use crate::error::Error;
use crate::kernel::Source;

/// `swiglu.cu`.
pub(crate) static SWIGLU: Source = Source {
    name: "swiglu.cu",
    text: include_str!("../kernels/swiglu.cu"),
    kernels: &["swiglu", "swiglu_backward"],
    macros: &[NUMBERS],
};

/// `product = silu(gate) * up`, where a row of `gate_up` `[rows, 2 * inner]` is the gates and then the ups;
/// `product` is `[rows, inner]`.
///
/// # Errors
/// As [`Device::launch`](crate::Device::launch).
///
/// # Panics
/// If lengths disagree.
pub fn swiglu(
    product: &mut Buffer<bf16>,
    gate_up: &Buffer<bf16>,
    rows: usize,
    inner: usize,
) -> Result<(), Error> {
    assert!(
        inner > 0 && product.len() >= rows * inner && gate_up.len() >= 2 * rows * inner,
        "swiglu shapes disagree: product {} and gate_up {} for {rows} rows of {inner}",
        product.len(),
        gate_up.len()
    );
    same_device("swiglu", &[product.gpu(), gate_up.gpu()]);
    let numbers = numbers(&[inner]);
    let items = rows * (inner / numbers as usize);
    let arguments = [
        pointer(product),
        pointer(gate_up),
        count(items),
        count(inner),
    ];
    // SAFETY: the arguments are the declaration's; items end with the last row, which was checked to be in
    // both buffers.
    unsafe {
        run(
            product.gpu(),
            (&SWIGLU, "swiglu"),
            &[numbers],
            threads(items),
            &arguments,
        )
    }
}

/// Gradients of [`swiglu`], laid out as `gate_up`; overwritten.
///
/// # Errors
/// As [`Device::launch`](crate::Device::launch).
///
/// # Panics
/// If lengths disagree.
pub fn swiglu_backward(
    d_gate_up: &mut Buffer<bf16>,
    d_product: &Buffer<bf16>,
    gate_up: &Buffer<bf16>,
    rows: usize,
    inner: usize,
) -> Result<(), Error> {
    assert!(
        inner > 0
            && d_product.len() >= rows * inner
            && gate_up.len() >= 2 * rows * inner
            && d_gate_up.len() >= 2 * rows * inner,
        "swiglu_backward shapes disagree: d_gate_up {}, d_product {} and gate_up {} for {rows} rows of \
         {inner}",
        d_gate_up.len(),
        d_product.len(),
        gate_up.len()
    );
    let devices = [d_gate_up.gpu(), d_product.gpu(), gate_up.gpu()];
    same_device("swiglu_backward", &devices);
    let numbers = numbers(&[inner]);
    let items = rows * (inner / numbers as usize);
    let arguments = [
        pointer(d_gate_up),
        pointer(d_product),
        pointer(gate_up),
        count(items),
        count(inner),
    ];
    // SAFETY: the arguments are the declaration's; items end with the last row, which was checked to be in
    // all buffers.
    unsafe {
        run(
            d_gate_up.gpu(),
            (&SWIGLU, "swiglu_backward"),
            &[numbers],
            threads(items),
            &arguments,
        )
    }
}
