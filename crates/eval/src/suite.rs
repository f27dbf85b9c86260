//! `cwm eval suite`: one model on many sets of runs, with every figure broken down.

use std::path::PathBuf;
use std::sync::Arc;

use cwm_engine::{BackendError, Engine};
use cwm_tokenizer::nano::Vocabulary;
use cwm_trace::Trace;
use cwm_trace::live::Document;
use serde_json::{Value, json};

use crate::jumps::Jumps;
use crate::traces::score_document;
use crate::{Detail, Report, parallel};

/// Runs that belong together.
#[derive(Clone, Debug, Default)]
pub struct Set {
    /// Its name.
    pub name: String,
    /// Where it comes from, for the page.
    pub about: String,
    /// The real runs.
    pub runs: Vec<Trace>,
    /// Runs that were left out, by reason.
    pub left_out: Vec<(String, usize)>,
}

/// What was measured on a set.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Name of the set.
    pub name: String,
    /// Where it comes from.
    pub about: String,
    /// Runs that were left out, by reason.
    pub left_out: Vec<(String, usize)>,
    /// The figures.
    pub report: Report,
    /// The same, broken down.
    pub detail: Detail,
    /// Where actions lead; nothing for a model that was not trained to jump.
    pub jumps: Jumps,
}

/// Everything that was measured of a model.
#[derive(Clone, Debug)]
pub struct Suite {
    /// The model's folder.
    pub model: PathBuf,
    /// The sets, in order.
    pub sets: Vec<Measured>,
}

/// Evaluates a model on a set. `done` is told how many of its runs are done.
///
/// # Errors
/// When the engine's back end fails; an engine on this processor has none.
pub fn evaluate(
    engine: &Arc<Engine>,
    vocabulary: &Arc<Vocabulary>,
    set: &Set,
    threads: usize,
    done: impl Fn(usize) + Sync,
) -> Result<Measured, BackendError> {
    let one = |index: usize| {
        let document = Document::from_trace(&set.runs[index]);
        let run = score_document(engine, vocabulary, &document)?;
        let jumps = match vocabulary.has_jumps() {
            true => Jumps::ask(engine, vocabulary, &document)?,
            false => Jumps::default(),
        };
        Ok((run, jumps))
    };
    let (mut report, mut detail) = (Report::default(), Detail::default());
    let mut jumps = Jumps::default();
    for result in parallel::map(set.runs.len(), threads, one, done) {
        let (run, asked) = result?;
        report.add(&run);
        detail.add(&run);
        jumps.merge(asked);
    }
    Ok(Measured {
        name: set.name.clone(),
        about: set.about.clone(),
        left_out: set.left_out.clone(),
        report,
        detail,
        jumps,
    })
}

impl Suite {
    /// One object: `model` and `sets`, each with the figures of [`Report::to_json`], `detail`,
    /// and `jumps` of a model that was trained to jump.
    pub fn to_json(&self) -> Value {
        let sets = self.sets.iter().map(|set| {
            let mut out = set.report.to_json();
            let left_out = set.left_out.iter();
            out["name"] = json!(set.name);
            out["about"] = json!(set.about);
            out["left_out"] = left_out
                .map(|(why, n)| (why.clone(), json!(n)))
                .collect::<serde_json::Map<_, _>>()
                .into();
            out["detail"] = set.detail.to_json();
            if !set.jumps.by_action.is_empty() {
                out["jumps"] = set.jumps.to_json();
            }
            out
        });
        json!({
            "model": self.model.display().to_string(),
            "sets": sets.collect::<Vec<_>>(),
        })
    }
}
