//! The forms in which a trace is written.

use anyhow::{Result, ensure};
use clap::ValueEnum;
use cwm_trace::nd::{Extent, Sampling};
use cwm_trace::{Trace, cwm, jsonl, live, nd, parquet};

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Dialect {
    /// Meta's format, special tokens as their strings
    Cwm,
    /// Numbered lines and changes only
    Live,
    /// States and debugger actions, drawn with --seed; --direction says which way
    Nd,
    /// JSON lines with everything
    Json,
    /// The same as a table of columns; needs --out
    Parquet,
}

/// Which way a walk through a run goes.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Direction {
    /// As the program ran
    Forward,
    /// From the end of the run back to its beginning
    Inverse,
}

/// A dialect with all that it leaves open.
#[derive(Clone, Copy)]
pub(crate) struct Form {
    dialect: Dialect,
    sampling: Sampling,
}

impl Form {
    /// A dialect; those of the options that it does not take must not be given.
    pub(crate) fn new(dialect: Dialect, direction: Option<Direction>, seed: u64) -> Result<Self> {
        ensure!(
            direction.is_none() || dialect == Dialect::Nd,
            "--direction is for the dialect nd: add `--dialect nd`"
        );
        let direction = match direction.unwrap_or(Direction::Forward) {
            Direction::Forward => nd::Direction::Forward,
            Direction::Inverse => nd::Direction::Inverse,
        };
        let sampling = Sampling {
            direction,
            extent: Extent::Run,
            seed,
        };
        Ok(Self { dialect, sampling })
    }

    /// The dialect without them.
    pub(crate) fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// How files in this form are called.
    pub(crate) fn extension(&self) -> &'static str {
        match self.dialect {
            Dialect::Cwm => "txt",
            Dialect::Live => "live",
            Dialect::Nd => "nd",
            Dialect::Json => "json",
            Dialect::Parquet => "parquet",
        }
    }

    /// A trace as a file of its own. Of two traces with different numbers, what is drawn for one tells
    /// nothing of the other.
    pub(crate) fn render(&self, trace: &Trace, number: u64) -> Result<Vec<u8>> {
        Ok(match self.dialect {
            Dialect::Cwm => cwm::render(&cwm::Document::from_trace(trace)).into_bytes(),
            Dialect::Live => live::render(&live::Document::from_trace(trace)).into_bytes(),
            Dialect::Nd => nd::render(&nd::sample(trace, &self.sampling, number)).into_bytes(),
            Dialect::Json => {
                let mut text = Vec::new();
                jsonl::write(trace, &mut text)?;
                text
            }
            Dialect::Parquet => {
                let mut table = Vec::new();
                parquet::write(trace, &mut table)?;
                table
            }
        })
    }
}
