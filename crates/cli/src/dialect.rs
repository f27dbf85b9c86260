//! The forms in which a trace is written.

use anyhow::Result;
use clap::ValueEnum;
use cwm_trace::{Trace, cwm, jsonl, live, parquet};

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Dialect {
    /// Meta's format, special tokens as their strings
    Cwm,
    /// Numbered lines and changes only
    Live,
    /// JSON lines with everything
    Json,
    /// The same as a table of columns; needs --out
    Parquet,
}

impl Dialect {
    /// How files in this form are called.
    pub(crate) fn extension(self) -> &'static str {
        match self {
            Self::Cwm => "txt",
            Self::Live => "live",
            Self::Json => "json",
            Self::Parquet => "parquet",
        }
    }

    /// A trace as a file of its own.
    pub(crate) fn render(self, trace: &Trace) -> Result<Vec<u8>> {
        Ok(match self {
            Self::Cwm => cwm::render(&cwm::Document::from_trace(trace)).into_bytes(),
            Self::Live => live::render(&live::Document::from_trace(trace)).into_bytes(),
            Self::Json => {
                let mut text = Vec::new();
                jsonl::write(trace, &mut text)?;
                text
            }
            Self::Parquet => {
                let mut table = Vec::new();
                parquet::write(trace, &mut table)?;
                table
            }
        })
    }
}
