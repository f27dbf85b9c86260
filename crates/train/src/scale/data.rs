//! The data of a ladder, read once for all of its runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cwm_data::open_records;
use cwm_data::pack::PackedProgram;
use cwm_tokenizer::nano::Vocabulary;
use cwm_trace::live::Document;

use super::Error;
use super::arithmetic::Arithmetic;
use super::ladder::{BuiltIn, Data, Ladder};
use crate::Dataset;
use crate::traces::TraceDataset;

/// What runs are trained and measured on.
pub(crate) struct LadderData {
    pub(crate) train: Box<dyn Dataset>,
    pub(crate) held_out: Box<dyn Dataset>,
    /// What was left out, a line each.
    pub(crate) notes: Vec<String>,
}

/// Reads the data of a ladder.
pub(crate) fn load_data(ladder: &Ladder) -> Result<LadderData, Error> {
    match &ladder.data {
        Data::BuiltIn(BuiltIn::Arithmetic) => Ok(LadderData {
            train: Box::new(Arithmetic::training(ladder.row_tokens)),
            held_out: Box::new(Arithmetic::held_out(ladder.row_tokens)),
            notes: Vec::new(),
        }),
        Data::Records(paths) => {
            let mut notes = Vec::new();
            let train = records(paths, ladder, Numbering::Shifted, &mut notes)?;
            let held_out = records(&ladder.held_out, ladder, Numbering::AsIs, &mut notes)?;
            for (which, data) in [("training", &train), ("held-out", &held_out)] {
                if data.is_empty() {
                    return Err(Error::NoRows { which });
                }
            }
            Ok(LadderData {
                train: Box::new(train),
                held_out: Box::new(held_out),
                notes,
            })
        }
    }
}

/// Where line and symbol numbers of a row begin.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Numbering {
    AsIs,
    Shifted,
}

fn records(
    paths: &[PathBuf],
    ladder: &Ladder,
    numbering: Numbering,
    notes: &mut Vec<String>,
) -> Result<TraceDataset, Error> {
    let vocabulary = Arc::new(Vocabulary::default());
    let mut programs = Vec::new();
    let mut refused = 0;
    let mut fingerprint = String::new();
    for path in paths {
        let mut count = 0;
        for record in open_records(path)? {
            let record = record?;
            count += 1;
            let document = Document::from_trace(&record.trace);
            match PackedProgram::new(&document, &record.workings, &vocabulary) {
                Ok(program) => programs.push(program),
                Err(_) => refused += 1,
            }
        }
        fingerprint.push_str(&format!("{}:{count};", name(path)));
    }
    if refused > 0 {
        notes.push(format!(
            "{refused} programs do not fit the vocabulary and were left out"
        ));
    }
    let (row_tokens, per_program) = (ladder.row_tokens, ladder.rows_per_program);
    fingerprint.push_str(&format!("{row_tokens}x{per_program}"));
    Ok(TraceDataset::new(
        programs,
        vocabulary,
        row_tokens,
        per_program,
        fingerprint,
        numbering == Numbering::Shifted,
    ))
}

fn name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}
