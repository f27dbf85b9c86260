//! Meta's layout: `params.json`, and a checkpoint of PyTorch's `torch.distributed.checkpoint`.
//!
//! `.metadata` is a pickle that says which rectangle of which tensor lies where in which
//! `.distcp` file; there, each is a zip archive as `torch.save` writes it. Pickles are read as data
//! (see `pickle`): nothing in them is called. Names are translated to Hugging Face's, and the rows of
//! query and key matrices, of which RoPE here turns neighbours, are put in order. What does not belong
//! to the model, such as the state of an optimiser, is passed over.

mod params;
mod pickle;
mod zip;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use self::params::Params;
use self::pickle::{Id, Node, Tree};
use super::Dtype;
use super::bytes::Bytes;
use super::checkpoint::{Bits, Found, FoundTensor, Piece, Place, RowOrder, Stored, WeightsFile};
use crate::{CONFIG_FILE, Error};

const METADATA_FILE: &str = ".metadata";
const PARAMS_FILE: &str = "params.json";
/// What stands before the names of the model's tensors.
const MODEL: &str = "model.";

/// Meta's and Hugging Face's names of a layer's tensors, `.weight` left out.
const LAYER_NAMES: [(&str, &str); 9] = [
    ("attention_norm", "input_layernorm"),
    ("attention.wq", "self_attn.q_proj"),
    ("attention.wk", "self_attn.k_proj"),
    ("attention.wv", "self_attn.v_proj"),
    ("attention.wo", "self_attn.o_proj"),
    ("ffn_norm", "post_attention_layernorm"),
    ("feed_forward.w1", "mlp.gate_proj"),
    ("feed_forward.w3", "mlp.up_proj"),
    ("feed_forward.w2", "mlp.down_proj"),
];
const NAMES: [(&str, &str); 3] = [
    ("tok_embeddings", "model.embed_tokens"),
    ("norm", "model.norm"),
    ("output", "lm_head"),
];

/// Whether a folder looks like one of Meta's.
pub(super) fn is_dcp(dir: &Path) -> bool {
    dir.join(METADATA_FILE).is_file() && !dir.join(CONFIG_FILE).exists()
}

/// Maps a folder's files and reads where everything is.
pub(super) fn read(dir: &Path) -> Result<Found, Error> {
    let params_path = dir.join(PARAMS_FILE);
    let text = std::fs::read(&params_path).map_err(Error::io("read", &params_path))?;
    let params: Params = serde_json::from_slice(&text).map_err(|source| Error::ConfigSyntax {
        path: params_path.clone(),
        source,
    })?;
    let listing = dir.join(METADATA_FILE);
    let bytes = Bytes::map(&listing)?;
    let declared = declared(&bytes).map_err(blame(&listing))?;
    let width = inner_width(&declared).map_err(blame(&listing))?;
    let config = params.config(width).map_err(blame(&params_path))?;
    config.validate()?;

    let mut files = Files::new(dir);
    let mut tensors = BTreeMap::new();
    for (name, tensor) in declared {
        let pieces = files.pieces(&tensor)?;
        check_cover(&tensor, &pieces).map_err(blame(&listing))?;
        let is_rotated = name.ends_with("q_proj.weight") || name.ends_with("k_proj.weight");
        let order = match is_rotated {
            true => RowOrder::Pairs {
                head_dim: config.head_dim,
            },
            false => RowOrder::Plain,
        };
        let found = FoundTensor {
            stored: tensor.stored(),
            shape: tensor.shape,
            order,
            at: Bits::Pieces(pieces),
        };
        tensors.insert(name, found);
    }
    check_apart(&tensors).map_err(blame(&listing))?;
    Ok(Found {
        config,
        listing,
        files: files.files,
        tensors,
        notes: Vec::new(),
        carried: Vec::new(),
    })
}

fn blame(path: &Path) -> impl Fn(String) -> Error {
    let path = path.to_owned();
    move |reason| Error::Dcp {
        path: path.clone(),
        reason,
    }
}

/// A tensor as `.metadata` has it.
struct Declared {
    /// PyTorch's type, such as `torch.bfloat16`.
    kind: String,
    shape: Vec<usize>,
    chunks: Vec<Chunk>,
}

/// A rectangle of a tensor, and the archive it lies in.
struct Chunk {
    offsets: Vec<usize>,
    sizes: Vec<usize>,
    file: String,
    range: Range<usize>,
}

impl Declared {
    fn dtype(&self) -> Option<Dtype> {
        match self.kind.as_str() {
            "torch.float32" => Some(Dtype::F32),
            "torch.float16" => Some(Dtype::F16),
            "torch.bfloat16" => Some(Dtype::Bf16),
            _ => None,
        }
    }

    fn stored(&self) -> Stored {
        match self.dtype() {
            Some(dtype) => Stored::As(dtype),
            None => Stored::Foreign(self.kind.clone()),
        }
    }
}

/// The model's tensors by Hugging Face's name.
fn declared(metadata: &[u8]) -> Result<BTreeMap<String, Declared>, String> {
    let tree = Tree::parse(metadata)?;
    let strange = || "it is not metadata of `torch.distributed.checkpoint`".to_owned();
    let state = tree.state(tree.root(), "Metadata").ok_or_else(strange)?;
    let part = |name| tree.get(state, name).and_then(|part| tree.entries(part));
    let tensors = part("state_dict_metadata").ok_or_else(strange)?;
    let places = places(&tree, part("storage_data").ok_or_else(strange)?).ok_or_else(strange)?;
    let mut declared = BTreeMap::new();
    for (key, value) in tensors {
        let key = tree.text(*key).ok_or_else(strange)?;
        let Some(own) = key.strip_prefix(MODEL) else {
            continue;
        };
        let tensor = tensor(&tree, key, *value, &places);
        let tensor = tensor.ok_or_else(|| format!("what it says of `{key}` is not understood"))?;
        // A name that is none of ours is kept, and refused as not belonging to the model.
        let name = hugging_face_name(own).unwrap_or_else(|| key.to_owned());
        if declared.insert(name, tensor).is_some() {
            return Err(format!("tensor `{key}` is there twice"));
        }
    }
    Ok(declared)
}

/// By tensor and offsets: file, first byte and length.
type Places = BTreeMap<(String, Vec<usize>), (String, usize, usize)>;

fn places(tree: &Tree, entries: &[(Id, Id)]) -> Option<Places> {
    let mut places = BTreeMap::new();
    for (key, value) in entries {
        let (key, value) = (
            tree.state(*key, "MetadataIndex")?,
            tree.state(*value, "_StorageInfo")?,
        );
        let name = tree.text(tree.get(key, "fqn")?)?.to_owned();
        // Objects that are no tensors have no offsets.
        let offsets = tree.get(key, "offset").and_then(|at| tree.sizes(at));
        let Some(offsets) = offsets else {
            continue;
        };
        let file = tree.text(tree.get(value, "relative_path")?)?.to_owned();
        let begin = tree.whole(tree.get(value, "offset")?)?;
        let len = tree.whole(tree.get(value, "length")?)?;
        places.insert((name, offsets), (file, begin, len));
    }
    Some(places)
}

fn tensor(tree: &Tree, key: &str, value: Id, places: &Places) -> Option<Declared> {
    let state = tree.state(value, "TensorStorageMetadata")?;
    let properties = tree.state(tree.get(state, "properties")?, "TensorProperties")?;
    let kind = tree.global(*tree.items(properties)?.first()?)?.to_owned();
    let mut chunks = Vec::new();
    for chunk in tree.items(tree.get(state, "chunks")?)? {
        let chunk = tree.state(*chunk, "ChunkStorageMetadata")?;
        let offsets = tree.sizes(tree.get(chunk, "offsets")?)?;
        let (file, begin, len) = places.get(&(key.to_owned(), offsets.clone()))?;
        chunks.push(Chunk {
            offsets,
            sizes: tree.sizes(tree.get(chunk, "sizes")?)?,
            file: file.clone(),
            range: *begin..begin.checked_add(*len)?,
        });
    }
    Some(Declared {
        kind,
        shape: tree.sizes(tree.get(state, "size")?)?,
        chunks,
    })
}

fn hugging_face_name(own: &str) -> Option<String> {
    let stem = own.strip_suffix(".weight")?;
    let find = |names: &[(&str, &'static str)], stem: &str| {
        let found = names.iter().find(|(name, _)| *name == stem);
        found.map(|(_, name)| *name)
    };
    if let Some(name) = find(&NAMES, stem) {
        return Some(format!("{name}.weight"));
    }
    let (layer, part) = stem.strip_prefix("layers.")?.split_once('.')?;
    let layer: u32 = layer.parse().ok()?;
    let part = find(&LAYER_NAMES, part)?;
    Some(format!("model.layers.{layer}.{part}.weight"))
}

/// The width of the feed-forward, which `params.json` has only the ingredients of.
fn inner_width(declared: &BTreeMap<String, Declared>) -> Result<usize, String> {
    let gate = declared.get("model.layers.0.mlp.gate_proj.weight");
    match gate.map(|gate| &gate.shape[..]) {
        Some(&[rows, _]) => Ok(rows),
        _ => Err("it lacks the matrix `model.layers.0.feed_forward.w1.weight`".to_owned()),
    }
}

/// The mapped files of a folder.
struct Files<'a> {
    dir: &'a Path,
    files: Vec<WeightsFile>,
}

impl<'a> Files<'a> {
    fn new(dir: &'a Path) -> Self {
        Self {
            dir,
            files: Vec::new(),
        }
    }

    /// The number of a file, which is mapped at its first use.
    fn open(&mut self, name: &str) -> Result<usize, Error> {
        // A file of this folder; anything else would let metadata read from elsewhere.
        if Path::new(name).file_name() != Some(name.as_ref()) {
            let listing = self.dir.join(METADATA_FILE);
            return Err(blame(&listing)(format!(
                "`{name}` is not a plain file name"
            )));
        }
        let path: PathBuf = self.dir.join(name);
        if let Some(file) = self.files.iter().position(|file| file.path == path) {
            return Ok(file);
        }
        let bytes = Bytes::map(&path)?;
        self.files.push(WeightsFile { path, bytes });
        Ok(self.files.len() - 1)
    }

    fn pieces(&mut self, tensor: &Declared) -> Result<Vec<Piece>, Error> {
        let mut pieces = Vec::with_capacity(tensor.chunks.len());
        for chunk in &tensor.chunks {
            let file = self.open(&chunk.file)?;
            let WeightsFile { path, bytes } = &self.files[file];
            let archive = bytes.get(chunk.range.clone()).ok_or_else(|| {
                blame(path)("it ends before a tensor of it; copy or download it again".to_owned())
            })?;
            let within = data_of(archive, tensor, chunk).map_err(blame(path))?;
            let begin = chunk.range.start;
            let place = Place {
                file,
                range: begin + within.start..begin + within.end,
            };
            pieces.push(piece(chunk, place));
        }
        Ok(pieces)
    }
}

fn piece(chunk: &Chunk, place: Place) -> Piece {
    let span = |dimension: usize| {
        let begin = chunk.offsets[dimension];
        // Checked to lie within the shape by `check_cover`.
        begin..begin.saturating_add(chunk.sizes[dimension])
    };
    let (rows, cols) = match chunk.sizes.len() {
        2 => (span(0), span(1)),
        _ => (0..1, span(0)),
    };
    Piece { place, rows, cols }
}

/// Where in its archive the values of a chunk are.
fn data_of(archive: &[u8], tensor: &Declared, chunk: &Chunk) -> Result<Range<usize>, String> {
    let Some(dtype) = tensor.dtype() else {
        // Refused by its type later.
        return Ok(0..0);
    };
    if !matches!(chunk.sizes.len(), 1 | 2) || chunk.offsets.len() != chunk.sizes.len() {
        return Err("a tensor of it is no matrix and no norm".to_owned());
    }
    let files = zip::files(archive)?;
    let find = |end: &str| files.iter().find(|(name, _)| name.ends_with(end));
    let (name, pickled) = find("/data.pkl").ok_or("it has a tensor without `data.pkl`")?;
    let folder = name.trim_end_matches("data.pkl");
    let tree = Tree::parse(&archive[pickled.clone()])?;
    let (key, first) = saved(&tree, dtype, chunk)
        .ok_or("it has a tensor that is not stored as its metadata says")?;
    let (_, data) = find(&format!("{folder}data/{key}")).ok_or("it has a tensor without data")?;
    let width = dtype.row_bytes(1).unwrap_or(1);
    let size = chunk
        .sizes
        .iter()
        .try_fold(width, |bytes, n| bytes.checked_mul(*n));
    let begin = first
        .checked_mul(width)
        .and_then(|begin| begin.checked_add(data.start));
    let range = begin
        .zip(size)
        .and_then(|(begin, size)| Some(begin..begin.checked_add(size)?));
    range
        .filter(|range| range.end <= data.end)
        .ok_or_else(|| "it has a tensor whose data is cut short".to_owned())
}

/// The storage of a saved tensor and its first element there, if it is the one that the metadata
/// announces, row after row.
fn saved<'a>(tree: &'a Tree, dtype: Dtype, chunk: &Chunk) -> Option<(&'a str, usize)> {
    let arguments = tree.arguments(tree.root(), "torch._utils._rebuild_tensor_v2")?;
    let [storage, first, sizes, strides, ..] = arguments else {
        return None;
    };
    let Node::Outside(key) = tree.node(*storage) else {
        return None;
    };
    let [_, class, key, ..] = tree.items(*key)? else {
        return None;
    };
    let expected = match dtype {
        Dtype::F16 => "torch.HalfStorage",
        Dtype::Bf16 => "torch.BFloat16Storage",
        _ => "torch.FloatStorage",
    };
    let is_dense = match (&chunk.sizes[..], &tree.wholes(*strides)?[..]) {
        ([_], [1]) => true,
        ([rows, cols], [row, 1]) => row == cols || *rows == 1,
        ([_, 1], [1, _]) => true,
        _ => false,
    };
    let agrees =
        tree.global(*class)? == expected && tree.wholes(*sizes)? == chunk.sizes && is_dense;
    agrees.then_some((tree.text(*key)?, tree.whole(*first)?))
}

/// Most pieces of one tensor: each is compared with the others.
const MOST_PIECES: usize = 4096;

/// Makes sure that the pieces of a tensor cover it once.
fn check_cover(tensor: &Declared, pieces: &[Piece]) -> Result<(), String> {
    let (rows, cols) = match tensor.shape[..] {
        [rows, cols] => (rows, cols),
        [cols] => (1, cols),
        _ => {
            return Err(format!(
                "a tensor of shape {:?} is none of the model's",
                tensor.shape
            ));
        }
    };
    let wrong = || {
        Err(format!(
            "the pieces of a tensor of shape {:?} do not make it up",
            tensor.shape
        ))
    };
    let mut covered = 0_usize;
    for (number, piece) in pieces.iter().enumerate() {
        let apart = |a: &Range<usize>, b: &Range<usize>| a.end <= b.start || b.end <= a.start;
        let overlaps =
            |other: &Piece| !apart(&piece.rows, &other.rows) && !apart(&piece.cols, &other.cols);
        let is_inside = piece.rows.end <= rows && piece.cols.end <= cols;
        let is_empty = piece.rows.is_empty() || piece.cols.is_empty();
        if number >= MOST_PIECES || !is_inside || is_empty || pieces[..number].iter().any(overlaps)
        {
            return wrong();
        }
        covered = covered.saturating_add(piece.rows.len().saturating_mul(piece.cols.len()));
    }
    match covered == rows.saturating_mul(cols) && !pieces.is_empty() {
        true => Ok(()),
        false => wrong(),
    }
}

/// Makes sure that no two pieces share bytes: else a small file could describe a model of any size.
fn check_apart(tensors: &BTreeMap<String, FoundTensor>) -> Result<(), String> {
    let mut places = Vec::new();
    for (name, tensor) in tensors {
        places.extend(
            tensor
                .at
                .places()
                .map(|place| (place.file, place.range.clone(), name)),
        );
    }
    places.sort_by_key(|(file, range, _)| (*file, range.start, range.end));
    for pair in places.windows(2) {
        let [(file, range, name), (next_file, next, other)] = pair else {
            continue;
        };
        if file == next_file && next.start < range.end {
            return Err(format!("tensors `{name}` and `{other}` share bytes"));
        }
    }
    Ok(())
}
