//! The elementwise operations, reductions and matrix-vector products for AVX2 and FMA.
//!
//! Written by hand because compilers do not vectorise such loops behind bounds checks. All memory
//! access goes through [`read`] and [`write`], which cut the last vector to the slice, so the
//! operations themselves are safe code. Each function mirrors its namesake in
//! [`reference`](crate::reference) and expects its shapes to be checked; rows never influence
//! each other.

use std::arch::x86_64::*;

use crate::gemm::avx2::first_lanes;
use crate::reference::AdamWFactors;
use crate::{AdamW, CrossEntropy, Direction, RopeTable};

/// f32 lanes of a vector.
const LANES: usize = 8;

/// Elements `at..at + 8`; those past the end read as zero.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn read(x: &[f32], at: usize) -> __m256 {
    let count = x.len().saturating_sub(at);
    let from = x.as_ptr().wrapping_add(at);
    // SAFETY: a whole vector is loaded only where 8 elements are left in `x`; otherwise the mask
    // keeps the load to the `count` elements that are.
    unsafe {
        if count >= LANES {
            _mm256_loadu_ps(from)
        } else {
            _mm256_maskload_ps(from, first_lanes(count))
        }
    }
}

/// Writes elements `at..at + 8`, dropping those past the end.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn write(x: &mut [f32], at: usize, value: __m256) {
    let count = x.len().saturating_sub(at);
    let to = x.as_mut_ptr().wrapping_add(at);
    // SAFETY: as in `read`, with stores.
    unsafe {
        if count >= LANES {
            _mm256_storeu_ps(to, value);
        } else {
            _mm256_maskstore_ps(to, first_lanes(count), value);
        }
    }
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn splat(x: f32) -> __m256 {
    _mm256_set1_ps(x)
}

/// Sum of the lanes, in a fixed order.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn horizontal_sum(x: __m256) -> f32 {
    let four = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn horizontal_max(x: __m256) -> f32 {
    let four = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
    let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps::<1>(two, two)))
}

/// `exp`, to about two units in the last place (Cephes' `expf`): `x = n ln 2 + r`, a polynomial
/// for `exp(r)`, and `2^n` added to the exponent bits. Below the smallest normal number the
/// result is exactly 0, as masked entries need; above the largest it saturates at about 2e38.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn exp(x: __m256) -> __m256 {
    const LOWEST: f32 = -87.336_54;
    const HIGHEST: f32 = 88.376_26;
    // NaN survives because these return their second operand when one is NaN.
    let clamped = _mm256_max_ps(splat(LOWEST), _mm256_min_ps(splat(HIGHEST), x));
    let n = _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(_mm256_mul_ps(
        clamped,
        splat(std::f32::consts::LOG2_E),
    ));
    // ln 2 in two parts, the first exact in few bits, so that r keeps its precision.
    let r = _mm256_fnmadd_ps(n, splat(0.693_359_4), clamped);
    let r = _mm256_fnmadd_ps(n, splat(-2.121_944_4e-4), r);
    let mut p = splat(1.987_569_1e-4);
    for c in [
        1.398_199_9e-3,
        8.333_452e-3,
        4.166_579_6e-2,
        1.666_666_5e-1,
        0.5,
    ] {
        p = _mm256_fmadd_ps(p, r, splat(c));
    }
    let p = _mm256_fmadd_ps(p, _mm256_mul_ps(r, r), _mm256_add_ps(r, splat(1.0)));
    let exponent = _mm256_slli_epi32::<23>(_mm256_cvtps_epi32(n));
    let y = _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), exponent));
    _mm256_andnot_ps(_mm256_cmp_ps::<_CMP_LT_OQ>(x, splat(LOWEST)), y)
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn sigmoid(x: __m256) -> __m256 {
    let e = exp(_mm256_sub_ps(_mm256_setzero_ps(), x));
    _mm256_div_ps(splat(1.0), _mm256_add_ps(splat(1.0), e))
}

/// `Σ f(at)` over the vectors of a slice of `len`, in four chains so that FMAs overlap.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn sum_vectors(len: usize, f: impl Fn(usize, __m256) -> __m256) -> f32 {
    let mut sums = [_mm256_setzero_ps(); 4];
    let mut at = 0;
    while at + 4 * LANES <= len {
        for (i, sum) in sums.iter_mut().enumerate() {
            *sum = f(at + i * LANES, *sum);
        }
        at += 4 * LANES;
    }
    while at < len {
        sums[0] = f(at, sums[0]);
        at += LANES;
    }
    let [a, b, c, d] = sums;
    horizontal_sum(_mm256_add_ps(_mm256_add_ps(a, b), _mm256_add_ps(c, d)))
}

#[target_feature(enable = "avx2,fma")]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    sum_vectors(a.len(), |at, sum| {
        _mm256_fmadd_ps(read(a, at), read(b, at), sum)
    })
}

#[target_feature(enable = "avx2,fma")]
pub(crate) fn sum_of_squares(x: &[f32]) -> f64 {
    // f32 within a stretch, f64 across stretches: gradients of many millions of elements keep
    // their precision at the speed of memory.
    x.chunks(512)
        .map(|stretch| f64::from(dot(stretch, stretch)))
        .sum()
}

#[target_feature(enable = "avx2,fma")]
pub(crate) fn add(dst: &mut [f32], src: &[f32]) {
    for at in (0..dst.len()).step_by(LANES) {
        let sum = _mm256_add_ps(read(dst, at), read(src, at));
        write(dst, at, sum);
    }
}

#[target_feature(enable = "avx2,fma")]
pub(crate) fn scale(dst: &mut [f32], factor: f32) {
    let factor = splat(factor);
    for at in (0..dst.len()).step_by(LANES) {
        let product = _mm256_mul_ps(read(dst, at), factor);
        write(dst, at, product);
    }
}

#[target_feature(enable = "avx2,fma")]
pub(crate) fn max(x: &[f32]) -> f32 {
    let lowest = splat(f32::NEG_INFINITY);
    let mut best = lowest;
    let whole = x.len() - x.len() % LANES;
    for at in (0..whole).step_by(LANES) {
        best = _mm256_max_ps(best, read(x, at));
    }
    x[whole..]
        .iter()
        .copied()
        .fold(horizontal_max(best), f32::max)
}

/// `x = exp(x * factor - offset)`; returns the sum of the new contents.
#[target_feature(enable = "avx2,fma")]
pub(crate) fn exp_sum(x: &mut [f32], factor: f32, offset: f32) -> f32 {
    let (factor, offset) = (splat(factor), splat(offset));
    let whole = x.len() - x.len() % LANES;
    let mut sum = _mm256_setzero_ps();
    for at in (0..whole).step_by(LANES) {
        let e = exp(_mm256_fmsub_ps(read(x, at), factor, offset));
        sum = _mm256_add_ps(sum, e);
        write(x, at, e);
    }
    if whole < x.len() {
        let e = exp(_mm256_fmsub_ps(read(x, whole), factor, offset));
        let real = _mm256_castsi256_ps(first_lanes(x.len() - whole));
        sum = _mm256_add_ps(sum, _mm256_and_ps(real, e));
        write(x, whole, e);
    }
    horizontal_sum(sum)
}

/// One row of the attention backward: scores become `p = exp(s * scale - lse)`, and `dp` becomes
/// `ds = p * scale * (dp - d)`.
#[target_feature(enable = "avx2,fma")]
pub(crate) fn attention_gradient_row(s: &mut [f32], dp: &mut [f32], scale: f32, lse: f32, d: f32) {
    let (scale, lse, d) = (splat(scale), splat(lse), splat(d));
    for at in (0..s.len()).step_by(LANES) {
        let p = exp(_mm256_fmsub_ps(read(s, at), scale, lse));
        write(s, at, p);
        let ds = _mm256_mul_ps(_mm256_mul_ps(p, scale), _mm256_sub_ps(read(dp, at), d));
        write(dp, at, ds);
    }
}

#[target_feature(enable = "avx2,fma")]
pub(crate) fn softmax(x: &mut [f32]) {
    if !x.is_empty() {
        let max = max(x);
        let sum = exp_sum(x, 1.0, max);
        scale(x, 1.0 / sum);
    }
}

#[target_feature(enable = "avx2,fma")]
pub(crate) fn cross_entropy(
    logits: &mut [f32],
    targets: &[u32],
    weights: &[f32],
    scale_gradient: f32,
) -> CrossEntropy {
    let mut result = CrossEntropy::default();
    let vocabulary = logits.len().checked_div(targets.len()).unwrap_or(1).max(1);
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
        let (logit, max) = (row[target], max(row));
        result.correct += usize::from(logit == max && !row[..target].contains(&max));
        let sum = exp_sum(row, 1.0, max);
        let loss = f64::from(max) - f64::from(logit) + f64::from(sum).ln();
        result.loss_sum += f64::from(weight) * loss;
        // The target's entry is set apart: p - 1 loses nothing when p is close to 1.
        let factor = weight * scale_gradient;
        let at_target = (row[target] / sum - 1.0) * factor;
        scale(row, factor / sum);
        row[target] = at_target;
    }
    result
}

#[target_feature(enable = "avx2,fma")]
pub(crate) fn rms_norm(out: &mut [f32], x: &[f32], w: &[f32], eps: f32) {
    let d = w.len();
    for (out, x) in out.chunks_exact_mut(d).zip(x.chunks_exact(d)) {
        let r = splat(inverse_rms(x, eps));
        for at in (0..d).step_by(LANES) {
            write(
                out,
                at,
                _mm256_mul_ps(_mm256_mul_ps(read(x, at), r), read(w, at)),
            );
        }
    }
}

#[target_feature(enable = "avx2,fma")]
pub(crate) fn rms_norm_backward(
    dx: &mut [f32],
    dw: &mut [f32],
    dout: &[f32],
    x: &[f32],
    w: &[f32],
    eps: f32,
) {
    let d = w.len();
    for ((dx, g), x) in dx
        .chunks_exact_mut(d)
        .zip(dout.chunks_exact(d))
        .zip(x.chunks_exact(d))
    {
        let inverse = inverse_rms(x, eps);
        let inner = sum_vectors(d, |at, sum| {
            _mm256_fmadd_ps(_mm256_mul_ps(read(g, at), read(w, at)), read(x, at), sum)
        });
        let r = splat(inverse);
        let common = splat(inverse * inverse * inverse / d as f32 * inner);
        for at in (0..d).step_by(LANES) {
            let (g, x) = (_mm256_mul_ps(read(g, at), r), read(x, at));
            let direct = _mm256_fmadd_ps(g, read(w, at), read(dx, at));
            write(dx, at, _mm256_fnmadd_ps(x, common, direct));
            let sum = _mm256_fmadd_ps(g, x, read(dw, at));
            write(dw, at, sum);
        }
    }
}

#[target_feature(enable = "avx2,fma")]
fn inverse_rms(x: &[f32], eps: f32) -> f32 {
    1.0 / (dot(x, x) / x.len() as f32 + eps).sqrt()
}

#[target_feature(enable = "avx2,fma")]
pub(crate) fn rope(
    x: &mut [f32],
    n_heads: usize,
    head_dim: usize,
    positions: &[u32],
    table: &RopeTable,
    direction: Direction,
) {
    let sign = splat(match direction {
        Direction::Forward => 1.0,
        Direction::Backward => -1.0,
    });
    for (row, &position) in x.chunks_exact_mut(n_heads * head_dim).zip(positions) {
        let (cos, sin) = table.row(position);
        for head in row.chunks_exact_mut(head_dim) {
            let (low, high) = head.split_at_mut(head_dim / 2);
            for at in (0..low.len()).step_by(LANES) {
                let (a, b) = (read(low, at), read(high, at));
                let (cos, sin) = (read(cos, at), _mm256_mul_ps(read(sin, at), sign));
                write(low, at, _mm256_fmsub_ps(a, cos, _mm256_mul_ps(b, sin)));
                write(high, at, _mm256_fmadd_ps(b, cos, _mm256_mul_ps(a, sin)));
            }
        }
    }
}

#[target_feature(enable = "avx2,fma")]
pub(crate) fn swiglu_backward(
    dgate: &mut [f32],
    dup: &mut [f32],
    dout: &[f32],
    gate: &[f32],
    up: &[f32],
) {
    let one = splat(1.0);
    for at in (0..dout.len()).step_by(LANES) {
        let g = read(gate, at);
        let s = sigmoid(g);
        let through = _mm256_mul_ps(read(dout, at), s);
        write(dup, at, _mm256_mul_ps(through, g));
        let slope = _mm256_fmadd_ps(g, _mm256_sub_ps(one, s), one);
        write(
            dgate,
            at,
            _mm256_mul_ps(_mm256_mul_ps(through, read(up, at)), slope),
        );
    }
}

#[target_feature(enable = "avx2,fma")]
pub(crate) fn adamw(
    params: &mut [f32],
    m: &mut [f32],
    v: &mut [f32],
    grads: &[f32],
    settings: &AdamW,
    step: u32,
    grad_scale: f32,
) {
    let factors = AdamWFactors::new(settings, step);
    let (beta1, beta2) = (splat(settings.beta1), splat(settings.beta2));
    let (rest1, rest2) = (splat(1.0 - settings.beta1), splat(1.0 - settings.beta2));
    let (decay, step_size) = (splat(factors.decay), splat(factors.step_size));
    let (root, eps) = (splat(factors.inverse_root_correction2), splat(settings.eps));
    let grad_scale = splat(grad_scale);
    for at in (0..params.len()).step_by(LANES) {
        let g = _mm256_mul_ps(read(grads, at), grad_scale);
        let mean = _mm256_fmadd_ps(beta1, read(m, at), _mm256_mul_ps(rest1, g));
        let squares = _mm256_mul_ps(_mm256_mul_ps(rest2, g), g);
        let squares = _mm256_fmadd_ps(beta2, read(v, at), squares);
        let denominator = _mm256_fmadd_ps(_mm256_sqrt_ps(squares), root, eps);
        let change = _mm256_div_ps(_mm256_mul_ps(step_size, mean), denominator);
        let new = _mm256_fmsub_ps(read(params, at), decay, change);
        write(m, at, mean);
        write(v, at, squares);
        write(params, at, new);
    }
}
