//! Another place than this processor to compute passes: a [`Backend`] holds weights and the contents
//! of pages, and computes one pass at a time.
//!
//! All that makes a session a session stays here: which tokens it has, which pages, who shares them,
//! when one is copied and when it is let go. A back end is told what to do with pages that it has
//! made, and never decides. What [`Session`](crate::Session) promises of its numbers it promises where
//! the back end does: what a pass computes of one sequence must depend on that sequence's tokens alone.

mod together;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use cwm_model::Config;

pub(crate) use together::Together;

/// A failure of a back end, for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct BackendError {
    /// What happened and what to do.
    pub problem: String,
}

/// The layers that a page is of: those of one kind keep the same positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageGroup {
    /// Layers that see everything.
    Global,
    /// Layers that see a window.
    Local,
}

/// A page as its back end knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageHandle(pub u64);

/// Consecutive pages of a sequence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageRun {
    /// Number of the first: it holds the positions from [`PAGE`](crate::PAGE) times that on.
    pub first: usize,
    /// The pages.
    pub pages: Vec<PageHandle>,
}

/// New tokens of one sequence in a pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassPart {
    /// Position of the first new token: so many are cached.
    pub start: usize,
    /// The tokens just before, oldest first: as many as embeddings depend on, where there are so many.
    pub before: Vec<u32>,
    /// The new tokens; at least one.
    pub ids: Vec<u32>,
    /// Which of them want logits.
    pub wanted: Range<usize>,
    /// Pages of global layers that hold all that is seen, and what is written; none where there is no
    /// such layer.
    pub global: PageRun,
    /// The same of local layers.
    pub local: PageRun,
}

/// Computes passes, and holds pages: [`PAGE`](crate::PAGE) positions of keys and values in bf16, for all
/// layers of a group.
pub trait Backend: fmt::Debug + Send + Sync {
    /// The model.
    fn config(&self) -> &Config;

    /// Bytes of all weights.
    fn n_weight_bytes(&self) -> usize;

    /// Bytes of weights that a pass reads for one token.
    fn bytes_per_token(&self) -> usize;

    /// Makes a page; what it holds is not defined.
    ///
    /// # Errors
    /// When there is no room; nothing is changed then.
    fn make_page(&self, group: PageGroup) -> Result<PageHandle, BackendError>;

    /// Copies what a page holds over another of the group.
    ///
    /// # Errors
    /// When the device is lost.
    fn copy_page(
        &self,
        group: PageGroup,
        from: PageHandle,
        to: PageHandle,
    ) -> Result<(), BackendError>;

    /// Takes back a page that nobody names any more.
    fn drop_page(&self, group: PageGroup, page: PageHandle);

    /// Writes keys and values of the new tokens of all parts into their pages and returns the wanted
    /// rows of logits `[rows, vocab_size]`, part after part. No two parts write into the same page, and
    /// none reads what another writes.
    ///
    /// # Errors
    /// When there is no room or the device is lost. The places of the new tokens are undefined then;
    /// all that was there before is as it was.
    fn pass(&self, parts: &[PassPart]) -> Result<Vec<f32>, BackendError>;
}

/// Where the contents of a group's pages are.
#[derive(Clone, Debug)]
pub(crate) enum Home {
    /// With the page.
    Here,
    /// With a back end.
    There(Arc<Together>, PageGroup),
}

impl Home {
    /// Of the pages of a group.
    pub(crate) fn of(backend: Option<&Arc<Together>>, group: PageGroup) -> Self {
        backend.map_or(Self::Here, |backend| {
            Self::There(Arc::clone(backend), group)
        })
    }
}

/// A page of a back end, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    backend: Arc<Together>,
    group: PageGroup,
    handle: PageHandle,
}

impl Held {
    pub(crate) fn new(backend: &Arc<Together>, group: PageGroup) -> Result<Self, BackendError> {
        Ok(Self {
            handle: backend.backend().make_page(group)?,
            backend: Arc::clone(backend),
            group,
        })
    }

    /// Another page that holds the same.
    pub(crate) fn copy(&self) -> Result<Self, BackendError> {
        let copy = Self::new(&self.backend, self.group)?;
        let backend = self.backend.backend();
        backend.copy_page(self.group, self.handle, copy.handle)?;
        Ok(copy)
    }

    pub(crate) fn handle(&self) -> PageHandle {
        self.handle
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.backend.backend().drop_page(self.group, self.handle);
    }
}
