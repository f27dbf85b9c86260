//! [`Record`]: a program, where it comes from, and what it did; one JSON object a line.

use std::io::{self, BufRead, Write};

use cwm_trace::live::Workings;
use cwm_trace::{Trace, json};
use serde::{Deserialize, Serialize};

/// A program with its real run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Name, unique within what one recipe makes.
    pub id: String,
    /// Where the program comes from.
    pub origin: Origin,
    /// Its run; holds the source and the entry too.
    pub trace: Trace,
    /// The working of its frames, by the index of the event in the `live`
    /// document of the run.
    #[serde(default, skip_serializing_if = "Workings::is_empty")]
    pub workings: Workings,
}

/// Where a program comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Origin {
    /// From our own generator.
    Generated {
        /// Seed of the generator.
        seed: u64,
        /// Index of the program under that seed.
        index: u64,
        /// Difficulty, 1 to 6, or 0 for drills.
        level: u8,
    },
    /// From people.
    Harvested(Harvested),
}

/// Where a function that people wrote comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Harvested {
    /// The package, or the file of problems.
    pub package: String,
    /// Its version.
    pub version: String,
    /// SPDX expression for the text.
    pub licence: String,
    /// The file in the package.
    pub file: String,
    /// The function's line there.
    pub line: u32,
    /// Where the arguments come from.
    pub arguments: ArgumentsFrom,
    /// What was changed in the text, if it is that of a mutant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mutation: Option<String>,
}

/// Where the arguments of a call come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ArgumentsFrom {
    /// A docstring or a test calls the function so.
    Written,
    /// Drawn by the kinds of the parameters.
    Drawn,
    /// Others that work, with a place changed.
    Mutated,
}

impl Origin {
    /// SPDX expression for the program's text.
    pub fn licence(&self) -> &str {
        match self {
            // Nobody else's text is in it.
            Self::Generated { .. } => "MIT OR Apache-2.0",
            Self::Harvested(harvested) => &harvested.licence,
        }
    }

    /// Difficulty of a generated program.
    pub fn level(&self) -> Option<u8> {
        match self {
            Self::Generated { level, .. } => Some(*level),
            Self::Harvested(_) => None,
        }
    }
}

impl Record {
    /// What its program shares with other runs of it: records of one group belong on one side of a split
    /// into training and evaluation.
    pub fn group(&self) -> &str {
        match self.origin {
            Origin::Generated { .. } => &self.id,
            Origin::Harvested(_) => {
                let group = self
                    .id
                    .rsplit_once('/')
                    .map_or(&*self.id, |(group, _)| group);
                // Mutants belong to their functions.
                group.split_once('~').map_or(group, |(group, _)| group)
            }
        }
    }
}

/// Writes the record as one line.
///
/// # Errors
/// Those of the writer.
pub fn write_record(out: &mut impl Write, record: &Record) -> io::Result<()> {
    let mut line = record_json(record)?;
    line.push(b'\n');
    out.write_all(&line)
}

/// The record as the JSON object that its `Serialize` makes, several times as fast ([`cwm_trace::json`]).
pub(crate) fn record_json(record: &Record) -> serde_json::Result<Vec<u8>> {
    let Record {
        id,
        origin,
        trace,
        workings,
    } = record;
    // About what an event takes; more costs a copy, less nothing.
    let mut out = Vec::with_capacity(1000 + 2 * trace.source.len() + 260 * trace.events.len());
    out.push(b'{');
    json::write_field("id", id, &mut out)?;
    json::write_field("origin", origin, &mut out)?;
    json::begin_field("trace", &mut out);
    json::write_trace(trace, &mut out)?;
    if !workings.is_empty() {
        json::write_field("workings", workings, &mut out)?;
    }
    out.push(b'}');
    Ok(out)
}

/// Why a line gives no record.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The file cannot be read.
    #[error("line {line} cannot be read: {source}")]
    Io {
        /// 1-based line.
        line: usize,
        /// The cause.
        source: io::Error,
    },
    /// The line is something else.
    #[error("line {line} is not a recorded program: {source}")]
    Format {
        /// 1-based line.
        line: usize,
        /// The cause.
        source: serde_json::Error,
    },
}

/// Reads records one by one; blank lines are skipped.
pub fn read_records(input: impl BufRead) -> impl Iterator<Item = Result<Record, RecordError>> {
    input.lines().enumerate().filter_map(|(index, text)| {
        let line = index + 1;
        match text {
            Err(source) => Some(Err(RecordError::Io { line, source })),
            Ok(text) if text.trim().is_empty() => None,
            Ok(text) => Some(
                serde_json::from_str(&text).map_err(|source| RecordError::Format { line, source }),
            ),
        }
    })
}
