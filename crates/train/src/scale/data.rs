//! The data of a ladder, read once for all of its runs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::Error;
use super::arithmetic::Arithmetic;
use super::ladder::{BuiltIn, Data, Ladder};
use crate::sources::windows::Ask;
use crate::sources::{Content, Groups, Source, read};
use crate::{Dataset, Mixture, Tokenizer};

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
            let (mut notes, mut groups) = (Vec::new(), BTreeSet::new());
            let held_out = Groups::Note(&mut groups);
            let held_out = records("held-out", &ladder.held_out, ladder, held_out, &mut notes)?;
            let train = records(
                "training",
                paths,
                ladder,
                Groups::Avoid(&groups),
                &mut notes,
            )?;
            Ok(LadderData {
                train: Box::new(train),
                held_out: Box::new(held_out),
                notes,
            })
        }
    }
}

fn records(
    name: &str,
    paths: &[PathBuf],
    ladder: &Ladder,
    groups: Groups<'_>,
    notes: &mut Vec<String>,
) -> Result<Mixture, Error> {
    let source = Source {
        name: name.to_owned(),
        paths: paths.to_vec(),
        content: Content::Windows {
            ask: Ask::Frames,
            rows_per_program: ladder.rows_per_program,
            weights: BTreeMap::new(),
        },
    };
    let packed = read(
        &source,
        &Tokenizer::nano(),
        ladder.row_tokens,
        groups,
        &mut |_| {},
    )?;
    let dropped = packed.stats().dropped.iter();
    notes.extend(dropped.map(|(reason, count)| format!("{name} data: {count} left out, {reason}")));
    Ok(Mixture::new(
        vec![(name.to_owned(), 1.0, packed)],
        ladder.row_tokens,
    ))
}
