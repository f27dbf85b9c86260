//! Operations on one row of attention scores, for the processor in use.

#[cfg(target_arch = "x86_64")]
use crate::{Level, avx2, cpu};

/// The largest element.
pub(crate) fn max(x: &[f32]) -> f32 {
    #[cfg(target_arch = "x86_64")]
    if cpu().level >= Level::Avx2 {
        // SAFETY: from this level up the processor has AVX2 and FMA.
        return unsafe { avx2::max(x) };
    }
    x.iter().copied().fold(f32::NEG_INFINITY, f32::max)
}

/// `x = exp(x * factor - offset)`; returns the sum of the new contents.
pub(crate) fn exp_sum(x: &mut [f32], factor: f32, offset: f32) -> f32 {
    #[cfg(target_arch = "x86_64")]
    if cpu().level >= Level::Avx2 {
        // SAFETY: from this level up the processor has AVX2 and FMA.
        return unsafe { avx2::exp_sum(x, factor, offset) };
    }
    let mut sum = 0.0;
    for x in x {
        *x = (*x * factor - offset).exp();
        sum += *x;
    }
    sum
}

/// Scores become probabilities `p = exp(s * scale - lse)`, and their gradients `dp` become those
/// of the scores, `ds = p * scale * (dp - d)`.
pub(crate) fn attention_gradient(s: &mut [f32], dp: &mut [f32], scale: f32, lse: f32, d: f32) {
    #[cfg(target_arch = "x86_64")]
    if cpu().level >= Level::Avx2 {
        // SAFETY: from this level up the processor has AVX2 and FMA.
        return unsafe { avx2::attention_gradient_row(s, dp, scale, lse, d) };
    }
    for (s, dp) in s.iter_mut().zip(dp) {
        *s = (*s * scale - lse).exp();
        *dp = *s * scale * (*dp - d);
    }
}
