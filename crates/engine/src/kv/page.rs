//! One page of the cache: keys and values of [`PAGE`] consecutive positions of a few layers.
//!
//! This is the only place that knows how a page lies in memory: a plane for each layer, in the
//! arrangement that [`attention_paged`](cwm_kernels::attention_paged) reads.

use cwm_kernels::{AttentionShape, KvBuffer, KvFormat, KvPlane, plane_len};

use crate::backend::{BackendError, Held, Home, PageHandle};

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
    contents: Contents,
}

#[derive(Debug)]
enum Contents {
    Here(KvBuffer),
    There(Held),
}

impl Page {
    /// An empty page. Those that are here never fail.
    pub(crate) fn new(shape: PageShape, home: &Home) -> Result<Self, BackendError> {
        let contents = match home {
            Home::Here => Contents::Here(KvBuffer::zeros(shape.format, shape.len())),
            Home::There(backend, group) => Contents::There(Held::new(backend, *group)?),
        };
        Ok(Self {
            shape,
            rows: 0,
            contents,
        })
    }

    /// A page that holds the same in the rows that were reserved: a fork early in a page should not
    /// pay for the whole of it. A back end copies whole pages.
    pub(crate) fn copy(&self) -> Result<Self, BackendError> {
        let contents = match &self.contents {
            Contents::Here(data) => {
                let mut copy = KvBuffer::zeros(self.shape.format, self.shape.len());
                copy.copy_positions(data, self.shape.heads, self.rows);
                Contents::Here(copy)
            }
            Contents::There(held) => Contents::There(held.copy()?),
        };
        Ok(Self {
            shape: self.shape,
            rows: self.rows,
            contents,
        })
    }

    /// Says that the first `rows` rows will be written.
    pub(crate) fn reserve(&mut self, rows: usize) {
        self.rows = self.rows.max(rows);
    }

    /// Stores the key and value of one layer in a reserved row.
    ///
    /// # Panics
    /// When a back end has its contents.
    pub(crate) fn write(&mut self, layer: usize, row: usize, key: &[f32], value: &[f32]) {
        match &mut self.contents {
            Contents::Here(data) => data.write(layer, self.shape.heads, row, key, value),
            Contents::There(_) => panic!("a back end writes its pages itself"),
        }
    }

    /// The keys and values of one layer.
    ///
    /// # Panics
    /// When a back end has its contents.
    pub(crate) fn plane(&self, layer: usize) -> KvPlane<'_> {
        match &self.contents {
            Contents::Here(data) => data.plane(layer, self.shape.heads),
            Contents::There(_) => panic!("a back end reads its pages itself"),
        }
    }

    /// Its name, where a back end has its contents.
    pub(crate) fn handle(&self) -> Option<PageHandle> {
        match &self.contents {
            Contents::Here(_) => None,
            Contents::There(held) => Some(held.handle()),
        }
    }
}
