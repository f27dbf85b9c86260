//! [`Record`]: a program and what it did, one JSON object a line.

use std::io::{self, BufRead, Write};

use cwm_trace::Trace;
use cwm_trace::live::Workings;
use serde::{Deserialize, Serialize};

/// A generated program with its real run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Name, unique within a seed.
    pub id: String,
    /// Seed of the generator.
    pub seed: u64,
    /// Index of the program under that seed.
    pub index: u64,
    /// Difficulty, 1 to 5, or 0 for drills.
    pub level: u8,
    /// Its run; holds the source and the entry too.
    pub trace: Trace,
    /// The working of its frames, by the index of the event in the `live`
    /// document of the run.
    #[serde(default, skip_serializing_if = "Workings::is_empty")]
    pub workings: Workings,
}

/// Writes the record as one line.
///
/// # Errors
/// Those of the writer.
pub fn write_record(out: &mut impl Write, record: &Record) -> io::Result<()> {
    serde_json::to_writer(&mut *out, record)?;
    out.write_all(b"\n")
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
