//! [`Census`]: what a set of records holds, in numbers.

use std::collections::{BTreeMap, HashSet};

use cwm_trace::statistics::{self, Statistics};
use cwm_trace::{End, EventKind, type_of};
use serde::Serialize;

use crate::generate::Coverage;
use crate::record::{ArgumentsFrom, Origin, Record};

/// Counts over records; add them one by one.
#[derive(Clone, Debug, Default)]
pub struct Census {
    runs: Statistics,
    groups: HashSet<String>,
    programs: HashSet<u64>,
    sources: BTreeMap<String, Share>,
    licences: BTreeMap<String, usize>,
    arguments: BTreeMap<&'static str, usize>,
    mutants: usize,
    results: BTreeMap<&'static str, usize>,
    values: BTreeMap<&'static str, usize>,
    exceptions: BTreeMap<String, usize>,
    events: Histogram,
    lines: Histogram,
    value_chars: Histogram,
    coverage: Coverage,
}

/// What [`Census`] has come to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CensusReport {
    /// Records.
    pub records: usize,
    /// Groups that belong on one side of a split: generated programs, functions of people.
    pub groups: usize,
    /// Different texts of programs.
    pub programs: usize,
    /// Of the runs.
    pub runs: statistics::Report,
    /// By the level of generated programs, or by package and version.
    pub sources: BTreeMap<String, Share>,
    /// Records by SPDX expression.
    pub licences: BTreeMap<String, usize>,
    /// Records of people's functions by where their arguments come from.
    pub arguments: BTreeMap<&'static str, usize>,
    /// Records of mutants.
    pub mutants: usize,
    /// Runs by the type of what they give.
    pub results: BTreeMap<&'static str, usize>,
    /// Values that lines bind or change, by type.
    pub values: BTreeMap<&'static str, usize>,
    /// Runs that end with an exception, by its type.
    pub exceptions: BTreeMap<String, usize>,
    /// Events of a run.
    pub events: Histogram,
    /// Lines of a program.
    pub lines: Histogram,
    /// Characters of a value that a line binds or changes.
    pub value_chars: Histogram,
    /// What the programs exercise; each text once.
    pub coverage: Coverage,
}

/// The part of a source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Share {
    /// Records.
    pub records: usize,
    /// Events in them.
    pub events: usize,
}

/// How often numbers fall between powers of two.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Histogram(Vec<usize>);

impl Histogram {
    fn add(&mut self, number: usize) {
        let bin = (usize::BITS - number.leading_zeros()) as usize;
        if self.0.len() <= bin {
            self.0.resize(bin + 1, 0);
        }
        self.0[bin] += 1;
    }

    /// Bounds, both of them included, and counts: 0, 1, 2 to 3, 4 to 7, and so on up to the largest number.
    pub fn bins(&self) -> impl Iterator<Item = ((usize, usize), usize)> + '_ {
        let bounds = |bin: usize| match bin {
            0 => (0, 0),
            _ => (1 << (bin - 1), (1 << bin) - 1),
        };
        self.0
            .iter()
            .enumerate()
            .map(move |(bin, &count)| (bounds(bin), count))
    }
}

impl Census {
    /// Counts one more record.
    pub fn add(&mut self, record: &Record) {
        let trace = &record.trace;
        self.runs.add(trace);
        self.groups.insert(record.group().to_owned());
        let is_new = self.programs.insert(hash(&trace.source));
        if is_new {
            self.lines.add(trace.source.lines().count());
            self.coverage.add(&trace.source, &trace.entry);
        }
        let source = match &record.origin {
            Origin::Generated { level: 0, .. } => "generated, drills".to_owned(),
            Origin::Generated { level, .. } => format!("generated, level {level}"),
            Origin::Harvested(from) => format!("{} {}", from.package, from.version),
        };
        let share = self.sources.entry(source).or_default();
        share.records += 1;
        share.events += trace.events.len();
        *self
            .licences
            .entry(record.origin.licence().to_owned())
            .or_default() += 1;
        if let Origin::Harvested(from) = &record.origin {
            let name = match from.arguments {
                ArgumentsFrom::Written => "written by people",
                ArgumentsFrom::Drawn => "drawn by kind",
                ArgumentsFrom::Mutated => "changed in a place",
            };
            *self.arguments.entry(name).or_default() += 1;
            self.mutants += usize::from(from.mutation.is_some());
        }
        self.events.add(trace.events.len());
        self.add_values(record);
    }

    fn add_values(&mut self, record: &Record) {
        let trace = &record.trace;
        for event in trace
            .events
            .iter()
            .filter(|event| event.kind == EventKind::Line)
        {
            for local in &event.locals {
                let text = local.value.detailed();
                *self.values.entry(type_of(text)).or_default() += 1;
                self.value_chars.add(text.chars().count());
            }
        }
        match &trace.end {
            End::Raised(what) => {
                let name = what.split('(').next().unwrap_or_default();
                *self.exceptions.entry(name.to_owned()).or_default() += 1;
            }
            End::Finished => {
                let value = trace.events.last().and_then(|event| event.value.as_ref());
                let kind = value.map_or("none", |value| type_of(value.detailed()));
                *self.results.entry(kind).or_default() += 1;
            }
            _ => {}
        }
    }

    /// The counts.
    pub fn report(&self) -> CensusReport {
        let runs = self.runs.report();
        CensusReport {
            records: runs.traces as usize,
            groups: self.groups.len(),
            programs: self.programs.len(),
            runs,
            sources: self.sources.clone(),
            licences: self.licences.clone(),
            arguments: self.arguments.clone(),
            mutants: self.mutants,
            results: self.results.clone(),
            values: self.values.clone(),
            exceptions: self.exceptions.clone(),
            events: self.events.clone(),
            lines: self.lines.clone(),
            value_chars: self.value_chars.clone(),
            coverage: self.coverage.clone(),
        }
    }
}

fn hash(text: &str) -> u64 {
    use std::hash::{DefaultHasher, Hasher};
    let mut hasher = DefaultHasher::new();
    hasher.write(text.as_bytes());
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_hold_what_lies_between_their_bounds() {
        let mut histogram = Histogram::default();
        for number in [0, 1, 1, 2, 3, 4, 7, 8, 100] {
            histogram.add(number);
        }
        let bins: Vec<_> = histogram.bins().collect();
        assert_eq!(
            bins[..5],
            [
                ((0, 0), 1),
                ((1, 1), 2),
                ((2, 3), 2),
                ((4, 7), 2),
                ((8, 15), 1)
            ]
        );
        assert_eq!(bins.iter().map(|(_, count)| count).sum::<usize>(), 9);
        assert_eq!(bins.last(), Some(&((64, 127), 1)));
    }
}
