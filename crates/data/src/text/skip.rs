//! Why material is not used, and what was made of the rest.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::Document;

/// Why something gives no document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Skip {
    /// It is binary, not UTF-8, a link or another repository.
    NotText,
    /// It is larger than the limits allow.
    TooLarge,
    /// There is nothing in it of this kind.
    Empty,
    /// There is no state before it.
    NoBase,
    /// Nothing says what it is about.
    NoDescription,
    /// A path has characters that formats would have to escape.
    OddPath,
    /// A part of it is not in this copy.
    Missing,
    /// It holds something private whose removal would break it.
    Private,
    /// It is not in the language that it should be in.
    WrongLanguage,
    /// The compiler refuses it.
    DoesNotCompile,
    /// The compiler took too long.
    TimedOut,
    /// Compiling it would read files beside it.
    ReadsFiles,
    /// The tool for it is not installed.
    NoTool,
    /// It does not come to its end: a run that was stopped, a proof with a gap.
    Unfinished,
    /// Values were cut when they were recorded.
    CutValues,
    /// It spreads over several files or threads.
    SeveralFiles,
    /// Cut out of its surroundings, it would not be the same.
    NotFaithful,
    /// It does not follow its format.
    Malformed,
    /// A benchmark has it too.
    Benchmark,
    /// The same is there already.
    Repeated,
}

impl fmt::Display for Skip {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::NotText => "not text",
            Self::TooLarge => "too large",
            Self::Empty => "nothing of this kind in it",
            Self::NoBase => "no state before it",
            Self::NoDescription => "no description",
            Self::OddPath => "odd characters in a path",
            Self::Missing => "parts missing",
            Self::Private => "private",
            Self::WrongLanguage => "another language",
            Self::DoesNotCompile => "does not compile",
            Self::TimedOut => "took too long",
            Self::ReadsFiles => "reads other files",
            Self::NoTool => "no tool for it",
            Self::Unfinished => "not finished",
            Self::CutValues => "values cut",
            Self::SeveralFiles => "several files or threads",
            Self::NotFaithful => "not the same when cut out",
            Self::Malformed => "malformed",
            Self::Benchmark => "in a benchmark",
            Self::Repeated => "repeated",
        })
    }
}

/// How often each reason held.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Skips(BTreeMap<Skip, usize>);

impl Skips {
    /// Counts one more.
    pub fn count(&mut self, reason: Skip) {
        *self.0.entry(reason).or_default() += 1;
    }

    /// Counts those of another unit as well.
    pub fn add(&mut self, other: &Self) {
        for (&reason, count) in &other.0 {
            *self.0.entry(reason).or_default() += count;
        }
    }

    /// How often a reason held.
    pub fn of(&self, reason: Skip) -> usize {
        self.0.get(&reason).copied().unwrap_or_default()
    }

    /// All of them together.
    pub fn total(&self) -> usize {
        self.0.values().sum()
    }

    /// Reasons with their counts, in a fixed order.
    pub fn iter(&self) -> impl Iterator<Item = (Skip, usize)> {
        self.0.iter().map(|(&reason, &count)| (reason, count))
    }
}

/// What a unit gave.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Harvest {
    /// In the order of the material.
    pub documents: Vec<Document>,
    /// What was left out.
    pub skipped: Skips,
}

impl Harvest {
    /// Takes up what one part of the unit gave.
    pub fn take(&mut self, result: Result<Document, Skip>) {
        match result {
            Ok(document) => self.documents.push(document),
            Err(reason) => self.skipped.count(reason),
        }
    }

    /// A unit that gave nothing at all.
    pub fn nothing(reason: Skip) -> Self {
        let mut harvest = Self::default();
        harvest.skipped.count(reason);
        harvest
    }
}
