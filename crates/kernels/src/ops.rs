//! The public operations: each checks its shapes, then takes the path that [`cpu`](crate::cpu)
//! picked. The definition of every operation is its namesake in [`reference`](crate::reference).

use crate::{
    AdamW, AttentionShape, CrossEntropy, Direction, RopeTable, Scratch, Span, checks, reference,
};
#[cfg(target_arch = "x86_64")]
use crate::{Level, avx2, cpu};

/// Calls the fastest function of this name that the processor supports. Shapes must have been
/// checked: the vectorised functions rely on it.
macro_rules! fastest {
    ($name:ident($($argument:expr),*)) => {{
        #[cfg(target_arch = "x86_64")]
        if cpu().level >= Level::Avx2 {
            // SAFETY: from this level up the processor has AVX2 and FMA, which is all that these
            // functions require.
            return unsafe { avx2::$name($($argument),*) };
        }
        reference::$name($($argument),*)
    }};
}

/// Weights that share one scale in the int8 form of files, along the input dimension.
pub const INT8_GROUP: usize = 32;

/// Rounds rows of length `k` to int8 with an f32 scale for each group of [`INT8_GROUP`]:
/// `scale = max|w| / 127`.
///
/// # Panics
/// If the shapes disagree.
pub fn quantize_int8(q: &mut [i8], scales: &mut [f32], w: &[f32], k: usize) {
    let groups = k.div_ceil(INT8_GROUP);
    assert!(
        k > 0
            && q.len() == w.len()
            && w.len().is_multiple_of(k)
            && scales.len() == w.len() / k * groups,
        "quantize_int8 shapes disagree: {} weights in rows of {k}, {} outputs, {} scales",
        w.len(),
        q.len(),
        scales.len()
    );
    let rows = q
        .chunks_exact_mut(k)
        .zip(w.chunks_exact(k))
        .zip(scales.chunks_exact_mut(groups));
    for ((q, w), scales) in rows {
        let groups = q
            .chunks_mut(INT8_GROUP)
            .zip(w.chunks(INT8_GROUP))
            .zip(scales);
        for ((q, w), scale) in groups {
            *scale = w.iter().fold(0f32, |max, w| max.max(w.abs())) / 127.0;
            let inverse = if *scale > 0.0 { 1.0 / *scale } else { 0.0 };
            for (q, w) in q.iter_mut().zip(w) {
                *q = (w * inverse).round().clamp(-127.0, 127.0) as i8;
            }
        }
    }
}

/// The weights that codes and scales stand for: the inverse of [`quantize_int8`] up to rounding.
///
/// # Panics
/// If the shapes disagree.
pub fn dequantize_int8(w: &mut [f32], q: &[i8], scales: &[f32], k: usize) {
    let groups = k.div_ceil(INT8_GROUP);
    assert!(
        k > 0
            && q.len() == w.len()
            && w.len().is_multiple_of(k)
            && scales.len() == w.len() / k * groups,
        "dequantize_int8 shapes disagree: {} weights in rows of {k}, {} inputs, {} scales",
        w.len(),
        q.len(),
        scales.len()
    );
    let rows = q
        .chunks_exact(k)
        .zip(w.chunks_exact_mut(k))
        .zip(scales.chunks_exact(groups));
    for ((q, w), scales) in rows {
        for ((q, w), scale) in q
            .chunks(INT8_GROUP)
            .zip(w.chunks_mut(INT8_GROUP))
            .zip(scales)
        {
            for (w, &q) in w.iter_mut().zip(q) {
                *w = f32::from(q) * scale;
            }
        }
    }
}

/// RMS normalisation of rows of length `w.len()`: `out = x * w / sqrt(mean(x²) + eps)`.
///
/// # Panics
/// If the shapes disagree.
pub fn rms_norm(out: &mut [f32], x: &[f32], w: &[f32], eps: f32) {
    checks::rms_norm(out, x, w);
    fastest!(rms_norm(out, x, w, eps));
}

/// Gradients of [`rms_norm`]: `dx` and `dw` are both *added to*, which fuses the residual
/// gradient and the sum over rows. With `r = 1/sqrt(mean(x²) + eps)`:
/// `dx_j += g_j w_j r - x_j (r³/d) Σ g w x` and `dw_j += g_j x_j r`.
///
/// # Panics
/// If the shapes disagree.
pub fn rms_norm_backward(
    dx: &mut [f32],
    dw: &mut [f32],
    dout: &[f32],
    x: &[f32],
    w: &[f32],
    eps: f32,
) {
    checks::rms_norm_backward(dx, dw, dout, x, w);
    fastest!(rms_norm_backward(dx, dw, dout, x, w, eps));
}

/// Rotary embedding in place, half-split as in Hugging Face's Llama: element `j` of a head turns
/// with element `j + head_dim/2`. `x` is `[T, n_heads * head_dim]` and row `t` has position
/// `positions[t]`.
///
/// # Panics
/// If the shapes disagree or a position is outside the table.
pub fn rope(
    x: &mut [f32],
    n_heads: usize,
    head_dim: usize,
    positions: &[u32],
    table: &RopeTable,
    direction: Direction,
) {
    checks::rope(x, n_heads, head_dim, positions, table);
    fastest!(rope(x, n_heads, head_dim, positions, table, direction));
}

/// `out = silu(gate) * up`, with `silu(g) = g / (1 + exp(-g))`.
///
/// # Panics
/// If the lengths disagree.
pub fn swiglu(out: &mut [f32], gate: &[f32], up: &[f32]) {
    checks::same_len("swiglu", &[out.len(), gate.len(), up.len()]);
    crate::swiglu::swiglu(out, gate, up);
}

/// Gradients of [`swiglu`], overwritten: `dup = dout·g·σ(g)`,
/// `dgate = dout·up·σ(g)·(1 + g·(1 − σ(g)))`.
///
/// # Panics
/// If the lengths disagree.
pub fn swiglu_backward(dgate: &mut [f32], dup: &mut [f32], dout: &[f32], gate: &[f32], up: &[f32]) {
    let lengths = [dgate.len(), dup.len(), dout.len(), gate.len(), up.len()];
    checks::same_len("swiglu_backward", &lengths);
    fastest!(swiglu_backward(dgate, dup, dout, gate, up));
}

/// Masked grouped-query attention over a whole sequence.
///
/// `q`, `out`: `[T, n_heads * head_dim]`; `k`, `v`: `[T, n_kv_heads * head_dim]`; `spans`: what
/// each row sees; `lse`: `[n_heads, T]`, the natural log of the sum of exponentials of the scaled
/// scores, which the backward pass needs. `out` and `lse` are overwritten.
///
/// # Panics
/// If the shapes disagree or a span is malformed.
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
    scratch: &mut Scratch,
) {
    checks::attention(out, lse, q, k, v, spans, shape);
    crate::attention::forward(out, lse, q, k, v, spans, shape, scratch);
}

/// Gradients of [`attention`]: `dq`, `dk` and `dv` are overwritten. Probabilities are recomputed
/// from `lse`, so nothing of size `T²` is kept between the passes.
///
/// # Panics
/// If the shapes disagree or a span is malformed.
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
    scratch: &mut Scratch,
) {
    checks::attention(out, lse, q, k, v, spans, shape);
    checks::attention_gradients(dq, dk, dv, dout, spans.len(), shape);
    crate::attention::backward(dq, dk, dv, dout, out, lse, q, k, v, spans, shape, scratch);
}

/// Cross-entropy of `logits` `[N, V]` against `targets` `[N]`; the logits become their gradient,
/// `weights[i] * scale * (softmax - onehot)`. `scale` (such as one over the number of trained
/// tokens) touches the gradient only. A row of weight zero is skipped: its gradient is zero, its
/// target may be anything, and it counts neither in the loss nor in `correct`.
///
/// # Panics
/// If the shapes disagree or a target of non-zero weight is outside the vocabulary.
pub fn cross_entropy(
    logits: &mut [f32],
    targets: &[u32],
    weights: &[f32],
    scale: f32,
) -> CrossEntropy {
    checks::cross_entropy(logits, targets, weights);
    fastest!(cross_entropy(logits, targets, weights, scale))
}

/// Softmax of one row in place.
pub fn softmax(x: &mut [f32]) {
    fastest!(softmax(x));
}

/// One AdamW step with the arithmetic of `torch.optim.AdamW` (decoupled decay, bias correction).
/// `step` counts from 1; gradients are multiplied by `grad_scale` first (clipping, averaging).
///
/// # Panics
/// If the lengths disagree or `step` is 0.
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
    fastest!(adamw(params, m, v, grads, settings, step, grad_scale));
}

/// `dst += src`.
///
/// # Panics
/// If the lengths disagree.
pub fn add(dst: &mut [f32], src: &[f32]) {
    checks::same_len("add", &[dst.len(), src.len()]);
    fastest!(add(dst, src));
}

/// Inner product.
///
/// # Panics
/// If the lengths disagree.
#[must_use]
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    checks::same_len("dot", &[a.len(), b.len()]);
    fastest!(dot(a, b))
}

/// `Σ x²`, summed in f64: the building block of a gradient norm.
#[must_use]
pub fn sum_of_squares(x: &[f32]) -> f64 {
    fastest!(sum_of_squares(x))
}

/// `dst *= factor`.
pub fn scale(dst: &mut [f32], factor: f32) {
    fastest!(scale(dst, factor));
}
