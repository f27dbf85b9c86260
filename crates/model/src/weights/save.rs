//! Writing a model folder. Tensors are converted one at a time as the file is
//! written, so saving needs memory for one tensor, not for a second model.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

use cwm_kernels::{INT8_GROUP, quantize_int8};
use half::bf16;
use safetensors::{SafeTensorError, View};

use super::{Dtype, INDEX_FILE, WEIGHTS_FILE, scales_name};
use crate::{Error, Model, TensorSpec, files};

impl Model {
    /// Writes `config.json` and `model.safetensors` into `dir`, which is
    /// created if need be. Each file appears complete or not at all.
    ///
    /// # Errors
    /// When the config is invalid, a weight is not finite, or a file cannot
    /// be written.
    pub fn save(&self, dir: &Path, dtype: Dtype) -> Result<(), Error> {
        let path = dir.join(WEIGHTS_FILE);
        self.check_finite(&path)?;
        std::fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
        self.config.save_as(dir, dtype)?;
        let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        files::write_atomically(&path, |temporary| {
            safetensors::serialize_to_file(self.stored(dtype), Some(metadata), temporary)
                .map_err(|error| write_error(&path, error))
        })?;
        // A table of the shards this file replaces would contradict it.
        match std::fs::remove_file(dir.join(INDEX_FILE)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::io("remove", dir.join(INDEX_FILE))(error))
            }
            _ => Ok(()),
        }
    }

    fn check_finite(&self, path: &Path) -> Result<(), Error> {
        let diverged = |tensor: &&TensorSpec| !super::all_finite(&self.params[tensor.range()]);
        match self.layout.tensors().iter().find(diverged) {
            None => Ok(()),
            Some(tensor) => Err(Error::NotFinite {
                path: path.to_owned(),
                tensor: tensor.name.clone(),
            }),
        }
    }

    fn stored(&self, dtype: Dtype) -> Vec<(String, Stored<'_>)> {
        let mut entries = Vec::new();
        for tensor in self.layout.tensors() {
            let values = &self.params[tensor.range()];
            let entry = |encoding, shape| Stored {
                encoding,
                shape,
                values,
            };
            let shape = tensor.shape.clone();
            match (dtype, shape.as_slice()) {
                (Dtype::Int8, &[rows, cols]) => {
                    let scales = vec![rows, cols.div_ceil(INT8_GROUP)];
                    let codes = entry(Encoding::Codes { cols }, shape);
                    entries.push((tensor.name.clone(), codes));
                    let scales = entry(Encoding::Scales { cols }, scales);
                    entries.push((scales_name(&tensor.name), scales));
                }
                (Dtype::Bf16, _) => {
                    entries.push((tensor.name.clone(), entry(Encoding::Bf16, shape)));
                }
                (Dtype::F32 | Dtype::Int8, _) => {
                    entries.push((tensor.name.clone(), entry(Encoding::F32, shape)));
                }
            }
        }
        entries
    }
}

fn write_error(path: &Path, error: SafeTensorError) -> Error {
    let source = match error {
        SafeTensorError::IoError(source) => source,
        other => std::io::Error::other(other),
    };
    Error::io("write", path)(source)
}

/// A tensor as it will lie in the file; converted when asked for its bytes.
struct Stored<'a> {
    encoding: Encoding,
    shape: Vec<usize>,
    values: &'a [f32],
}

#[derive(Clone, Copy)]
enum Encoding {
    F32,
    Bf16,
    /// Codes of a matrix of this many columns.
    Codes {
        cols: usize,
    },
    /// Scales of that matrix.
    Scales {
        cols: usize,
    },
}

impl View for Stored<'_> {
    fn dtype(&self) -> safetensors::Dtype {
        match self.encoding {
            Encoding::F32 | Encoding::Scales { .. } => safetensors::Dtype::F32,
            Encoding::Bf16 => safetensors::Dtype::BF16,
            Encoding::Codes { .. } => safetensors::Dtype::I8,
        }
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let values = self.values;
        Cow::Owned(match self.encoding {
            Encoding::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Encoding::Bf16 => {
                let rounded = values.iter().map(|&v| bf16::from_f32(v));
                rounded.flat_map(bf16::to_le_bytes).collect()
            }
            Encoding::Codes { cols } => {
                let (codes, _) = quantize(values, cols);
                codes.into_iter().map(i8::cast_unsigned).collect()
            }
            Encoding::Scales { cols } => {
                let (_, scales) = quantize(values, cols);
                scales.iter().flat_map(|v| v.to_le_bytes()).collect()
            }
        })
    }

    fn data_len(&self) -> usize {
        let elements: usize = self.shape.iter().product();
        elements * self.dtype().bitsize() / 8
    }
}

fn quantize(values: &[f32], cols: usize) -> (Vec<i8>, Vec<f32>) {
    let rows = values.len() / cols;
    let mut codes = vec![0; values.len()];
    let mut scales = vec![0.0; rows * cols.div_ceil(INT8_GROUP)];
    quantize_int8(&mut codes, &mut scales, values, cols);
    (codes, scales)
}
