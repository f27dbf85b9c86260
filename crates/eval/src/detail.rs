//! [`Detail`]: where a model is right, and whether it knows.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::Rate;
use crate::score::RunScore;

/// Frames deeper than this are counted together.
const DEEPEST: usize = 5;
/// Bins of probability, of equal width.
const BINS: usize = 10;
/// Runs of at most this many frames count as short.
pub const SHORT: usize = 32;

/// The figures of an evaluation, broken down.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Detail {
    /// Whole frames, given the real ones before, by kind of event.
    pub by_kind: BTreeMap<&'static str, Rate>,
    /// New values (of locals, and handed out), given the real frames before, by type.
    pub by_type: BTreeMap<&'static str, Rate>,
    /// Whole frames, given the real ones before, by activations below; 5 stands for more too.
    pub by_depth: BTreeMap<usize, Rate>,
    /// Whole free runs by the least power of two that is no less than their frames.
    pub by_length: BTreeMap<usize, Rate>,
    /// Whole free runs of at most [`SHORT`] frames.
    pub short_exact: Rate,
    /// Free runs whose first wrong frame is not beyond this power of two.
    pub first_wrong: BTreeMap<usize, u64>,
    /// Frames of the longest free run that is right to its end.
    pub longest_exact: usize,
    /// Predictions that are a frame at all, and not an error, of programs that can be shown to the model.
    pub valid_frames: Rate,
    /// Whether a frame is as often right as its probability says.
    pub calibration: Calibration,
    /// What needs no model.
    pub baselines: Baselines,
}

/// Figures of predictions that need no model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Baselines {
    /// The output is the first argument.
    pub echo_output: Rate,
    /// The frame is the next line of the source, with the locals as they were.
    pub next_line_frame: Rate,
    /// The same, kind and line alone.
    pub next_line_action: Rate,
    /// The locals are as they were, over frames that show those of a running activation.
    pub unchanged_state: Rate,
}

impl Baselines {
    /// The rates by name, in order.
    pub fn rates(&self) -> [(&'static str, Rate); 4] {
        [
            ("echo_output", self.echo_output),
            ("next_line_frame", self.next_line_frame),
            ("next_line_action", self.next_line_action),
            ("unchanged_state", self.unchanged_state),
        ]
    }
}

/// Predicted frames by the probability that the model gave them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Calibration {
    bins: [Bin; BINS],
}

/// Frames whose probability lies in one tenth.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bin {
    /// Those that are right, among all.
    pub rate: Rate,
    /// Sum of their probabilities.
    pub probability: f64,
}

impl Calibration {
    /// Counts a frame.
    pub fn add(&mut self, probability: f32, is_right: bool) {
        let probability = f64::from(probability).clamp(0.0, 1.0);
        let index = ((probability * BINS as f64) as usize).min(BINS - 1);
        self.bins[index].rate.add(is_right);
        self.bins[index].probability += probability;
    }

    /// Tenths from 0 to 1.
    pub fn bins(&self) -> &[Bin] {
        &self.bins
    }

    /// The expected calibration error: the mean over frames of how far the share that is right in a tenth
    /// lies from the mean probability there (Guo et al. 2017); `None` without frames.
    pub fn error(&self) -> Option<f64> {
        let count: u64 = self.bins.iter().map(|bin| bin.rate.count).sum();
        let gap = |bin: &Bin| (bin.rate.hits as f64 - bin.probability).abs();
        (count > 0).then(|| self.bins.iter().map(gap).sum::<f64>() / count as f64)
    }

    fn merge(&mut self, other: &Self) {
        for (bin, more) in self.bins.iter_mut().zip(&other.bins) {
            bin.rate.merge(more.rate);
            bin.probability += more.probability;
        }
    }
}

impl Detail {
    /// Adds one run.
    pub(crate) fn add(&mut self, run: &RunScore) {
        let length = run.frames.len();
        let bucket = |n: usize| n.max(1).next_power_of_two();
        self.by_length
            .entry(bucket(length))
            .or_default()
            .add(run.exact);
        if length <= SHORT {
            self.short_exact.add(run.exact);
        }
        if run.exact {
            self.longest_exact = self.longest_exact.max(length);
        } else {
            *self.first_wrong.entry(bucket(run.right + 1)).or_default() += 1;
        }
        if run.output.is_some() {
            self.baselines.echo_output.add(run.is_echo);
        }
        for frame in &run.frames {
            self.by_kind
                .entry(frame.kind.name())
                .or_default()
                .add(frame.frame);
            let depth = frame.depth.min(DEEPEST);
            self.by_depth.entry(depth).or_default().add(frame.frame);
            for &(kind, is_right) in &frame.values {
                self.by_type.entry(kind).or_default().add(is_right);
            }
            if run.readable {
                self.valid_frames.add(frame.probability.is_some());
            }
            if let Some(probability) = frame.probability {
                self.calibration.add(probability, frame.frame);
            }
            let trivial = frame.trivial;
            self.baselines.next_line_frame.add(trivial.next_line_frame);
            self.baselines
                .next_line_action
                .add(trivial.next_line_action);
            if let Some(state) = trivial.unchanged_state {
                self.baselines.unchanged_state.add(state);
            }
        }
    }

    /// Adds the runs of another.
    pub fn merge(&mut self, other: &Self) {
        fn merge<K: Ord + Copy>(into: &mut BTreeMap<K, Rate>, from: &BTreeMap<K, Rate>) {
            for (key, rate) in from {
                into.entry(*key).or_default().merge(*rate);
            }
        }
        merge(&mut self.by_kind, &other.by_kind);
        merge(&mut self.by_type, &other.by_type);
        merge(&mut self.by_depth, &other.by_depth);
        merge(&mut self.by_length, &other.by_length);
        self.short_exact.merge(other.short_exact);
        for (bucket, count) in &other.first_wrong {
            *self.first_wrong.entry(*bucket).or_default() += count;
        }
        self.longest_exact = self.longest_exact.max(other.longest_exact);
        self.valid_frames.merge(other.valid_frames);
        self.calibration.merge(&other.calibration);
        let (mine, theirs) = (&mut self.baselines, &other.baselines);
        mine.echo_output.merge(theirs.echo_output);
        mine.next_line_frame.merge(theirs.next_line_frame);
        mine.next_line_action.merge(theirs.next_line_action);
        mine.unchanged_state.merge(theirs.unchanged_state);
    }

    /// An object; every rate is `{"value", "count", "wilson95"}`.
    pub fn to_json(&self) -> Value {
        let bins = self
            .calibration
            .bins()
            .iter()
            .enumerate()
            .map(|(index, bin)| {
                let count = bin.rate.count;
                json!({
                    "from": index as f64 / BINS as f64,
                    "frames": count,
                    "right": bin.rate.value(),
                    "probability": (count > 0).then(|| bin.probability / count as f64),
                })
            });
        let first_wrong = self.first_wrong.iter();
        let first_wrong: Vec<_> = first_wrong
            .map(|(at, n)| json!({"to": at, "runs": n}))
            .collect();
        let baselines = self.baselines.rates();
        json!({
            "by_kind": rates(self.by_kind.iter()),
            "by_type": rates(self.by_type.iter()),
            "by_depth": rates(self.by_depth.iter()),
            "by_length": rates(self.by_length.iter()),
            "short_exact": rate(self.short_exact),
            "first_wrong": first_wrong,
            "longest_exact": self.longest_exact,
            "valid_frames": rate(self.valid_frames),
            "calibration_error": self.calibration.error(),
            "calibration": bins.collect::<Vec<_>>(),
            "baselines": rates(baselines.iter().map(|(name, rate)| (name, rate))),
        })
    }
}

fn rates<'a, K: ToString + 'a>(of: impl Iterator<Item = (&'a K, &'a Rate)>) -> Value {
    of.map(|(key, of)| (key.to_string(), rate(*of)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn rate(rate: Rate) -> Value {
    json!({"value": rate.value(), "count": rate.count, "wilson95": rate.wilson()})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calibration_is_the_mean_gap() {
        let mut calibration = Calibration::default();
        assert_eq!(calibration.error(), None);
        // Eight of ten are right at 0.95; both at 0.25 are wrong.
        for index in 0..10 {
            calibration.add(0.95, index < 8);
        }
        calibration.add(0.25, false);
        calibration.add(0.25, false);
        let error = calibration.error().unwrap();
        assert!((error - (1.5 + 0.5) / 12.0).abs() < 1e-6, "{error}");
        // A probability of one has a bin.
        calibration.add(1.0, true);
        assert_eq!(calibration.bins()[9].rate.count, 11);
    }
}
