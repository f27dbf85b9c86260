//! Writing: keys, the table of tensors, and the data, converted a few rows at a time.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use super::super::Dtype;
use super::super::blocks::Part;
use super::super::checkpoint::{Checkpoint, RowOrder};
use super::super::stream::{Planned, Source};
use super::header::kind;
use super::{ALIGNMENT, MAGIC, ROPE_FACTORS, TYPES, config, gguf_name};
use crate::{Config, Error, LayerType, Model, TensorSpec, files};

/// The forms that are written, by name.
const FORMS: &str = "f32, f16, bf16, q8_0, q4_0";
const VERSION: u32 = 3;

impl Model {
    /// Writes the model as a GGUF file, which appears complete or not at all.
    ///
    /// # Errors
    /// When the config is invalid, a weight is not finite or does not fit the form, the form is
    /// not one of f32, f16, bf16, q8_0 and q4_0 ([`Error::Form`]), or the file cannot be written.
    pub fn save_gguf(&self, path: &Path, dtype: Dtype) -> Result<(), Error> {
        write(self, &[], path, dtype, &mut |_| ())
    }
}

impl Checkpoint {
    /// Writes the model as a GGUF file, as [`Model::save_gguf`] does, without holding more than a
    /// few rows of it. Of another GGUF file the keys of the tokenizer are kept. `progress` is told
    /// how many bytes each step has written, of [`Checkpoint::gguf_bytes`].
    ///
    /// # Errors
    /// As [`Model::save_gguf`].
    pub fn save_gguf(
        &self,
        path: &Path,
        dtype: Dtype,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), Error> {
        write(self, &self.carried(), path, dtype, progress)
    }

    /// Bytes of the weights of a GGUF file of this form, headers left out.
    pub fn gguf_bytes(&self, dtype: Dtype) -> u64 {
        let specs = self.layout().tensors().iter();
        specs
            .map(|spec| Placed::new(spec, self.config(), dtype, 0).bytes as u64)
            .sum()
    }
}

fn write(
    source: &dyn Source,
    carried: &[&[u8]],
    path: &Path,
    dtype: Dtype,
    progress: &mut dyn FnMut(u64),
) -> Result<(), Error> {
    source.config().validate()?;
    let Some(number) = file_type(dtype) else {
        return Err(Error::Form {
            path: path.to_owned(),
            form: dtype.name(),
            choices: FORMS,
        });
    };
    let factors = rope_factors(source.config());
    let mut at = factors
        .as_ref()
        .map_or(0, |factors| 4 * factors.len())
        .next_multiple_of(ALIGNMENT);
    let mut placed = Vec::new();
    for spec in source.layout().tensors() {
        let tensor = Placed::new(spec, source.config(), dtype, at);
        at = (at + tensor.bytes).next_multiple_of(ALIGNMENT);
        placed.push(tensor);
    }
    let head = head(
        source.config(),
        carried,
        number,
        factors.as_deref(),
        &placed,
    );
    files::write_atomically(path, |temporary| {
        let failed = || Error::io("write", path);
        let mut file = BufWriter::new(File::create(temporary).map_err(failed())?);
        file.write_all(&head).map_err(failed())?;
        for tensor in &placed {
            tensor.planned.stream(source, path, &mut |bytes| {
                progress(bytes.len() as u64);
                file.write_all(bytes).map_err(failed())
            })?;
            let padding = tensor.bytes.next_multiple_of(ALIGNMENT) - tensor.bytes;
            file.write_all(&[0; ALIGNMENT][..padding])
                .map_err(failed())?;
        }
        file.flush().map_err(failed())
    })
}

/// llama.cpp's number for a file whose matrices have this form.
fn file_type(dtype: Dtype) -> Option<u32> {
    match dtype {
        Dtype::F32 => Some(0),
        Dtype::F16 => Some(1),
        Dtype::Q4_0 => Some(2),
        Dtype::Q8_0 => Some(7),
        Dtype::Bf16 => Some(32),
        _ => None,
    }
}

/// A tensor with its place in the data.
struct Placed<'a> {
    planned: Planned<'a>,
    name: String,
    offset: usize,
    bytes: usize,
}

impl<'a> Placed<'a> {
    fn new(spec: &'a TensorSpec, config: &Config, dtype: Dtype, offset: usize) -> Self {
        // llama.cpp wants norms in f32, and blocks only where rows are made of whole ones.
        let dtype = match dtype.row_bytes(spec.n_cols()) {
            _ if !spec.is_matrix() => Dtype::F32,
            None => Dtype::F16,
            Some(_) => dtype,
        };
        let row = dtype.row_bytes(spec.n_cols());
        let order = match spec.kind() {
            "q_proj" | "k_proj" => RowOrder::Pairs {
                head_dim: config.head_dim,
            },
            _ => RowOrder::Plain,
        };
        Self {
            planned: Planned {
                spec,
                dtype,
                part: Part::Data,
                order,
            },
            name: gguf_name(&spec.name).expect("every tensor of a layout has a name in GGUF"),
            offset,
            bytes: spec.n_rows() * row.expect("the form was chosen to have rows of this width"),
        }
    }
}

/// Whether a model is one that llama.cpp's `llama` computes.
fn is_llama(config: &Config) -> bool {
    config
        .layer_types
        .iter()
        .all(|kind| *kind == LayerType::Full)
        && config.n_previous_embeddings == 0
        && config.run_embedding.is_none()
}

/// What llama.cpp wants to know of RoPE's scaling, as a tensor.
fn rope_factors(config: &Config) -> Option<Vec<f32>> {
    config.rope.scaling.map(|_| config::scaling_factors(config))
}

fn head(
    config: &Config,
    carried: &[&[u8]],
    file_type: u32,
    factors: Option<&[f32]>,
    placed: &[Placed<'_>],
) -> Vec<u8> {
    let mut keys = keys(config, file_type);
    // A key begins with its length.
    let is_tokenizer = |entry: &&&[u8]| entry[8..].starts_with(b"tokenizer.");
    if carried.iter().find(is_tokenizer).is_none() {
        tokenizer_keys(config, &mut keys);
    }
    let mut out = MAGIC.to_vec();
    out.extend(VERSION.to_le_bytes());
    out.extend((placed.len() as u64 + u64::from(factors.is_some())).to_le_bytes());
    out.extend((keys.count + carried.len() as u64).to_le_bytes());
    out.extend(&keys.bytes);
    carried.iter().for_each(|entry| out.extend(*entry));
    if let Some(factors) = factors {
        put_tensor(&mut out, ROPE_FACTORS, &[factors.len()], Dtype::F32, 0);
    }
    for tensor in placed {
        let (shape, dtype) = (&tensor.planned.spec.shape, tensor.planned.dtype);
        put_tensor(&mut out, &tensor.name, shape, dtype, tensor.offset);
    }
    out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
    let factors = factors.unwrap_or_default();
    out.extend(factors.iter().flat_map(|factor| factor.to_le_bytes()));
    out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
    out
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

fn put_tensor(out: &mut Vec<u8>, name: &str, shape: &[usize], dtype: Dtype, offset: usize) {
    put_text(out, name);
    out.extend((shape.len() as u32).to_le_bytes());
    let dimensions = shape.iter().rev();
    dimensions.for_each(|size| out.extend((*size as u64).to_le_bytes()));
    let number = TYPES.iter().find(|(known, ..)| *known == dtype);
    let (_, number, _) = number.expect("what is written has a number");
    out.extend(number.to_le_bytes());
    out.extend((offset as u64).to_le_bytes());
}

/// Keys with their values, in bytes.
#[derive(Default)]
struct Keys {
    count: u64,
    bytes: Vec<u8>,
}

impl Keys {
    fn put(&mut self, key: &str, kind: u32, value: &[u8]) {
        self.count += 1;
        put_text(&mut self.bytes, key);
        self.bytes.extend(kind.to_le_bytes());
        self.bytes.extend(value);
    }

    fn number(&mut self, key: &str, value: usize) {
        // The limits of a valid config are those of 32 bits.
        self.put(key, kind::U32, &(value as u32).to_le_bytes());
    }

    /// As f32, which is what other readers expect, unless that would lose something.
    fn float(&mut self, key: &str, value: f64) {
        let narrow = value as f32;
        match f64::from(narrow) == value {
            true => self.put(key, kind::F32, &narrow.to_le_bytes()),
            false => self.put(key, kind::F64, &value.to_le_bytes()),
        }
    }

    fn text(&mut self, key: &str, value: &str) {
        let mut bytes = Vec::new();
        put_text(&mut bytes, value);
        self.put(key, kind::TEXT, &bytes);
    }

    fn list(&mut self, key: &str, kind: u32, len: usize, items: impl Iterator<Item = u8>) {
        let mut bytes = kind.to_le_bytes().to_vec();
        bytes.extend((len as u64).to_le_bytes());
        bytes.extend(items);
        self.put(key, kind::LIST, &bytes);
    }

    fn ids(&mut self, key: &str, ids: &[u32]) {
        let items = ids.iter().flat_map(|id| id.to_le_bytes());
        self.list(key, kind::U32, ids.len(), items);
    }
}

/// What the config says.
fn keys(config: &Config, file_type: u32) -> Keys {
    let name = if is_llama(config) { "llama" } else { "cwm" };
    let mut keys = Keys::default();
    keys.text("general.architecture", name);
    keys.number("general.alignment", ALIGNMENT);
    keys.number("general.file_type", file_type as usize);
    keys.number("general.quantization_version", 2);
    let sizes = [
        ("vocab_size", config.vocab_size),
        ("context_length", config.max_position_embeddings),
        ("embedding_length", config.hidden_size),
        ("block_count", config.n_layers),
        ("feed_forward_length", config.intermediate_size),
        ("attention.head_count", config.n_heads),
        ("attention.head_count_kv", config.n_kv_heads),
        ("attention.key_length", config.head_dim),
        ("attention.value_length", config.head_dim),
        ("rope.dimension_count", config.head_dim),
    ];
    for (key, size) in sizes {
        keys.number(&format!("{name}.{key}"), size);
    }
    let epsilon = format!("{name}.attention.layer_norm_rms_epsilon");
    keys.float(&epsilon, config.rms_norm_eps.into());
    keys.float(&format!("{name}.rope.freq_base"), config.rope.theta);
    if let Some(scaling) = config.rope.scaling {
        let key = |part: &str| format!("{}.{part}", config::SCALING);
        keys.float(&key("factor"), scaling.factor);
        keys.float(&key("low_freq_factor"), scaling.low_freq_factor);
        keys.float(&key("high_freq_factor"), scaling.high_freq_factor);
        let original = scaling.original_max_position_embeddings;
        keys.number(&key("original_context_length"), original);
    }
    if !is_llama(config) {
        own_keys(config, &mut keys);
    }
    keys.ids(config::EOS_IDS, &config.eos_token_id);
    keys
}

/// What `llama` has no words for.
fn own_keys(config: &Config, keys: &mut Keys) {
    if config.rope.scaling.is_some() {
        keys.text("cwm.rope.scaling.type", "llama3");
    }
    keys.number("cwm.attention.sliding_window", config.sliding_window);
    let slides = config
        .layer_types
        .iter()
        .map(|kind| u8::from(*kind == LayerType::Sliding));
    let pattern = "cwm.attention.sliding_window_pattern";
    keys.list(pattern, kind::BOOL, config.n_layers, slides);
    if config.n_previous_embeddings > 0 {
        keys.number("cwm.n_previous_embeddings", config.n_previous_embeddings);
    }
    if let Some(runs) = &config.run_embedding {
        keys.ids("cwm.run_embedding.kinds", runs.kinds.as_flattened());
        keys.number("cwm.run_embedding.n_places", runs.n_places);
    }
}

/// The ids that llama.cpp looks for, in a file without a tokenizer.
fn tokenizer_keys(config: &Config, keys: &mut Keys) {
    keys.text("tokenizer.ggml.model", "none");
    if let Some(id) = config.bos_token_id {
        keys.number("tokenizer.ggml.bos_token_id", id as usize);
    }
    if let Some(id) = config.eos_token_id.first() {
        keys.number("tokenizer.ggml.eos_token_id", *id as usize);
    }
}
