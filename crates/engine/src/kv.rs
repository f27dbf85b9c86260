//! The key/value cache of one session: pages of [`PAGE`] positions behind `Arc`, copied only when
//! written.
//!
//! One page holds keys, values and token ids of [`PAGE`] consecutive positions *for all layers*, so
//! sharing a prefix between sessions means raising one reference count per [`PAGE`] tokens. A page
//! that is shared is never changed: the first write after a fork copies that one page (only the
//! rows filled so far). Rows at or beyond the cache's length are garbage by definition and are
//! never read.
//!
//! Sliding-window layers keep all their rows too; a reader asks only for the rows inside the
//! window. That spends memory, and in return a rollback of any distance is exact.

use std::ops::RangeInclusive;
use std::sync::Arc;

use cwm_kernels::KvPage;

/// Positions in one page.
pub const PAGE: usize = 64;

/// What a page must hold: fixed by the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PageShape {
    /// Number of layers.
    pub(crate) n_layers: usize,
    /// Floats in one key (or value) row of one layer: `n_kv_heads * head_dim`.
    pub(crate) kv_dim: usize,
}

impl PageShape {
    /// Floats of one layer's keys (or values) in a page.
    fn plane(self) -> usize {
        PAGE * self.kv_dim
    }

    /// Floats in a page.
    fn len(self) -> usize {
        2 * self.n_layers * self.plane()
    }

    /// Offset of a layer's keys; its values follow one plane later.
    fn keys(self, layer: usize) -> usize {
        2 * layer * self.plane()
    }
}

/// [`PAGE`] positions of every layer, laid out `[layer][keys, values][position][kv_dim]`.
#[derive(Debug)]
struct Page {
    shape: PageShape,
    ids: [u32; PAGE],
    /// Rows that have ever been written: what a copy has to carry over.
    rows: usize,
    data: Vec<f32>,
}

impl Page {
    fn new(shape: PageShape) -> Self {
        Self {
            shape,
            ids: [0; PAGE],
            rows: 0,
            data: vec![0.0; shape.len()],
        }
    }
}

impl Clone for Page {
    /// Copies only the rows that were written: a fork early in a page should not pay for the whole
    /// of it.
    fn clone(&self) -> Self {
        let mut copy = Self::new(self.shape);
        copy.ids = self.ids;
        copy.rows = self.rows;
        let used = self.rows * self.shape.kv_dim;
        let planes = self.data.chunks_exact(self.shape.plane());
        for (dst, src) in copy.data.chunks_exact_mut(self.shape.plane()).zip(planes) {
            dst[..used].copy_from_slice(&src[..used]);
        }
        copy
    }
}

/// The cached positions `0..len` of one session. `Clone` shares every page.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    shape: PageShape,
    pages: Vec<Arc<Page>>,
    len: usize,
}

impl Cache {
    pub(crate) fn new(shape: PageShape) -> Self {
        Self {
            shape,
            pages: Vec::new(),
            len: 0,
        }
    }

    /// Committed positions.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Pages held, shared ones included.
    pub(crate) fn n_pages(&self) -> usize {
        self.pages.len()
    }

    /// Pages that some other cache holds too.
    pub(crate) fn n_shared_pages(&self) -> usize {
        self.pages
            .iter()
            .filter(|page| Arc::strong_count(page) > 1)
            .count()
    }

    /// Forgets every position at or beyond `len` (no-op when it is already shorter).
    pub(crate) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
        self.pages.truncate(self.len.div_ceil(PAGE));
    }

    /// A cache that shares the first `len` positions of this one (all of them when it is shorter).
    pub(crate) fn fork_at(&self, len: usize) -> Self {
        let len = self.len.min(len);
        let pages = self.pages[..len.div_ceil(PAGE)].to_vec();
        Self {
            shape: self.shape,
            pages,
            len,
        }
    }

    /// The token at a committed position.
    pub(crate) fn id(&self, position: usize) -> Option<u32> {
        (position < self.len).then(|| self.pages[position / PAGE].ids[position % PAGE])
    }

    /// The committed tokens in order.
    pub(crate) fn ids(&self) -> impl Iterator<Item = u32> + '_ {
        self.pages
            .iter()
            .flat_map(|page| page.ids.iter().copied())
            .take(self.len)
    }

    /// Makes private pages for `ids` at positions `len..len + ids.len()`, not yet committed.
    pub(crate) fn reserve(&mut self, ids: &[u32]) {
        self.pages.truncate(self.len.div_ceil(PAGE));
        for (position, &id) in (self.len..).zip(ids) {
            let (index, row) = (position / PAGE, position % PAGE);
            if index == self.pages.len() {
                self.pages.push(Arc::new(Page::new(self.shape)));
            }
            let page = Arc::make_mut(&mut self.pages[index]);
            page.ids[row] = id;
            page.rows = page.rows.max(row + 1);
        }
    }

    /// Stores the key and value row of one layer at a reserved position.
    pub(crate) fn write(&mut self, layer: usize, position: usize, key: &[f32], value: &[f32]) {
        let PageShape { kv_dim, .. } = self.shape;
        let page = Arc::make_mut(&mut self.pages[position / PAGE]);
        let at = self.shape.keys(layer) + position % PAGE * kv_dim;
        page.data[at..at + kv_dim].copy_from_slice(key);
        let at = at + self.shape.plane();
        page.data[at..at + kv_dim].copy_from_slice(value);
    }

    /// Appends to `out` the rows of one layer at the positions of `visible`, which must have been
    /// written.
    ///
    /// How the rows are cut into pages depends on the positions only, never on how they were fed
    /// in: attention over them therefore adds up in the same order for every chunking.
    pub(crate) fn visible<'a>(
        &'a self,
        layer: usize,
        visible: RangeInclusive<usize>,
        out: &mut Vec<KvPage<'a>>,
    ) {
        let PageShape { kv_dim, .. } = self.shape;
        let (first, last) = visible.into_inner();
        for index in first / PAGE..=last / PAGE {
            let begin = first.saturating_sub(index * PAGE);
            let end = (last + 1 - index * PAGE).min(PAGE);
            let keys = self.shape.keys(layer);
            let values = keys + self.shape.plane();
            let rows = begin * kv_dim..end * kv_dim;
            let data = &self.pages[index].data;
            out.push(KvPage {
                k: &data[keys..][rows.clone()],
                v: &data[values..][rows],
                rows: end - begin,
            });
        }
    }

    /// Accepts the first `n` reserved positions.
    pub(crate) fn commit(&mut self, n: usize) {
        self.len += n;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: PageShape = PageShape {
        n_layers: 2,
        kv_dim: 3,
    };

    /// The row a test stores for a token at a position.
    fn row(layer: usize, position: usize, id: u32, offset: f32) -> [f32; 3] {
        [layer as f32 + offset, position as f32, id as f32]
    }

    fn push(cache: &mut Cache, ids: &[u32]) {
        cache.reserve(ids);
        for (position, &id) in (cache.len()..).zip(ids) {
            for layer in 0..SHAPE.n_layers {
                let (key, value) = (row(layer, position, id, 0.0), row(layer, position, id, 0.5));
                cache.write(layer, position, &key, &value);
            }
        }
        cache.commit(ids.len());
    }

    /// Asserts that the cache holds exactly `ids`, reading rows back through `visible`.
    fn check(cache: &Cache, ids: &[u32], first: usize) {
        assert_eq!(cache.ids().collect::<Vec<_>>(), ids);
        for layer in 0..SHAPE.n_layers {
            let mut pages = Vec::new();
            cache.visible(layer, first..=ids.len() - 1, &mut pages);
            let keys: Vec<f32> = pages.iter().flat_map(|page| page.k.to_vec()).collect();
            let values: Vec<f32> = pages.iter().flat_map(|page| page.v.to_vec()).collect();
            let expected = |offset| -> Vec<f32> {
                (first..ids.len())
                    .flat_map(|p| row(layer, p, ids[p], offset))
                    .collect()
            };
            assert_eq!(keys, expected(0.0), "keys of layer {layer}");
            assert_eq!(values, expected(0.5), "values of layer {layer}");
            assert_eq!(
                pages.iter().map(|page| page.rows).sum::<usize>(),
                ids.len() - first
            );
        }
    }

    #[test]
    fn a_fork_shares_pages_until_one_side_writes() {
        let ids: Vec<u32> = (0..150).collect();
        let mut parent = Cache::new(SHAPE);
        push(&mut parent, &ids);
        assert_eq!((parent.n_pages(), parent.n_shared_pages()), (3, 0));

        let mut child = parent.clone();
        assert_eq!((child.n_pages(), child.n_shared_pages()), (3, 3));

        push(&mut child, &[900]);
        assert_eq!(child.n_shared_pages(), 2, "only the tail page was copied");
        push(&mut parent, &[800, 801]);
        check(&child, &[&ids[..], &[900]].concat(), 0);
        check(&parent, &[&ids[..], &[800, 801]].concat(), 70);
    }

    #[test]
    fn rollback_drops_whole_pages_and_later_writes_do_not_reach_the_fork() {
        let ids: Vec<u32> = (0..130).collect();
        let mut parent = Cache::new(SHAPE);
        push(&mut parent, &ids);
        let child = parent.clone();
        parent.truncate(60);
        assert_eq!((parent.len(), parent.n_pages()), (60, 1));
        push(&mut parent, &[7; 10]);
        check(&parent, &[&ids[..60], &[7; 10]].concat(), 5);
        check(&child, &ids, 0);
        assert_eq!(parent.id(69), Some(7));
        assert_eq!(parent.id(70), None);
    }

    #[test]
    fn uncommitted_rows_are_forgotten() {
        let mut cache = Cache::new(SHAPE);
        push(&mut cache, &[1, 2]);
        cache.reserve(&[3; 100]);
        assert_eq!(cache.len(), 2);
        push(&mut cache, &[4]);
        check(&cache, &[1, 2, 4], 0);
        assert_eq!(cache.n_pages(), 1);
    }

    #[test]
    fn fork_at_a_page_boundary_takes_no_further_page() {
        let mut cache = Cache::new(SHAPE);
        push(&mut cache, &[5; 128]);
        assert_eq!(cache.fork_at(64).n_pages(), 1);
        assert_eq!(cache.fork_at(65).n_pages(), 2);
        assert_eq!(cache.fork_at(0).n_pages(), 0);
        assert_eq!(cache.fork_at(999).len(), 128);
    }
}
