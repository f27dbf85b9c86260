//! Hugging Face's folders: `config.json` beside safetensors, in one file or in shards.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use safetensors::tensor::TensorInfo;
use safetensors::{Dtype as Declared, SafeTensors};
use serde::Deserialize;

use super::bytes::Bytes;
use super::checkpoint::{Bits, Found, FoundTensor, Place, RowOrder, Stored, WeightsFile};
use super::{Dtype, INDEX_FILE, WEIGHTS_FILE};
use crate::{Config, Error};

/// Maps a folder's files and reads their headers.
pub(super) fn read(dir: &Path) -> Result<Found, Error> {
    let config = Config::load(dir)?;
    let (listing, paths) = weight_files(dir)?;
    let mut files = Vec::with_capacity(paths.len());
    for path in paths {
        let bytes = Bytes::map(&path)?;
        files.push(WeightsFile { path, bytes });
    }
    found(config, listing, files)
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

/// The tensors of all `files`, by name.
pub(super) fn found(
    config: Config,
    listing: PathBuf,
    files: Vec<WeightsFile>,
) -> Result<Found, Error> {
    let mut tensors = BTreeMap::new();
    for (file, WeightsFile { path, bytes }) in files.iter().enumerate() {
        let unusable = |error: safetensors::SafeTensorError| Error::Safetensors {
            path: path.clone(),
            reason: error.to_string(),
        };
        let (header, metadata) = SafeTensors::read_metadata(bytes).map_err(unusable)?;
        let data = size_of::<u64>() + header;
        for (name, info) in metadata.tensors() {
            // Old exports carry this constant, which the config implies.
            if name.ends_with(".rotary_emb.inv_freq") {
                continue;
            }
            if tensors
                .insert(name.clone(), tensor(file, data, info))
                .is_some()
            {
                return Err(Error::DuplicateTensor {
                    path: path.clone(),
                    tensor: name,
                });
            }
        }
    }
    Ok(Found {
        config,
        listing,
        files,
        tensors,
        notes: Vec::new(),
        carried: Vec::new(),
    })
}

/// A tensor of a file whose data begins at byte `data`. The crate has checked that the bytes are
/// within the file and as many as shape and type call for.
fn tensor(file: usize, data: usize, info: &TensorInfo) -> FoundTensor {
    let (begin, end) = info.data_offsets;
    let stored = match info.dtype {
        Declared::F32 => Stored::As(Dtype::F32),
        Declared::F16 => Stored::As(Dtype::F16),
        Declared::BF16 => Stored::As(Dtype::Bf16),
        Declared::I8 => Stored::Int8Codes,
        Declared::U8 => Stored::Int4Codes,
        other => Stored::Foreign(format!("{other:?}")),
    };
    FoundTensor {
        stored,
        shape: info.shape.clone(),
        order: RowOrder::Plain,
        at: Bits::Whole(Place {
            file,
            range: data + begin..data + end,
        }),
    }
}
