//! The greedy choice, and log-probabilities.

use super::Mask;
use crate::error::{Error, Result};

/// A chosen token and how sure the model was of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choice {
    /// The token.
    pub id: u32,
    /// Natural log of its probability among the *allowed* tokens (temperature 1, renormalised).
    /// Zero when forced. [`logprob`] is that over the *whole* vocabulary: low where the mask had to
    /// overrule the model.
    pub logprob: f64,
}

/// The allowed token with the highest logit.
///
/// # Errors
/// [`Error::NothingAllowed`] when the mask is empty, or every allowed logit is minus infinity;
/// [`Error::BadLogit`] when any logit is NaN or plus infinity.
pub fn greedy(logits: &[f32], mask: Mask<'_>) -> Result<Choice> {
    let id = best(logits, mask)?;
    Ok(choice(logits, mask, id))
}

/// The id of [`greedy`].
pub(super) fn best(logits: &[f32], mask: Mask<'_>) -> Result<u32> {
    check_logits(logits)?;
    let mut best: Option<(u32, f32)> = None;
    for id in mask.iter(logits.len()) {
        let logit = logits[id as usize];
        if logit > best.map_or(f32::NEG_INFINITY, |(_, top)| top) {
            best = Some((id, logit));
        }
    }
    let (id, _) = best.ok_or(Error::NothingAllowed {
        vocab_size: logits.len(),
    })?;
    Ok(id)
}

/// Describes the choice of `id`, an allowed id with a finite logit.
pub(super) fn choice(logits: &[f32], mask: Mask<'_>, id: u32) -> Choice {
    let logit = f64::from(logits[id as usize]);
    let allowed = mask.iter(logits.len()).map(|id| logits[id as usize]);
    Choice {
        id,
        logprob: (logit - log_sum_exp_of(allowed)).min(0.0),
    }
}

/// `ln(sum(exp(logits)))`, computed in f64 without overflow.
///
/// # Errors
/// [`Error::BadLogit`] for NaN or plus infinity.
pub fn log_sum_exp(logits: &[f32]) -> Result<f64> {
    check_logits(logits)?;
    Ok(log_sum_exp_of(logits.iter().copied()))
}

/// Refuses logits that are NaN or plus infinity.
pub(super) fn check_logits(logits: &[f32]) -> Result<()> {
    let bad = |value: &f32| value.is_nan() || *value == f32::INFINITY;
    match logits.iter().position(bad) {
        None => Ok(()),
        Some(index) => Err(Error::BadLogit {
            id: index as u32,
            value: logits[index],
        }),
    }
}

/// [`log_sum_exp`] of values already known to be neither NaN nor plus infinity.
fn log_sum_exp_of(values: impl Iterator<Item = f32> + Clone) -> f64 {
    let max = f64::from(values.clone().fold(f32::NEG_INFINITY, f32::max));
    if max == f64::NEG_INFINITY {
        return max;
    }
    max + values
        .map(|value| (f64::from(value) - max).exp())
        .sum::<f64>()
        .ln()
}

/// Natural log-probability of `id` under the softmax of `logits`.
///
/// # Errors
/// [`Error::UnknownToken`] when `id` has no logit, [`Error::BadLogit`] as in [`log_sum_exp`].
pub fn logprob(logits: &[f32], id: u32) -> Result<f64> {
    let logit = logits.get(id as usize).ok_or(Error::UnknownToken {
        id,
        index: 0,
        vocab_size: logits.len(),
    })?;
    Ok(f64::from(*logit) - log_sum_exp(logits)?)
}

/// Turns logits into natural log-probabilities in place.
///
/// # Errors
/// [`Error::BadLogit`] as in [`log_sum_exp`]; the slice is then unchanged.
pub fn log_softmax(logits: &mut [f32]) -> Result<()> {
    let whole = log_sum_exp(logits)?;
    if whole == f64::NEG_INFINITY {
        return Err(Error::NothingAllowed {
            vocab_size: logits.len(),
        });
    }
    for logit in logits {
        *logit = (f64::from(*logit) - whole) as f32;
    }
    Ok(())
}

/// A token and its natural log-probability over the whole vocabulary, at temperature 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenLogprob {
    /// The token.
    pub id: u32,
    /// At most 0.
    pub logprob: f64,
}

/// The `n` likeliest tokens, likeliest first, equally likely ones by rising id; fewer where fewer
/// are possible at all.
///
/// # Errors
/// [`Error::BadLogit`] as in [`log_sum_exp`].
pub fn top_logprobs(logits: &[f32], n: usize) -> Result<Vec<TokenLogprob>> {
    let whole = log_sum_exp(logits)?;
    let mut top: Vec<(u32, f32)> = Vec::with_capacity(n.min(logits.len()) + 1);
    for (id, &logit) in logits.iter().enumerate() {
        let floor = match top.last() {
            Some(&(_, least)) if top.len() >= n => least,
            _ => f32::NEG_INFINITY,
        };
        if n > 0 && logit > floor {
            let place = top.partition_point(|&(_, better)| better >= logit);
            top.insert(place, (id as u32, logit));
            top.truncate(n);
        }
    }
    let score = |(id, logit): (u32, f32)| TokenLogprob {
        id,
        logprob: (f64::from(logit) - whole).min(0.0),
    };
    Ok(top.into_iter().map(score).collect())
}
