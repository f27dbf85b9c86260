//! The one place where the sequences of a step meet the engine.

use crate::Want;
use crate::engine::Engine;
use crate::error::Result;
use crate::session::{Logits, Session};

/// What a step adds to one session.
#[derive(Debug)]
pub(super) struct BatchItem<'a> {
    pub(super) session: &'a mut Session,
    pub(super) ids: &'a [u32],
    pub(super) want: Want,
}

/// Extends every session by its tokens. One that cannot be extended is left as it was, and does
/// not keep the others from it.
pub(super) fn extend_batch(engine: &Engine, items: &mut [BatchItem<'_>]) -> Vec<Result<Logits>> {
    items
        .iter_mut()
        .map(|item| item.session.extend(engine, item.ids, item.want))
        .collect()
}
