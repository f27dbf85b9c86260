//! The readable definition of every operation: scalar loops, no intrinsics, no blocking.
//!
//! This module is the oracle. Its functions have the signatures of the fast ones at the crate
//! root and are kept for ever; every fast path is compared against them on odd shapes, and the
//! backward functions here are themselves checked by finite differences. Sums are carried in f64
//! so that the oracle is more accurate than what it judges.

use crate::checks;
use crate::{
    AdamW, AttentionShape, CrossEntropy, Direction, MatMut, MatRef, RopeTable, Scratch, Span, Store,
};

/// `C = A·B` or `C += A·B`. See [`crate::gemm`].
pub fn gemm(c: MatMut<'_>, a: MatRef<'_>, b: MatRef<'_>, store: Store) {
    checks::gemm(&c, &a, &b);
    for i in 0..c.rows {
        for j in 0..c.cols {
            let sum: f64 = (0..a.cols)
                .map(|p| f64::from(a.at(i, p)) * f64::from(b.at(p, j)))
                .sum();
            let cell = &mut c.data[i * c.row_stride + j];
            *cell = match store {
                Store::Overwrite => sum as f32,
                Store::Accumulate => *cell + sum as f32,
            };
        }
    }
}

/// `out = x * w / sqrt(mean(x²) + eps)`, row by row. See [`crate::rms_norm`].
pub fn rms_norm(out: &mut [f32], x: &[f32], w: &[f32], eps: f32) {
    checks::rms_norm(out, x, w);
    let d = w.len();
    for (out, x) in out.chunks_exact_mut(d).zip(x.chunks_exact(d)) {
        let r = inverse_rms(x, eps);
        for ((out, x), w) in out.iter_mut().zip(x).zip(w) {
            *out = x * r * w;
        }
    }
}

/// Gradients of [`rms_norm`], both added to what is there. See [`crate::rms_norm_backward`].
pub fn rms_norm_backward(
    dx: &mut [f32],
    dw: &mut [f32],
    dout: &[f32],
    x: &[f32],
    w: &[f32],
    eps: f32,
) {
    checks::rms_norm_backward(dx, dw, dout, x, w);
    let d = w.len();
    for ((dx, dout), x) in dx
        .chunks_exact_mut(d)
        .zip(dout.chunks_exact(d))
        .zip(x.chunks_exact(d))
    {
        let r = inverse_rms(x, eps);
        let inner: f64 = (0..d)
            .map(|j| f64::from(dout[j]) * f64::from(w[j]) * f64::from(x[j]))
            .sum();
        let common = r * r * r / d as f32 * inner as f32;
        for j in 0..d {
            dx[j] += dout[j] * w[j] * r - x[j] * common;
            dw[j] += dout[j] * x[j] * r;
        }
    }
}

/// Half-split rotary embedding in place. See [`crate::rope`].
pub fn rope(
    x: &mut [f32],
    n_heads: usize,
    head_dim: usize,
    positions: &[u32],
    table: &RopeTable,
    direction: Direction,
) {
    checks::rope(x, n_heads, head_dim, positions, table);
    let sign = match direction {
        Direction::Forward => 1.0,
        Direction::Backward => -1.0,
    };
    for (row, &position) in x.chunks_exact_mut(n_heads * head_dim).zip(positions) {
        let (cos, sin) = table.row(position);
        for head in row.chunks_exact_mut(head_dim) {
            let (low, high) = head.split_at_mut(head_dim / 2);
            for j in 0..head_dim / 2 {
                let (a, b) = (low[j], high[j]);
                low[j] = a * cos[j] - b * sign * sin[j];
                high[j] = b * cos[j] + a * sign * sin[j];
            }
        }
    }
}

/// `out = silu(gate) * up`. See [`crate::swiglu`].
pub fn swiglu(out: &mut [f32], gate: &[f32], up: &[f32]) {
    checks::same_len("swiglu", &[out.len(), gate.len(), up.len()]);
    for ((out, &g), &u) in out.iter_mut().zip(gate).zip(up) {
        *out = g * sigmoid(g) * u;
    }
}

/// Gradients of [`swiglu`]. See [`crate::swiglu_backward`].
pub fn swiglu_backward(dgate: &mut [f32], dup: &mut [f32], dout: &[f32], gate: &[f32], up: &[f32]) {
    let lengths = [dgate.len(), dup.len(), dout.len(), gate.len(), up.len()];
    checks::same_len("swiglu_backward", &lengths);
    for i in 0..gate.len() {
        let (g, s) = (gate[i], sigmoid(gate[i]));
        dup[i] = dout[i] * g * s;
        dgate[i] = dout[i] * up[i] * s * (1.0 + g * (1.0 - s));
    }
}

/// Masked grouped-query attention. See [`crate::attention`].
#[expect(
    clippy::too_many_arguments,
    reason = "the tensors of attention; a struct would only rename them"
)]
pub fn attention(
    out: &mut [f32],
    lse: &mut [f32],
    q: &[f32],
    k: &[f32],
    v: &[f32],
    spans: &[Span],
    shape: AttentionShape,
    _scratch: &mut Scratch,
) {
    checks::attention(out, lse, q, k, v, spans, shape);
    let (t, hd) = (spans.len(), shape.head_dim);
    let mut p = Vec::new();
    for h in 0..shape.n_heads {
        for (i, span) in spans.iter().enumerate() {
            let keys: Vec<usize> = span.ranges(i).into_iter().flatten().collect();
            let query = query_row(q, shape, i, h);
            p.clear();
            p.extend(
                keys.iter()
                    .map(|&j| dot(query, kv_row(k, shape, j, h)) * shape.scale()),
            );
            lse[h * t + i] = softmax_with_lse(&mut p);
            let out = &mut out[i * shape.q_width() + h * hd..][..hd];
            weighted_sum(out, &p, keys.iter().map(|&j| kv_row(v, shape, j, h)));
        }
    }
}

/// Gradients of [`attention`], all overwritten. See [`crate::attention_backward`].
#[expect(
    clippy::too_many_arguments,
    reason = "the tensors of attention; a struct would only rename them"
)]
pub fn attention_backward(
    dq: &mut [f32],
    dk: &mut [f32],
    dv: &mut [f32],
    dout: &[f32],
    out: &[f32],
    lse: &[f32],
    q: &[f32],
    k: &[f32],
    v: &[f32],
    spans: &[Span],
    shape: AttentionShape,
    _scratch: &mut Scratch,
) {
    checks::attention(out, lse, q, k, v, spans, shape);
    checks::attention_gradients(dq, dk, dv, dout, spans.len(), shape);
    dq.fill(0.0);
    dk.fill(0.0);
    dv.fill(0.0);
    let (t, hd, scale) = (spans.len(), shape.head_dim, shape.scale());
    for h in 0..shape.n_heads {
        for (i, span) in spans.iter().enumerate() {
            let query = query_row(q, shape, i, h);
            let dout_row = query_row(dout, shape, i, h);
            let d = dot(dout_row, query_row(out, shape, i, h));
            for j in span.ranges(i).into_iter().flatten() {
                let key = kv_row(k, shape, j, h);
                let p = (dot(query, key) * scale - lse[h * t + i]).exp();
                let ds = p * scale * (dot(dout_row, kv_row(v, shape, j, h)) - d);
                let q_at = i * shape.q_width() + h * hd;
                let kv_at = j * shape.kv_width() + h / shape.group() * hd;
                for c in 0..hd {
                    dq[q_at + c] += ds * key[c];
                    dk[kv_at + c] += ds * query[c];
                    dv[kv_at + c] += p * dout_row[c];
                }
            }
        }
    }
}

/// Loss and gradient of a softmax classifier. See [`crate::cross_entropy`].
pub fn cross_entropy(
    logits: &mut [f32],
    targets: &[u32],
    weights: &[f32],
    scale: f32,
) -> CrossEntropy {
    let vocabulary = checks::cross_entropy(logits, targets, weights);
    let mut result = CrossEntropy::default();
    for ((row, &target), &weight) in logits
        .chunks_exact_mut(vocabulary)
        .zip(targets)
        .zip(weights)
    {
        if weight == 0.0 {
            row.fill(0.0);
            continue;
        }
        let target = target as usize;
        let logit = row[target];
        let best = (0..vocabulary)
            .rev()
            .max_by(|&a, &b| row[a].total_cmp(&row[b]));
        result.correct += usize::from(best == Some(target));
        let lse = softmax_with_lse(row);
        result.loss_sum += f64::from(weight) * (f64::from(lse) - f64::from(logit));
        row[target] -= 1.0;
        self::scale(row, weight * scale);
    }
    result
}

/// Softmax of one row in place. See [`crate::softmax`].
pub fn softmax(x: &mut [f32]) {
    if !x.is_empty() {
        softmax_with_lse(x);
    }
}

/// One optimiser step. See [`crate::adamw`].
pub fn adamw(
    params: &mut [f32],
    m: &mut [f32],
    v: &mut [f32],
    grads: &[f32],
    settings: &AdamW,
    step: u32,
    grad_scale: f32,
) {
    checks::same_len("adamw", &[params.len(), m.len(), v.len(), grads.len()]);
    let factors = AdamWFactors::new(settings, step);
    for i in 0..params.len() {
        let g = grads[i] * grad_scale;
        m[i] = settings.beta1 * m[i] + (1.0 - settings.beta1) * g;
        v[i] = settings.beta2 * v[i] + (1.0 - settings.beta2) * g * g;
        let denominator = v[i].sqrt() * factors.inverse_root_correction2 + settings.eps;
        params[i] = params[i] * factors.decay - factors.step_size * m[i] / denominator;
    }
}

/// `dst += src`. See [`crate::add`].
pub fn add(dst: &mut [f32], src: &[f32]) {
    checks::same_len("add", &[dst.len(), src.len()]);
    for (dst, src) in dst.iter_mut().zip(src) {
        *dst += src;
    }
}

/// Inner product. See [`crate::dot`].
#[must_use]
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    checks::same_len("dot", &[a.len(), b.len()]);
    a.iter()
        .zip(b)
        .map(|(&a, &b)| f64::from(a) * f64::from(b))
        .sum::<f64>() as f32
}

/// `Σ x²`. See [`crate::sum_of_squares`].
#[must_use]
pub fn sum_of_squares(x: &[f32]) -> f64 {
    x.iter().map(|&x| f64::from(x) * f64::from(x)).sum()
}

/// `dst *= factor`. See [`crate::scale`].
pub fn scale(dst: &mut [f32], factor: f32) {
    for x in dst {
        *x *= factor;
    }
}

/// The factors of an AdamW step that do not depend on the element.
#[derive(Clone, Copy, Debug)]
pub struct AdamWFactors {
    /// `1 - lr * weight_decay`.
    pub decay: f32,
    /// `lr / (1 - beta1^step)`.
    pub step_size: f32,
    /// `1 / sqrt(1 - beta2^step)`.
    pub inverse_root_correction2: f32,
}

impl AdamWFactors {
    /// Of a step, which is counted from 1.
    ///
    /// # Panics
    /// If it is 0.
    #[must_use]
    pub fn new(settings: &AdamW, step: u32) -> Self {
        assert!(step > 0, "AdamW counts its steps from 1");
        let correction = |beta: f32| 1.0 - f64::from(beta).powf(f64::from(step));
        let lr = f64::from(settings.lr);
        Self {
            decay: (1.0 - lr * f64::from(settings.weight_decay)) as f32,
            step_size: (lr / correction(settings.beta1)) as f32,
            inverse_root_correction2: (1.0 / correction(settings.beta2).sqrt()) as f32,
        }
    }
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

fn inverse_rms(x: &[f32], eps: f32) -> f32 {
    (1.0 / (sum_of_squares(x) / x.len() as f64 + f64::from(eps)).sqrt()) as f32
}

/// Softmax in place; returns the natural log of the sum of exponentials of the old contents.
fn softmax_with_lse(x: &mut [f32]) -> f32 {
    let max = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = x.iter().map(|&x| f64::from(x - max).exp()).sum();
    for x in x.iter_mut() {
        *x = (f64::from(*x - max).exp() / sum) as f32;
    }
    max + sum.ln() as f32
}

/// `out = Σ p[i] * rows[i]`.
fn weighted_sum<'a>(out: &mut [f32], p: &[f32], rows: impl Iterator<Item = &'a [f32]>) {
    let mut sum = vec![0f64; out.len()];
    for (&p, row) in p.iter().zip(rows) {
        for (sum, &x) in sum.iter_mut().zip(row) {
            *sum += f64::from(p) * f64::from(x);
        }
    }
    for (out, sum) in out.iter_mut().zip(sum) {
        *out = sum as f32;
    }
}

/// Row `i` of query head `h` in a tensor `[T, n_heads * head_dim]`.
fn query_row(x: &[f32], shape: AttentionShape, i: usize, h: usize) -> &[f32] {
    &x[i * shape.q_width() + h * shape.head_dim..][..shape.head_dim]
}

/// Row `j` of the key/value head that query head `h` reads.
fn kv_row(x: &[f32], shape: AttentionShape, j: usize, h: usize) -> &[f32] {
    &x[j * shape.kv_width() + h / shape.group() * shape.head_dim..][..shape.head_dim]
}
