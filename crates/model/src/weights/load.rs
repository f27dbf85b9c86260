//! Reading a model folder: first every name, type and shape is checked
//! against the config, then memory is set aside and filled.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cwm_kernels::{INT8_GROUP, dequantize_int8};
use half::{bf16, f16};
use safetensors::tensor::TensorView;
use safetensors::{Dtype as Stored, SafeTensors};
use serde::Deserialize;

use super::{INDEX_FILE, WEIGHTS_FILE, all_finite, scales_name};
use crate::{Config, Error, Layout, Model, TensorSpec};

impl Model {
    /// Reads `config.json` and `model.safetensors` (or the shards that
    /// `model.safetensors.index.json` names) from `dir`.
    ///
    /// # Errors
    /// When a file is missing, truncated, foreign or damaged, or a tensor is
    /// missing, unknown, of the wrong shape or type, or not finite. The
    /// message names the file and the tensor.
    pub fn load(dir: &Path) -> Result<Self, Error> {
        let config = Config::load(dir)?;
        let layout = Layout::new(&config);
        let (listing, paths) = weight_files(dir)?;
        let mut files = Vec::with_capacity(paths.len());
        for path in paths {
            let bytes = std::fs::read(&path).map_err(Error::io("read", &path))?;
            files.push((path, bytes));
        }
        let table = Table::new(&files)?;
        table.check(&layout, &listing)?;
        let mut params = vec![0.0; layout.total()];
        for tensor in layout.tensors() {
            table.read(tensor, &mut params[tensor.range()])?;
        }
        Ok(Self {
            config,
            layout: Arc::new(layout),
            params,
        })
    }
}

/// Hugging Face's table of shards.
#[derive(Deserialize)]
struct ShardIndex {
    weight_map: BTreeMap<String, String>,
}

/// The weights files of a folder, and the file to blame for a missing tensor.
fn weight_files(dir: &Path) -> Result<(PathBuf, Vec<PathBuf>), Error> {
    let whole = dir.join(WEIGHTS_FILE);
    if whole.exists() {
        return Ok((whole.clone(), vec![whole]));
    }
    let index = dir.join(INDEX_FILE);
    if !index.exists() {
        return Err(Error::NoWeights {
            dir: dir.to_owned(),
        });
    }
    let bytes = std::fs::read(&index).map_err(Error::io("read", &index))?;
    let unusable = |reason: String| Error::Index {
        path: index.clone(),
        reason,
    };
    let table: ShardIndex =
        serde_json::from_slice(&bytes).map_err(|error| unusable(error.to_string()))?;
    let names: BTreeSet<&String> = table.weight_map.values().collect();
    if names.is_empty() {
        return Err(unusable("its weight_map is empty".to_owned()));
    }
    let mut paths = Vec::with_capacity(names.len());
    for name in names {
        // A shard is a file of this folder; anything else would let an index
        // read from elsewhere on the machine.
        if Path::new(name).file_name() != Some(name.as_ref()) {
            return Err(unusable(format!("shard `{name}` is not a plain file name")));
        }
        paths.push(dir.join(name));
    }
    Ok((index, paths))
}

/// Every tensor of every file, by name.
struct Table<'a>(BTreeMap<String, Entry<'a>>);

struct Entry<'a> {
    path: &'a Path,
    view: TensorView<'a>,
}

impl<'a> Table<'a> {
    fn new(files: &'a [(PathBuf, Vec<u8>)]) -> Result<Self, Error> {
        let mut entries = BTreeMap::new();
        for (path, bytes) in files {
            let tensors = SafeTensors::deserialize(bytes).map_err(|error| Error::Safetensors {
                path: path.clone(),
                reason: error.to_string(),
            })?;
            for (tensor, view) in tensors.tensors() {
                // Old exports carry this constant, which the config implies.
                if tensor.ends_with(".rotary_emb.inv_freq") {
                    continue;
                }
                let entry = Entry { path, view };
                if entries.insert(tensor.clone(), entry).is_some() {
                    return Err(Error::DuplicateTensor {
                        path: path.clone(),
                        tensor,
                    });
                }
            }
        }
        Ok(Self(entries))
    }

    fn check(&self, layout: &Layout, listing: &Path) -> Result<(), Error> {
        let missing = |tensor: String| Error::MissingTensor {
            path: listing.to_owned(),
            tensor,
        };
        let mut known = BTreeSet::new();
        for tensor in layout.tensors() {
            let Some(entry) = self.0.get(&tensor.name) else {
                return Err(missing(tensor.name.clone()));
            };
            entry.check_shape(&tensor.name, &tensor.shape)?;
            known.insert(tensor.name.clone());
            match (entry.view.dtype(), tensor.shape.as_slice()) {
                (Stored::F32 | Stored::BF16 | Stored::F16, _) => {}
                (Stored::I8, &[rows, cols]) => {
                    let name = scales_name(&tensor.name);
                    let scales = self.0.get(&name).ok_or_else(|| missing(name.clone()))?;
                    scales.check_shape(&name, &[rows, cols.div_ceil(INT8_GROUP)])?;
                    if scales.view.dtype() != Stored::F32 {
                        return Err(scales.dtype_error(&name, "F32"));
                    }
                    known.insert(name);
                }
                _ => {
                    let expected = "F32, BF16, F16, or I8 with scales for a matrix";
                    return Err(entry.dtype_error(&tensor.name, expected));
                }
            }
        }
        match self.0.iter().find(|(name, _)| !known.contains(*name)) {
            None => Ok(()),
            Some((name, entry)) => Err(Error::ExtraTensor {
                path: entry.path.to_owned(),
                tensor: name.clone(),
            }),
        }
    }

    /// Fills `out` with a tensor that [`Table::check`] has passed.
    fn read(&self, tensor: &TensorSpec, out: &mut [f32]) -> Result<(), Error> {
        let entry = &self.0[&tensor.name];
        let data = entry.view.data();
        match entry.view.dtype() {
            Stored::BF16 => decode(out, data, |bytes| bf16::from_le_bytes(bytes).to_f32()),
            Stored::F16 => decode(out, data, |bytes| f16::from_le_bytes(bytes).to_f32()),
            Stored::I8 => {
                let scales = self.0[&scales_name(&tensor.name)].view.data();
                let mut decoded = vec![0.0; scales.len() / size_of::<f32>()];
                decode(&mut decoded, scales, f32::from_le_bytes);
                let codes: Vec<i8> = data.iter().map(|byte| byte.cast_signed()).collect();
                let cols = tensor.shape[tensor.shape.len() - 1];
                dequantize_int8(out, &codes, &decoded, cols);
            }
            _ => decode(out, data, f32::from_le_bytes),
        }
        if all_finite(out) {
            Ok(())
        } else {
            Err(Error::NotFinite {
                path: entry.path.to_owned(),
                tensor: tensor.name.clone(),
            })
        }
    }
}

impl Entry<'_> {
    fn check_shape(&self, name: &str, expected: &[usize]) -> Result<(), Error> {
        if self.view.shape() == expected {
            return Ok(());
        }
        Err(Error::Shape {
            path: self.path.to_owned(),
            tensor: name.to_owned(),
            expected: expected.to_vec(),
            found: self.view.shape().to_vec(),
        })
    }

    fn dtype_error(&self, name: &str, expected: &'static str) -> Error {
        Error::Dtype {
            path: self.path.to_owned(),
            tensor: name.to_owned(),
            found: format!("{:?}", self.view.dtype()),
            expected,
        }
    }
}

fn decode<const N: usize>(out: &mut [f32], data: &[u8], value: impl Fn([u8; N]) -> f32) {
    let (elements, _) = data.as_chunks::<N>();
    for (out, bytes) in out.iter_mut().zip(elements) {
        *out = value(*bytes);
    }
}
