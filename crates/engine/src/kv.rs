//! The key/value cache of one session: pages of [`PAGE`] positions behind `Arc`, copied only when
//! written.
//!
//! Global layers and local (windowed) layers have pages of their own, so that the two can be kept
//! for different times. A page holds [`PAGE`] consecutive positions for all layers of its group;
//! sharing a prefix between sessions means raising two reference counts per [`PAGE`] tokens. A page
//! that is shared is never changed: the first write after a fork copies that one page (only the
//! rows filled so far). Rows at or beyond the cache's length are garbage by definition and are
//! never read.
//!
//! Local pages are let go once nobody can need them unless the session goes back by more than the
//! *slack*. Without a slack they are all kept, and going back is exact at any distance. What has
//! been let go cannot be rebuilt alone: a local layer's rows follow from every layer below.

mod cost;
mod group;
mod ledger;
mod page;

use std::ops::Range;
use std::sync::Arc;

use cwm_kernels::{KvFormat, KvPlane};
use cwm_model::{Config, LayerType};

use crate::backend::{BackendError, Home, PageGroup, PageRun, Together};
use group::Group;
use ledger::Account;
use page::PageShape;

pub use cost::KvCost;
pub(crate) use group::Holding;
pub(crate) use ledger::Ledger;
pub use page::PAGE;

/// Where a layer's rows are: its number within its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Global(usize),
    Local(usize),
}

/// What a cache must hold: fixed by the model and by how long local layers keep their rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CacheShape {
    layers: Vec<Place>,
    global: PageShape,
    local: PageShape,
    /// Positions that a query of a local layer sees, itself included.
    window: usize,
    /// Tokens by which going back stays exact; `None` for any number.
    slack: Option<usize>,
}

impl CacheShape {
    pub(crate) fn new(config: &Config, slack: Option<usize>, format: KvFormat) -> Self {
        let group = |n_layers| PageShape {
            n_layers,
            heads: config.attention_shape(),
            format,
        };
        let (mut global, mut local) = (group(0), group(0));
        let mut layers = Vec::new();
        for kind in &config.layer_types {
            let (group, place): (_, fn(usize) -> Place) = match kind {
                LayerType::Full => (&mut global, Place::Global),
                LayerType::Sliding => (&mut local, Place::Local),
            };
            layers.push(place(group.n_layers));
            group.n_layers += 1;
        }
        Self {
            layers,
            global,
            local,
            window: config.sliding_window,
            slack,
        }
    }

    /// The first position that a token at `position` sees in a local layer.
    fn window_start(&self, position: usize) -> usize {
        (position + 1).saturating_sub(self.window)
    }
}

/// Bytes of pages to come, of each group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Growth {
    global: usize,
    local: usize,
}

impl Growth {
    pub(crate) fn bytes(self) -> usize {
        self.global + self.local
    }
}

/// The cached positions `0..len` of one session. `Clone` shares every page.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    shape: Arc<CacheShape>,
    global: Group,
    local: Group,
    /// Committed tokens and, after them, reserved ones.
    ids: Vec<u32>,
    len: usize,
}

impl Cache {
    /// An empty cache, whose pages are here or with a back end.
    pub(crate) fn new(
        shape: Arc<CacheShape>,
        ledger: &Arc<Ledger>,
        backend: Option<&Arc<Together>>,
    ) -> Self {
        let group = |shape, group| {
            let account = Account::new(Arc::clone(ledger));
            Group::new(shape, account, Home::of(backend, group))
        };
        Self {
            global: group(shape.global, PageGroup::Global),
            local: group(shape.local, PageGroup::Local),
            shape,
            ids: Vec::new(),
            len: 0,
        }
    }

    /// Committed positions.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Pages held in both groups, shared ones included.
    pub(crate) fn n_pages(&self) -> usize {
        self.global.n_pages() + self.local.n_pages()
    }

    /// Pages that some other cache holds too.
    pub(crate) fn n_shared_pages(&self) -> usize {
        self.global.n_shared_pages() + self.local.n_shared_pages()
    }

    /// Bytes of the pages held, shared ones included.
    pub(crate) fn bytes(&self) -> usize {
        self.global.bytes() + self.local.bytes()
    }

    /// Every page held.
    pub(crate) fn holdings(&self) -> impl Iterator<Item = Holding> + '_ {
        self.global.holdings().chain(self.local.holdings())
    }

    /// Where its pages are counted.
    pub(crate) fn ledger(&self) -> &Arc<Ledger> {
        self.global.ledger()
    }

    /// Most bytes that `room` more tokens can take, however far the cache is cut back before, when
    /// they come in chunks of at most `chunk`.
    pub(crate) fn growth(&self, room: usize, chunk: usize) -> Growth {
        let shape = &self.shape;
        // One more page for a start in the middle of one, which may have to be copied.
        let pages = |positions: usize| match positions {
            0 => 0,
            n => n.div_ceil(PAGE) + 1,
        };
        let most_kept = shape.slack.map_or(usize::MAX, |slack| {
            shape.window.saturating_add(slack).saturating_add(chunk)
        });
        Growth {
            global: pages(room) * shape.global.bytes(),
            local: pages(room.min(most_kept)) * shape.local.bytes(),
        }
    }

    /// Promises bytes for pages to come, in the place of any earlier promise.
    pub(crate) fn grant(&mut self, growth: Growth) {
        self.global.grant(growth.global);
        self.local.grant(growth.local);
    }

    /// The least length from which on the cache can be cut to any length with all that the next
    /// token sees still there. To 0 it can always be cut.
    pub(crate) fn exact_from(&self) -> usize {
        match self.local.begin() {
            0 => 0,
            _ if self.shape.window == 1 => 0,
            begin => begin + self.shape.window - 1,
        }
    }

    /// Forgets every position at or beyond `len` (no-op when it is already shorter). `len` is 0 or
    /// not below [`Cache::exact_from`].
    pub(crate) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
        self.ids.truncate(self.len);
        self.global.truncate(self.len);
        self.local.truncate(self.len);
    }

    /// A cache that shares the first `len` positions of this one (all of them when it is shorter).
    /// `len` is 0 or at least [`Cache::exact_from`].
    pub(crate) fn fork_at(&self, len: usize) -> Self {
        let len = self.len.min(len);
        Self {
            shape: Arc::clone(&self.shape),
            global: self.global.fork_at(len),
            local: self.local.fork_at(len),
            ids: self.ids[..len].to_vec(),
            len,
        }
    }

    /// The token at a committed position.
    pub(crate) fn id(&self, position: usize) -> Option<u32> {
        self.ids().get(position).copied()
    }

    /// The committed tokens in order.
    pub(crate) fn ids(&self) -> &[u32] {
        &self.ids[..self.len]
    }

    /// Goes back to an earlier state of this cache.
    pub(crate) fn restore(&mut self, before: &Self) {
        self.global.restore(&before.global);
        self.local.restore(&before.local);
        self.ids.clone_from(&before.ids);
        self.len = before.len;
    }

    /// Makes private rows for `ids` at positions `len..len + ids.len()`, not yet committed.
    ///
    /// # Errors
    /// When a back end has no room; what is committed is as it was.
    pub(crate) fn reserve(&mut self, ids: &[u32]) -> Result<(), BackendError> {
        self.ids.truncate(self.len);
        self.ids.extend_from_slice(ids);
        let positions = self.len..self.ids.len();
        self.global.reserve(positions.clone())?;
        self.local.reserve(positions)
    }

    /// Pages of global and of local layers that hold what tokens at the end of the cache see, and the
    /// rows reserved for them, as their back end knows them.
    pub(crate) fn runs(&self) -> [PageRun; 2] {
        let seen = self.shape.window_start(self.len) / PAGE;
        [self.global.run_from(0), self.local.run_from(seen)]
    }

    /// Stores the key and value row of one layer at a reserved position.
    pub(crate) fn write(&mut self, layer: usize, position: usize, key: &[f32], value: &[f32]) {
        let (group, layer) = match self.shape.layers[layer] {
            Place::Global(layer) => (&mut self.global, layer),
            Place::Local(layer) => (&mut self.local, layer),
        };
        let page = group.page_mut(position / PAGE);
        page.write(layer, position % PAGE, key, value);
    }

    /// Positions that a query of a layer sees, itself included; `None` for all.
    pub(crate) fn window(&self, layer: usize) -> Option<usize> {
        match self.shape.layers[layer] {
            Place::Global(_) => None,
            Place::Local(_) => Some(self.shape.window),
        }
    }

    /// Appends to `out` the pages of one layer that hold what queries at `positions` see, and
    /// returns the number of the first. The queries stand at or behind the end of the cache, and
    /// what they see has been written.
    pub(crate) fn visible<'a>(
        &'a self,
        layer: usize,
        positions: Range<usize>,
        out: &mut Vec<KvPlane<'a>>,
    ) -> usize {
        let (group, layer, first) = match self.shape.layers[layer] {
            Place::Global(layer) => (&self.global, layer, 0),
            Place::Local(layer) => {
                let first = self.shape.window_start(positions.start);
                (&self.local, layer, first / PAGE)
            }
        };
        let pages = first..positions.end.div_ceil(PAGE);
        out.extend(pages.map(|index| group.page(index).plane(layer)));
        first
    }

    /// Accepts the first `n` reserved positions and lets go of local pages that are past their use.
    pub(crate) fn commit(&mut self, n: usize) {
        self.len += n;
        if let Some(slack) = self.shape.slack {
            let back = self.len.saturating_sub(slack);
            self.local.forget_before(self.shape.window_start(back));
        }
    }
}

#[cfg(test)]
mod tests;
