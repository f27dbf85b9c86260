//! One page of the cache: keys and values of [`PAGE`] consecutive positions of a few layers.
//!
//! This is the only place that knows how a page lies in memory: a plane for each layer, in the
//! arrangement that [`attention_paged`](cwm_kernels::attention_paged) reads.

use cwm_kernels::{AttentionShape, KvBuffer, KvFormat, KvPlane, plane_len};

pub use cwm_kernels::PAGE;

/// What a page must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PageShape {
    /// Layers whose rows it keeps.
    pub(crate) n_layers: usize,
    pub(crate) heads: AttentionShape,
    pub(crate) format: KvFormat,
}

impl PageShape {
    /// Elements in a page.
    fn len(self) -> usize {
        self.n_layers * plane_len(self.heads)
    }

    /// Bytes of a page, however many of its rows are filled.
    pub(crate) fn bytes(self) -> usize {
        self.len() * self.format.n_bytes()
    }
}

/// [`PAGE`] positions.
#[derive(Debug)]
pub(crate) struct Page {
    shape: PageShape,
    /// Rows that have ever been reserved: what a copy has to carry over.
    rows: usize,
    data: KvBuffer,
}

impl Page {
    pub(crate) fn new(shape: PageShape) -> Self {
        Self {
            shape,
            rows: 0,
            data: KvBuffer::zeros(shape.format, shape.len()),
        }
    }

    /// Says that the first `rows` rows will be written.
    pub(crate) fn reserve(&mut self, rows: usize) {
        self.rows = self.rows.max(rows);
    }

    /// Stores the key and value of one layer in a reserved row.
    pub(crate) fn write(&mut self, layer: usize, row: usize, key: &[f32], value: &[f32]) {
        self.data.write(layer, self.shape.heads, row, key, value);
    }

    /// The keys and values of one layer.
    pub(crate) fn plane(&self, layer: usize) -> KvPlane<'_> {
        self.data.plane(layer, self.shape.heads)
    }
}

impl Clone for Page {
    /// Copies only the rows that were reserved: a fork early in a page should not pay for the whole
    /// of it.
    fn clone(&self) -> Self {
        let mut copy = Self::new(self.shape);
        copy.rows = self.rows;
        copy.data
            .copy_positions(&self.data, self.shape.heads, self.rows);
        copy
    }
}
