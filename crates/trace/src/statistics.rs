//! What a collection of traces holds, in numbers.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{End, EventKind, Trace};

/// Counts over traces; add them one by one.
#[derive(Clone, Debug, Default)]
pub struct Statistics {
    events: Sample,
    depth: Sample,
    value_bytes: Sample,
    locals: Sample,
    kinds: BTreeMap<&'static str, u64>,
    ends: BTreeMap<&'static str, u64>,
    pythons: BTreeMap<String, u64>,
    truncated_values: u64,
    functions: u64,
}

/// What [`Statistics`] have come to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Number of traces.
    pub traces: u64,
    /// Number of events.
    pub events: u64,
    /// Events by kind.
    pub kinds: BTreeMap<&'static str, u64>,
    /// Traces by the way they ended.
    pub ends: BTreeMap<&'static str, u64>,
    /// Traces by the interpreter's version.
    pub pythons: BTreeMap<String, u64>,
    /// Code objects that ran, summed over traces.
    pub functions: u64,
    /// Values that were cut when recording.
    pub truncated_values: u64,
    /// Events of a trace.
    pub events_per_trace: Summary,
    /// Deepest stack of a trace.
    pub depth_per_trace: Summary,
    /// Variables of a line event.
    pub locals_per_line: Summary,
    /// Bytes of a variable's text, at line events.
    pub value_bytes: Summary,
}

/// Five figures of a distribution; all 0 for an empty one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// Smallest.
    pub min: u64,
    /// Half are at most this.
    pub median: u64,
    /// Arithmetic mean.
    pub mean: f64,
    /// Nine of ten are at most this.
    pub p90: u64,
    /// Largest.
    pub max: u64,
}

impl Statistics {
    /// Counts one more trace.
    pub fn add(&mut self, trace: &Trace) {
        self.events.add(trace.events.len());
        *self.ends.entry(end_name(&trace.end)).or_default() += 1;
        *self.pythons.entry(trace.python.clone()).or_default() += 1;
        self.functions += trace.functions.len() as u64;
        let (mut depth, mut deepest) = (0_usize, 0);
        for event in &trace.events {
            *self.kinds.entry(event.kind.name()).or_default() += 1;
            if event.kind.enters() {
                depth += 1;
                deepest = deepest.max(depth);
            } else if event.kind.leaves() {
                depth = depth.saturating_sub(1);
            }
            let values = event.locals.iter().map(|l| &l.value).chain(&event.value);
            self.truncated_values += values.filter(|v| v.truncated).count() as u64;
            if event.kind == EventKind::Line {
                self.locals.add(event.locals.len());
                for local in &event.locals {
                    self.value_bytes.add(local.value.repr.len());
                }
            }
        }
        self.depth.add(deepest);
    }

    /// The figures so far.
    pub fn report(&self) -> Report {
        Report {
            traces: self.events.len(),
            events: self.events.sum(),
            kinds: self.kinds.clone(),
            ends: self.ends.clone(),
            pythons: self.pythons.clone(),
            functions: self.functions,
            truncated_values: self.truncated_values,
            events_per_trace: self.events.summary(),
            depth_per_trace: self.depth.summary(),
            locals_per_line: self.locals.summary(),
            value_bytes: self.value_bytes.summary(),
        }
    }
}

/// A sample of whole numbers, kept as counts by value: exact, and small even
/// for millions of traces, since lengths repeat.
#[derive(Clone, Debug, Default)]
struct Sample(BTreeMap<u64, u64>);

impl Sample {
    fn add(&mut self, value: usize) {
        *self.0.entry(value as u64).or_default() += 1;
    }

    fn len(&self) -> u64 {
        self.0.values().sum()
    }

    fn sum(&self) -> u64 {
        self.0.iter().map(|(value, n)| value * n).sum()
    }

    /// The smallest value that at least `share` of the sample do not exceed.
    fn quantile(&self, share: f64) -> u64 {
        let wanted = (self.len() as f64 * share).ceil() as u64;
        let mut seen = 0;
        let reached = self.0.iter().find(|&(_, n)| {
            seen += n;
            seen >= wanted
        });
        reached.map_or(0, |(&value, _)| value)
    }

    fn summary(&self) -> Summary {
        let (Some((&min, _)), Some((&max, _))) =
            (self.0.first_key_value(), self.0.last_key_value())
        else {
            return Summary::default();
        };
        Summary {
            min,
            median: self.quantile(0.5),
            mean: self.sum() as f64 / self.len() as f64,
            p90: self.quantile(0.9),
            max,
        }
    }
}

fn end_name(end: &End) -> &'static str {
    match end {
        End::Finished => "finished",
        End::Raised(_) => "raised",
        End::Exited(_) => "exited",
        End::MaxEvents(_) => "max_events",
        End::Timeout(_) => "timeout",
        End::OutOfMemory => "out_of_memory",
        End::Crashed(_) => "crashed",
    }
}
