//! `y = x·Wᵀ` and its two gradients, all as one product each. `W` is
//! `[outputs, inputs]` row-major, as Hugging Face stores it.

use std::ops::Range;

use cwm_kernels::{MatMut, MatRef, Precision, Store, gemm};

/// `y (+)= x·Wᵀ` for `rows` rows.
pub(crate) fn forward(
    y: &mut [f32],
    x: &[f32],
    w: &[f32],
    rows: usize,
    store: Store,
    precision: Precision,
) {
    let (outputs, inputs) = (y.len() / rows, x.len() / rows);
    gemm(
        MatMut::new(y, rows, outputs),
        MatRef::new(x, rows, inputs),
        MatRef::new(w, outputs, inputs).t(),
        store,
        precision,
    );
}

/// `dx (+)= dy·W`.
pub(crate) fn backward_input(
    dx: &mut [f32],
    dy: &[f32],
    w: &[f32],
    rows: usize,
    store: Store,
    precision: Precision,
) {
    let (outputs, inputs) = (dy.len() / rows, dx.len() / rows);
    gemm(
        MatMut::new(dx, rows, inputs),
        MatRef::new(dy, rows, outputs),
        MatRef::new(w, outputs, inputs),
        store,
        precision,
    );
}

/// `dW += dyᵀ·x`.
pub(crate) fn backward_weight(
    dw: &mut [f32],
    dy: &[f32],
    x: &[f32],
    rows: usize,
    precision: Precision,
) {
    let (outputs, inputs) = (dy.len() / rows, x.len() / rows);
    gemm(
        MatMut::new(dw, outputs, inputs),
        MatRef::new(dy, rows, outputs).t(),
        MatRef::new(x, rows, inputs),
        Store::Accumulate,
        precision,
    );
}

/// Both gradients of several products of the same `x`: `dx` is their sum, and
/// each `dW` is added at its place in `grads`. An output is its `dy` and where
/// its `W` lies in `params`.
pub(crate) fn backward_all<const N: usize>(
    dx: &mut [f32],
    grads: &mut [f32],
    x: &[f32],
    params: &[f32],
    rows: usize,
    outputs: [(&[f32], &Range<usize>); N],
    precision: Precision,
) {
    let mut store = Store::Overwrite;
    for (dy, w) in outputs {
        backward_weight(&mut grads[w.clone()], dy, x, rows, precision);
        backward_input(dx, dy, &params[w.clone()], rows, store, precision);
        store = Store::Accumulate;
    }
}
