//! The backward functions of the reference against finite differences of its forward functions:
//! the ground on which every comparison with the reference stands.

mod common;

use common::{AttentionCase, Random};
use cwm_kernels::{AttentionShape, Scratch, reference};

/// Checks `gradient` of the scalar function `loss` at `x`, element by element, by central
/// differences. The functions work in f32, so the step balances rounding against curvature.
#[track_caller]
fn check_gradient(what: &str, x: &[f32], gradient: &[f32], loss: impl Fn(&[f32]) -> f64) {
    const STEP: f32 = 4e-3;
    assert_eq!(x.len(), gradient.len());
    for i in 0..x.len() {
        let at = |delta: f32| {
            let mut x = x.to_vec();
            x[i] += delta;
            (loss(&x), f64::from(x[i]))
        };
        let ((high, x_high), (low, x_low)) = (at(STEP), at(-STEP));
        let numeric = (high - low) / (x_high - x_low);
        let error = (numeric - f64::from(gradient[i])).abs();
        assert!(
            error <= 4e-4 * numeric.abs().max(1.0),
            "d{what}[{i}]: analytic {}, numeric {numeric}",
            gradient[i]
        );
    }
}

/// `Σ dout * out`: a scalar whose gradient with respect to `out` is `dout`.
fn inner(dout: &[f32], out: &[f32]) -> f64 {
    dout.iter()
        .zip(out)
        .map(|(&a, &b)| f64::from(a) * f64::from(b))
        .sum()
}

#[test]
fn rms_norm() {
    let (rows, d) = (3, 7);
    let mut random = Random(1);
    let (x, w, dout) = (
        random.values(rows * d),
        random.values(d),
        random.values(rows * d),
    );
    let (mut dx, mut dw) = (vec![0.0; rows * d], vec![0.0; d]);
    reference::rms_norm_backward(&mut dx, &mut dw, &dout, &x, &w, 1e-2);
    let loss = |x: &[f32], w: &[f32]| {
        let mut out = vec![0.0; x.len()];
        reference::rms_norm(&mut out, x, w, 1e-2);
        inner(&dout, &out)
    };
    check_gradient("x", &x, &dx, |x| loss(x, &w));
    check_gradient("w", &w, &dw, |w| loss(&x, w));
}

#[test]
fn swiglu() {
    let mut random = Random(2);
    let gate: Vec<f32> = random.values(30).into_iter().map(|x| 4.0 * x).collect();
    let (up, dout) = (random.values(30), random.values(30));
    let (mut dgate, mut dup) = (vec![0.0; 30], vec![0.0; 30]);
    reference::swiglu_backward(&mut dgate, &mut dup, &dout, &gate, &up);
    let loss = |gate: &[f32], up: &[f32]| {
        let mut out = vec![0.0; gate.len()];
        reference::swiglu(&mut out, gate, up);
        inner(&dout, &out)
    };
    check_gradient("gate", &gate, &dgate, |gate| loss(gate, &up));
    check_gradient("up", &up, &dup, |up| loss(&gate, up));
}

#[test]
fn cross_entropy() {
    let mut random = Random(3);
    let logits: Vec<f32> = random.values(4 * 6).into_iter().map(|x| 3.0 * x).collect();
    let (targets, weights) = ([5, 0, 2, 1], [1.0, 0.5, 0.0, 2.0]);
    let mut gradient = logits.clone();
    reference::cross_entropy(&mut gradient, &targets, &weights, 1.0);
    check_gradient("logits", &logits, &gradient, |x| {
        reference::cross_entropy(&mut x.to_vec(), &targets, &weights, 1.0).loss_sum
    });
}

#[test]
fn attention() {
    let shape = AttentionShape {
        n_heads: 4,
        n_kv_heads: 2,
        head_dim: 4,
    };
    let mut scratch = Scratch::default();
    let AttentionCase {
        q,
        k,
        v,
        dout,
        spans,
        ..
    } = AttentionCase::new(4, 9, shape);
    let forward = |q: &[f32], k: &[f32], v: &[f32]| {
        let (mut out, mut lse) = (vec![0.0; q.len()], vec![0.0; 4 * 9]);
        reference::attention(
            &mut out,
            &mut lse,
            q,
            k,
            v,
            &spans,
            shape,
            &mut Scratch::default(),
        );
        (out, lse)
    };
    let (out, lse) = forward(&q, &k, &v);
    let [mut dq, mut dk, mut dv] = [&q, &k, &v].map(|x| vec![f32::NAN; x.len()]);
    reference::attention_backward(
        &mut dq,
        &mut dk,
        &mut dv,
        &dout,
        &out,
        &lse,
        &q,
        &k,
        &v,
        &spans,
        shape,
        &mut scratch,
    );
    check_gradient("q", &q, &dq, |q| inner(&dout, &forward(q, &k, &v).0));
    check_gradient("k", &k, &dk, |k| inner(&dout, &forward(&q, k, &v).0));
    check_gradient("v", &v, &dv, |v| inner(&dout, &forward(&q, &k, v).0));
}
