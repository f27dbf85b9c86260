//! One page of the cache: keys and values of [`PAGE`] consecutive positions of a few layers.
//!
//! This is the only place that knows how keys and values lie in memory and of what type they are:
//! others ask for a page of a shape, write one row of one layer, and read rows of one layer.

use std::ops::Range;

use cwm_kernels::KvPage;

/// Positions in one page.
pub const PAGE: usize = 64;

/// What a page must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PageShape {
    /// Layers whose rows it keeps.
    pub(crate) n_layers: usize,
    /// Elements in one key (or value) row of one layer: `n_kv_heads * head_dim`.
    pub(crate) kv_dim: usize,
}

impl PageShape {
    /// Elements of one layer's keys (or values) in a page.
    fn plane(self) -> usize {
        PAGE * self.kv_dim
    }

    /// Elements in a page.
    fn len(self) -> usize {
        2 * self.n_layers * self.plane()
    }

    /// Bytes of a page, however many of its rows are filled.
    pub(crate) fn bytes(self) -> usize {
        self.len() * size_of::<f32>()
    }
}

/// [`PAGE`] positions, laid out `[layer][keys, values][position][kv_dim]`.
#[derive(Debug)]
pub(crate) struct Page {
    shape: PageShape,
    /// Rows that have ever been reserved: what a copy has to carry over.
    rows: usize,
    data: Vec<f32>,
}

impl Page {
    pub(crate) fn new(shape: PageShape) -> Self {
        Self {
            shape,
            rows: 0,
            data: vec![0.0; shape.len()],
        }
    }

    /// Says that the first `rows` rows will be written.
    pub(crate) fn reserve(&mut self, rows: usize) {
        self.rows = self.rows.max(rows);
    }

    /// Stores the key and value of one layer in a reserved row.
    pub(crate) fn write(&mut self, layer: usize, row: usize, key: &[f32], value: &[f32]) {
        let PageShape { kv_dim, .. } = self.shape;
        let plane = self.shape.plane();
        let at = 2 * layer * plane + row * kv_dim;
        self.data[at..at + kv_dim].copy_from_slice(key);
        self.data[at + plane..at + plane + kv_dim].copy_from_slice(value);
    }

    /// The keys and values of one layer in `rows`, which must have been written.
    pub(crate) fn read(&self, layer: usize, rows: Range<usize>) -> KvPage<'_> {
        let PageShape { kv_dim, .. } = self.shape;
        let plane = self.shape.plane();
        let (keys, values) = self.data[2 * layer * plane..][..2 * plane].split_at(plane);
        let elements = rows.start * kv_dim..rows.end * kv_dim;
        KvPage {
            k: &keys[elements.clone()],
            v: &values[elements],
            rows: rows.len(),
        }
    }
}

impl Clone for Page {
    /// Copies only the rows that were reserved: a fork early in a page should not pay for the whole
    /// of it.
    fn clone(&self) -> Self {
        let mut copy = Self::new(self.shape);
        copy.rows = self.rows;
        let used = self.rows * self.shape.kv_dim;
        let planes = self.data.chunks_exact(self.shape.plane());
        for (dst, src) in copy.data.chunks_exact_mut(self.shape.plane()).zip(planes) {
            dst[..used].copy_from_slice(&src[..used]);
        }
        copy
    }
}
