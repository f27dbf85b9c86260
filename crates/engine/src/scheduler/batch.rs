//! The one place where the sequences of a step meet the engine.

use crate::engine::Engine;
use crate::error::Result;
use crate::session::{BatchItem, Logits};

/// Extends every session by its tokens. One that cannot be extended is left as it was, and does
/// not keep the others from it.
pub(super) fn extend_batch(engine: &Engine, items: &mut [BatchItem<'_>]) -> Vec<Result<Logits>> {
    match engine.extend_batch(items) {
        Ok(logits) => logits.into_iter().map(Ok).collect(),
        Err(_) => (items.iter_mut())
            .map(|item| item.session.extend(engine, item.ids, item.want))
            .collect(),
    }
}
