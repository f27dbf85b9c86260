//! Weights on their way into a file: rows in, bytes out, a chunk at a time.

use std::ops::Range;
use std::path::Path;

use super::blocks::{Part, encode_row};
use super::checkpoint::{Checkpoint, RowOrder};
use super::{Dtype, first_not_finite};
use crate::{Config, Error, Layout, Model, TensorSpec};

/// Where weights to be written come from.
pub(super) trait Source {
    fn config(&self) -> &Config;

    fn layout(&self) -> &Layout;

    /// What fills a buffer with rows of a tensor of the layout; a norm is one row.
    fn rows<'a>(&'a self, spec: &'a TensorSpec) -> Result<Box<ReadRows<'a>>, Error>;
}

type ReadRows<'a> = dyn Fn(Range<usize>, &mut [f32]) -> Result<(), Error> + 'a;

impl Source for Model {
    fn config(&self) -> &Config {
        &self.config
    }

    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn rows<'a>(&'a self, spec: &'a TensorSpec) -> Result<Box<ReadRows<'a>>, Error> {
        let values = &self.params[spec.range()];
        let cols = spec.n_cols();
        Ok(Box::new(move |rows, out| {
            out.copy_from_slice(&values[rows.start * cols..rows.end * cols]);
            Ok(())
        }))
    }
}

impl Source for Checkpoint {
    fn config(&self) -> &Config {
        self.config()
    }

    fn layout(&self) -> &Layout {
        self.layout()
    }

    fn rows<'a>(&'a self, spec: &'a TensorSpec) -> Result<Box<ReadRows<'a>>, Error> {
        let tensor = self.tensor(&spec.name)?;
        Ok(Box::new(move |rows, out| tensor.rows(rows, out)))
    }
}

/// A tensor as it will lie in a file.
pub(super) struct Planned<'a> {
    pub(super) spec: &'a TensorSpec,
    pub(super) dtype: Dtype,
    pub(super) part: Part,
    pub(super) order: RowOrder,
}

/// Values decoded at once: some rows, so that a pass costs no more memory than this, however large
/// a tensor is.
const CHUNK: usize = 1 << 18;

impl Planned<'_> {
    /// Hands the bytes of all rows to `write`, chunk after chunk. `path` is the file to name.
    ///
    /// # Errors
    /// For weights that are not finite or do not fit the form, and what `write` returns.
    pub(super) fn stream(
        &self,
        source: &dyn Source,
        path: &Path,
        write: &mut dyn FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let (rows, cols) = (self.spec.n_rows(), self.spec.n_cols());
        let step = match self.order {
            RowOrder::Plain => (CHUNK / cols).max(1),
            // Neighbours in the file are no neighbours in the tensor.
            RowOrder::Pairs { .. } => 1,
        };
        let read = source.rows(self.spec)?;
        let (mut values, mut bytes) = (Vec::new(), Vec::new());
        for begin in (0..rows).step_by(step) {
            let begin = self.order.unstored(begin);
            let chunk = begin..(begin + step).min(rows);
            values.resize(chunk.len() * cols, 0.0);
            read(chunk, &mut values)?;
            self.check(&values, begin * cols, path)?;
            bytes.clear();
            for row in values.chunks_exact(cols) {
                encode_row(self.dtype, self.part, row, &mut bytes);
            }
            write(&bytes)?;
        }
        Ok(())
    }

    /// Refuses values, of which the first is element `first`, that cannot be stored.
    fn check(&self, values: &[f32], first: usize, path: &Path) -> Result<(), Error> {
        let (path, tensor) = (path.to_owned(), self.spec.name.clone());
        if let Some((index, value)) = first_not_finite(values) {
            return Err(Error::NotFinite {
                path,
                tensor,
                index: first + index,
                value,
            });
        }
        let largest = self.dtype.largest();
        match values.iter().position(|value| value.abs() > largest) {
            None => Ok(()),
            Some(index) => Err(Error::Overflow {
                path,
                tensor,
                index: first + index,
                value: values[index],
                form: self.dtype.name(),
            }),
        }
    }
}
