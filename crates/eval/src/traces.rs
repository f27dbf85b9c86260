//! `cwm eval traces`: recorded runs.

use std::sync::Arc;

use cwm_engine::Engine;
use cwm_engine::live::Predictor;
use cwm_tokenizer::nano::Vocabulary;
use cwm_trace::Trace;
use cwm_trace::live::Document;

use crate::Report;
use crate::parallel;
use crate::score::{RunScore, score};

/// Evaluates a model on recorded runs. `done` is told how many are done.
pub fn evaluate(
    engine: &Arc<Engine>,
    vocabulary: &Arc<Vocabulary>,
    traces: &[Trace],
    threads: usize,
    done: impl Fn(usize) + Sync,
) -> Report {
    let one = |index: usize| {
        let document = Document::from_trace(&traces[index]);
        evaluate_document(engine, vocabulary, &document)
    };
    let mut total = Report::default();
    for report in parallel::map(traces.len(), threads, one, done) {
        total.merge(&report);
    }
    total
}

/// Evaluates a model on one recorded run.
pub(crate) fn evaluate_document(
    engine: &Arc<Engine>,
    vocabulary: &Arc<Vocabulary>,
    document: &Document,
) -> Report {
    let mut report = Report::default();
    report.add(&score_document(engine, vocabulary, document));
    report
}

/// Scores a model on one recorded run.
pub(crate) fn score_document(
    engine: &Arc<Engine>,
    vocabulary: &Arc<Vocabulary>,
    document: &Document,
) -> RunScore {
    let predictor = Predictor::new(engine.clone(), vocabulary.clone(), &document.source);
    score(predictor.as_ref().ok(), document)
}
