//! A whole model in f32.

use std::path::Path;
use std::sync::Arc;

use super::{Checkpoint, first_not_finite};
use crate::{Error, Model};

impl Model {
    /// Reads the model at `path`, in any of the forms that [`Checkpoint::open`] knows.
    ///
    /// # Errors
    /// When a file is missing, truncated, foreign or damaged, or a tensor is missing, unknown, of
    /// the wrong shape or type, or not finite. The message names the file and the tensor.
    pub fn load(path: &Path) -> Result<Self, Error> {
        Self::from_checkpoint(&Checkpoint::open(path)?)
    }

    /// Dequantises all weights of an open checkpoint.
    ///
    /// # Errors
    /// [`Error::NotFinite`] for weights that are infinite or NaN.
    pub fn from_checkpoint(checkpoint: &Checkpoint) -> Result<Self, Error> {
        let layout = Arc::clone(checkpoint.layout());
        let mut params = vec![0.0; layout.total()];
        for spec in layout.tensors() {
            let tensor = checkpoint.tensor(&spec.name)?;
            let out = &mut params[spec.range()];
            tensor.rows(0..tensor.n_rows(), out)?;
            if let Some((index, value)) = first_not_finite(out) {
                return Err(Error::NotFinite {
                    path: checkpoint.file_of(&spec.name)?.to_owned(),
                    tensor: spec.name.clone(),
                    index,
                    value,
                });
            }
        }
        Ok(Self {
            config: checkpoint.config().clone(),
            layout,
            params,
        })
    }
}
