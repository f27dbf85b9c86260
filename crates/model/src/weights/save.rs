//! Writing a model folder: `config.json` and safetensors, converted a few rows at a time.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use safetensors::tensor::{Metadata, TensorInfo};
use safetensors::{Dtype as Declared, SafeTensorError};
use serde_json::json;

use super::blocks::Part;
use super::checkpoint::{Checkpoint, RowOrder};
use super::stream::{Planned, Source};
use super::{Dtype, INDEX_FILE, WEIGHTS_FILE, scales_name};
use crate::{Error, Layout, Model, TensorSpec, files};

impl Model {
    /// Writes `model.safetensors` and `config.json` into `dir`, which is created if need be. Each
    /// file appears complete or not at all.
    ///
    /// # Errors
    /// When the config is invalid, a weight is not finite or does not fit the form, a folder
    /// cannot hold that form ([`Error::Form`]), or a file cannot be written.
    pub fn save(&self, dir: &Path, dtype: Dtype) -> Result<(), Error> {
        write_folder(self, dir, dtype, u64::MAX, &mut |_| ())
    }
}

impl Checkpoint {
    /// Writes the model as a folder of safetensors, as [`Model::save`] does, without holding more
    /// than a few rows of it. Weights of more than `shard_bytes` are split into several files and
    /// an index. `progress` is told how many bytes each step has written, of
    /// [`Checkpoint::folder_bytes`].
    ///
    /// # Errors
    /// As [`Model::save`].
    pub fn save_folder(
        &self,
        dir: &Path,
        dtype: Dtype,
        shard_bytes: u64,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), Error> {
        write_folder(self, dir, dtype, shard_bytes, progress)
    }

    /// Bytes of the weights of a folder of this form, headers left out.
    pub fn folder_bytes(&self, dtype: Dtype) -> u64 {
        let tensors = plan(self.layout(), dtype);
        tensors.iter().map(|tensor| tensor.bytes as u64).sum()
    }
}

/// The forms a folder can hold, by name.
const FORMS: &str = "f32, f16, bf16, int8, int4-g32, int4-g128";

fn write_folder(
    source: &dyn Source,
    dir: &Path,
    dtype: Dtype,
    shard_bytes: u64,
    progress: &mut dyn FnMut(u64),
) -> Result<(), Error> {
    source.config().validate()?;
    if !is_folder_form(dtype) {
        return Err(Error::Form {
            path: dir.to_owned(),
            form: dtype.name(),
            choices: FORMS,
        });
    }
    std::fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
    let shards = shards(plan(source.layout(), dtype), shard_bytes);
    let (whole, index) = (dir.join(WEIGHTS_FILE), dir.join(INDEX_FILE));
    // What the new files replace would contradict them.
    let stale = match &shards[..] {
        [only] => {
            write_file(source, &whole, only, progress)?;
            index
        }
        several => {
            write_shards(source, dir, several, progress)?;
            whole
        }
    };
    match std::fs::remove_file(&stale) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(Error::io("remove", &stale)(error));
        }
        _ => {}
    }
    source.config().save_as(dir, dtype)
}

/// Whether [`Dtype`] is one that folders hold; GGUF's block formats are not.
fn is_folder_form(dtype: Dtype) -> bool {
    use Dtype::{Bf16, F16, F32, Int4Group32, Int4Group128, Int8Group32};
    matches!(
        dtype,
        F32 | F16 | Bf16 | Int8Group32 | Int4Group32 | Int4Group128
    )
}

/// A tensor of a safetensors file.
struct Stored<'a> {
    name: String,
    declared: Declared,
    shape: Vec<usize>,
    bytes: usize,
    planned: Planned<'a>,
}

/// The tensors of all files, those of one matrix side by side.
fn plan(layout: &Layout, dtype: Dtype) -> Vec<Stored<'_>> {
    let mut tensors = Vec::new();
    for spec in layout.tensors() {
        let dtype = form_of(spec, dtype);
        tensors.push(stored(spec, dtype, Part::Data));
        if dtype.scales().is_some() {
            tensors.push(stored(spec, dtype, Part::Scales));
        }
    }
    tensors
}

/// The form of one tensor where that of the model is `dtype`. Norms stay exact among codes, and
/// tables, where every token depends on one row alone, as well as the head, keep eight bits.
fn form_of(spec: &TensorSpec, dtype: Dtype) -> Dtype {
    match dtype {
        Dtype::F32 | Dtype::F16 | Dtype::Bf16 => dtype,
        _ if !spec.is_matrix() => Dtype::F32,
        _ if spec.is_table() => Dtype::Int8Group32,
        _ => dtype,
    }
}

fn stored(spec: &TensorSpec, dtype: Dtype, part: Part) -> Stored<'_> {
    let (rows, cols) = (spec.n_rows(), spec.n_cols());
    let row_bytes = |dtype: Dtype, cols| {
        let bytes = dtype.row_bytes(cols);
        bytes.expect("forms that folders hold have rows of any width that a config may have")
    };
    let planned = Planned {
        spec,
        dtype,
        part,
        order: RowOrder::Plain,
    };
    let (declared, shape, bytes) = match (dtype.scales(), part) {
        (Some((group, dtype)), Part::Scales) => {
            let groups = cols.div_ceil(group);
            let shape = vec![rows, groups];
            (declared(dtype), shape, rows * row_bytes(dtype, groups))
        }
        _ => {
            let width = row_bytes(dtype, cols);
            let shape = match dtype {
                Dtype::Int4Group32 | Dtype::Int4Group128 => vec![rows, width],
                _ => spec.shape.clone(),
            };
            (declared(dtype), shape, rows * width)
        }
    };
    let name = match part {
        Part::Data => spec.name.clone(),
        Part::Scales => scales_name(&spec.name),
    };
    Stored {
        name,
        declared,
        shape,
        bytes,
        planned,
    }
}

fn declared(dtype: Dtype) -> Declared {
    match dtype {
        Dtype::F16 => Declared::F16,
        Dtype::Bf16 => Declared::BF16,
        Dtype::Int8Group32 => Declared::I8,
        Dtype::Int4Group32 | Dtype::Int4Group128 => Declared::U8,
        _ => Declared::F32,
    }
}

/// Cuts a plan into files of at most `limit` bytes, or of one tensor where that is larger.
fn shards(plan: Vec<Stored<'_>>, limit: u64) -> Vec<Vec<Stored<'_>>> {
    let mut shards = vec![Vec::new()];
    let mut filled = 0_u64;
    for tensor in plan {
        let bytes = tensor.bytes as u64;
        let last = shards.len() - 1;
        if filled.saturating_add(bytes) > limit && !shards[last].is_empty() {
            shards.push(vec![tensor]);
            filled = bytes;
        } else {
            shards[last].push(tensor);
            filled += bytes;
        }
    }
    shards
}

/// Writes several files and, when they are complete, the index that names them.
fn write_shards(
    source: &dyn Source,
    dir: &Path,
    shards: &[Vec<Stored<'_>>],
    progress: &mut dyn FnMut(u64),
) -> Result<(), Error> {
    let mut weight_map = BTreeMap::new();
    let mut total = 0;
    for (number, shard) in shards.iter().enumerate() {
        let file = format!("model-{:05}-of-{:05}.safetensors", number + 1, shards.len());
        write_file(source, &dir.join(&file), shard, progress)?;
        for tensor in shard {
            weight_map.insert(&tensor.name, file.clone());
            total += tensor.bytes;
        }
    }
    let index = json!({ "metadata": { "total_size": total }, "weight_map": weight_map });
    let path = dir.join(INDEX_FILE);
    files::write_atomically(&path, |temporary| {
        std::fs::write(temporary, format!("{index:#}\n")).map_err(Error::io("write", &path))
    })
}

/// Writes one file, complete or not at all.
fn write_file(
    source: &dyn Source,
    path: &Path,
    tensors: &[Stored<'_>],
    progress: &mut dyn FnMut(u64),
) -> Result<(), Error> {
    let mut tensors: Vec<&Stored<'_>> = tensors.iter().collect();
    // The order of the safetensors library: widest type first, so that all are aligned.
    tensors.sort_by(|a, b| b.declared.cmp(&a.declared).then(a.name.cmp(&b.name)));
    let header = header(&tensors).map_err(|error| Error::Safetensors {
        path: path.to_owned(),
        reason: error.to_string(),
    })?;
    files::write_atomically(path, |temporary| {
        let failed = || Error::io("write", path);
        let mut file = BufWriter::new(File::create(temporary).map_err(failed())?);
        file.write_all(&header).map_err(failed())?;
        for tensor in &tensors {
            tensor.planned.stream(source, path, &mut |bytes| {
                progress(bytes.len() as u64);
                file.write_all(bytes).map_err(failed())
            })?;
        }
        file.flush().map_err(failed())
    })
}

/// Length and table of a file, padded so that the data behind it is aligned.
fn header(tensors: &[&Stored<'_>]) -> Result<Vec<u8>, SafeTensorError> {
    let mut offset = 0;
    let mut infos = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        let end = offset + tensor.bytes;
        let info = TensorInfo {
            dtype: tensor.declared,
            shape: tensor.shape.clone(),
            data_offsets: (offset, end),
        };
        infos.push((tensor.name.clone(), info));
        offset = end;
    }
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let table = Metadata::new(Some(metadata), infos)?;
    let mut text = serde_json::to_vec(&table)?;
    text.resize(text.len().next_multiple_of(8), b' ');
    let mut header = (text.len() as u64).to_le_bytes().to_vec();
    header.extend(text);
    Ok(header)
}
