//! `cwm eval traces`: recorded runs.

use std::sync::Arc;

use cwm_engine::live::Predictor;
use cwm_engine::{BackendError, Engine};
use cwm_tokenizer::nano::Vocabulary;
use cwm_trace::Trace;
use cwm_trace::live::Document;

use crate::Report;
use crate::parallel;
use crate::score::{RunScore, answer, score};

/// Evaluates a model on recorded runs, as many at a time as there are threads; where a back end computes
/// for the engine, those go through it together. `done` is told how many are done.
///
/// # Errors
/// When the engine's back end fails; an engine on this processor has none.
pub fn evaluate(
    engine: &Arc<Engine>,
    vocabulary: &Arc<Vocabulary>,
    traces: &[Trace],
    threads: usize,
    done: impl Fn(usize) + Sync,
) -> Result<Report, BackendError> {
    let one = |index: usize| {
        let document = Document::from_trace(&traces[index]);
        evaluate_document(engine, vocabulary, &document)
    };
    let mut total = Report::default();
    for report in parallel::map(traces.len(), threads, one, done) {
        total.merge(&report?);
    }
    Ok(total)
}

/// Evaluates a model on one recorded run.
pub(crate) fn evaluate_document(
    engine: &Arc<Engine>,
    vocabulary: &Arc<Vocabulary>,
    document: &Document,
) -> Result<Report, BackendError> {
    let mut report = Report::default();
    report.add(&score_document(engine, vocabulary, document)?);
    Ok(report)
}

/// Scores a model on one recorded run.
pub(crate) fn score_document(
    engine: &Arc<Engine>,
    vocabulary: &Arc<Vocabulary>,
    document: &Document,
) -> Result<RunScore, BackendError> {
    let predictor = Predictor::new(engine.clone(), vocabulary.clone(), &document.source);
    score(answer(predictor)?.as_ref(), document)
}
