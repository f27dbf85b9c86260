//! What a shard holds: recorded programs, or texts.

use std::collections::BTreeMap;
use std::fs::File;

use crate::fingerprint::{Fingerprint, fingerprint};
use crate::record::Record;
use crate::shard::{ShardError, read_shard, write_shard};
use crate::text_shard::{TextRow, read_texts, write_texts};

/// What stands before `.parquet` in the names of shards of texts.
pub(crate) const TEXT: &str = ".text";

/// Rows of one shard.
#[derive(Debug)]
pub(crate) enum Rows {
    Records(Vec<Record>),
    Texts(Vec<TextRow>),
}

impl Rows {
    /// Reads a shard; its name says which kind it is of.
    pub(crate) fn read(name: &str, file: File) -> Result<Self, ShardError> {
        Ok(match is_of_texts(name) {
            true => Self::Texts(read_texts(file)?),
            false => Self::Records(read_shard(file)?),
        })
    }

    /// The bytes of a shard of a source.
    pub(crate) fn shard(&self, source: &str) -> Result<Vec<u8>, ShardError> {
        let mut bytes = Vec::new();
        match self {
            Self::Records(records) => write_shard(records, source, &mut bytes)?,
            Self::Texts(texts) => write_texts(texts, source, &mut bytes)?,
        }
        Ok(bytes)
    }

    /// What stands before `.parquet` in the name of a shard.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Records(_) => "",
            Self::Texts(_) => TEXT,
        }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Records(records) => records.len(),
            Self::Texts(texts) => texts.len(),
        }
    }

    /// Rows by SPDX expression.
    pub(crate) fn licences(&self) -> BTreeMap<String, usize> {
        let licences: Vec<&str> = match self {
            Self::Records(records) => records
                .iter()
                .map(|record| record.origin.licence())
                .collect(),
            Self::Texts(texts) => texts.iter().map(|text| &*text.licence).collect(),
        };
        let mut counts = BTreeMap::new();
        for licence in licences {
            *counts.entry(licence.to_owned()).or_default() += 1;
        }
        counts
    }

    /// Of the programs.
    pub(crate) fn fingerprints(&self) -> impl Iterator<Item = Fingerprint> + '_ {
        let records = match self {
            Self::Records(records) => &records[..],
            Self::Texts(_) => &[],
        };
        records
            .iter()
            .map(|record| fingerprint(&record.trace.source, &record.trace.entry))
    }
}

/// Whether a shard holds texts, by its name.
pub(crate) fn is_of_texts(name: &str) -> bool {
    name.strip_suffix(".parquet")
        .is_some_and(|stem| stem.ends_with(TEXT))
}
