//! `cwm eval traces`: recorded runs.

use std::sync::Arc;

use cwm_engine::Engine;
use cwm_engine::live::Predictor;
use cwm_tokenizer::nano::Vocabulary;
use cwm_trace::Trace;
use cwm_trace::live::Document;

use crate::Report;
use crate::parallel;
use crate::score::{score, score_unreadable};

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
    let mut report = Report {
        items: 1,
        ..Report::default()
    };
    match Predictor::new(engine.clone(), vocabulary.clone(), &document.source) {
        Ok(predictor) => score(&predictor, document, &mut report),
        Err(_) => score_unreadable(document, &mut report),
    }
    report
}
