//! Which steps to skip: those that are no numbers, and those far from what steps were lately.
//!
//! The rule is that of OLMo-core's SkipStepOptimizer: a loss or a gradient norm that lies more than
//! some standard deviations above the mean of the last steps marks a batch that would do harm.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::report::Skip;

/// Steps that the mean is taken over.
const WINDOW: usize = 128;
/// Fewer steps than this say nothing about what is usual.
const ENOUGH: usize = 32;

/// Losses and gradient norms of the last steps.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Spikes {
    /// As bits, which JSON keeps to the last one.
    recent: VecDeque<[u64; 2]>,
}

impl Spikes {
    /// Whether a step must be skipped, and remembers it. `sigma` 0 lets every finite step pass.
    pub(crate) fn judge(&mut self, loss: f64, norm: f64, sigma: f32) -> Option<Skip> {
        if !(loss.is_finite() && norm.is_finite()) {
            return Some(Skip::NonFinite);
        }
        let is_spike = sigma > 0.0
            && self.recent.len() >= ENOUGH
            && [loss, norm].into_iter().enumerate().any(|(of, value)| {
                let (mean, deviation) = self.usual(of);
                value > mean + f64::from(sigma) * deviation
            });
        // Spikes count too: what seems one may be the new normal, and would be skipped for ever.
        self.recent.push_back([loss.to_bits(), norm.to_bits()]);
        if self.recent.len() > WINDOW {
            self.recent.pop_front();
        }
        is_spike.then_some(Skip::Spike)
    }

    /// Mean and standard deviation of the losses (0) or norms (1).
    fn usual(&self, of: usize) -> (f64, f64) {
        let values = || self.recent.iter().map(|step| f64::from_bits(step[of]));
        let n = self.recent.len() as f64;
        let mean = values().sum::<f64>() / n;
        let squares = values().map(|value| (value - mean).powi(2)).sum::<f64>();
        (mean, (squares / (n - 1.0)).sqrt())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_far_above_the_usual_is_skipped() {
        let mut spikes = Spikes::default();
        let usual = |i: u32| 2.0 + 0.1 * f64::from(i % 5);
        assert_eq!(spikes.judge(900.0, 1.0, 6.0), None, "nothing is usual yet");
        for i in 0..200 {
            assert_eq!(spikes.judge(usual(i), usual(i + 1), 6.0), None);
        }
        assert_eq!(spikes.judge(0.1, 0.1, 6.0), None, "lower is no harm");
        assert_eq!(spikes.judge(2.1, 30.0, 6.0), Some(Skip::Spike));
        assert_eq!(spikes.judge(30.0, 2.1, 6.0), Some(Skip::Spike));
        assert_eq!(spikes.judge(30.0, 2.1, 0.0), None, "turned off");
        assert_eq!(spikes.judge(f64::NAN, 2.1, 0.0), Some(Skip::NonFinite));
        let text = serde_json::to_string(&spikes).expect("serialises");
        let back: Spikes = serde_json::from_str(&text).expect("reads back");
        assert_eq!(back, spikes);
        assert_eq!(spikes.recent.len(), WINDOW);
    }
}
