//! `y = x·Wᵀ` and its two gradients, all as one product each. `W` is
//! `[outputs, inputs]` row-major, as Hugging Face stores it.

use cwm_kernels::{MatMut, MatRef, Store, gemm};

/// `y (+)= x·Wᵀ` for `rows` rows.
pub(crate) fn forward(y: &mut [f32], x: &[f32], w: &[f32], rows: usize, store: Store) {
    let (outputs, inputs) = (y.len() / rows, x.len() / rows);
    gemm(
        MatMut::new(y, rows, outputs),
        MatRef::new(x, rows, inputs),
        MatRef::new(w, outputs, inputs).t(),
        store,
    );
}

/// `dx (+)= dy·W`.
pub(crate) fn backward_input(dx: &mut [f32], dy: &[f32], w: &[f32], rows: usize, store: Store) {
    let (outputs, inputs) = (dy.len() / rows, dx.len() / rows);
    gemm(
        MatMut::new(dx, rows, inputs),
        MatRef::new(dy, rows, outputs),
        MatRef::new(w, outputs, inputs),
        store,
    );
}

/// `dW += dyᵀ·x`.
pub(crate) fn backward_weight(dw: &mut [f32], dy: &[f32], x: &[f32], rows: usize) {
    let (outputs, inputs) = (dy.len() / rows, x.len() / rows);
    gemm(
        MatMut::new(dw, outputs, inputs),
        MatRef::new(dy, rows, outputs).t(),
        MatRef::new(x, rows, inputs),
        Store::Accumulate,
    );
}
