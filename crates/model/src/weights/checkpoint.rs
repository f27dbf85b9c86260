//! A model's weights where they lie: every tensor by its name, in the form it is stored in.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::blocks::decode_row;
use super::bytes::Bytes;
use super::dtype::NIBBLE_RUN;
use super::{Dtype, dcp, folder, gguf, identity, scales_name};
use crate::{Config, Error, Layout, TensorSpec};

/// A model on disk, opened for reading.
///
/// Once open, every tensor that the config calls for is there, with the right shape, in a form this
/// crate reads and with all its bytes, and there is no other. Values are not looked at: they may be
/// infinite or NaN ([`Model::load`](crate::Model::load) refuses those). The files are mapped, not
/// read; they may be replaced while a checkpoint is open, but must not be cut short.
#[derive(Debug)]
pub struct Checkpoint {
    config: Config,
    layout: Arc<Layout>,
    files: Vec<WeightsFile>,
    entries: BTreeMap<String, Entry>,
    notes: Vec<String>,
    carried: Vec<Range<usize>>,
}

/// A file of weights.
#[derive(Debug)]
pub(super) struct WeightsFile {
    pub(super) path: PathBuf,
    pub(super) bytes: Bytes,
}

/// What a reader of one format found, before it is compared with the config.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) config: Config,
    /// The file to blame for a missing tensor.
    pub(super) listing: PathBuf,
    pub(super) files: Vec<WeightsFile>,
    /// By Hugging Face's name. The bytes of a tensor in a [`Stored::As`] form have the length
    /// that form and shape call for.
    pub(super) tensors: BTreeMap<String, FoundTensor>,
    pub(super) notes: Vec<String>,
    /// Keys of the first file that a copy in the same format should have too.
    pub(super) carried: Vec<Range<usize>>,
}

#[derive(Debug)]
pub(super) struct FoundTensor {
    pub(super) stored: Stored,
    pub(super) shape: Vec<usize>,
    pub(super) order: RowOrder,
    pub(super) at: Bits,
}

/// Where the bytes of a tensor are.
#[derive(Clone, Debug)]
pub(super) enum Bits {
    Whole(Place),
    /// Rectangles that cover the tensor once, at least one.
    Pieces(Vec<Piece>),
}

/// A rectangle of a tensor; a norm is one row.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub(super) place: Place,
    pub(super) rows: Range<usize>,
    pub(super) cols: Range<usize>,
}

impl Bits {
    pub(super) fn places(&self) -> impl Iterator<Item = &Place> {
        let (whole, pieces) = match self {
            Self::Whole(place) => (Some(place), [].as_slice()),
            Self::Pieces(pieces) => (None, pieces.as_slice()),
        };
        whole
            .into_iter()
            .chain(pieces.iter().map(|piece| &piece.place))
    }

    /// The file of the first byte.
    fn file(&self) -> usize {
        self.places().next().map_or(0, |place| place.file)
    }
}

/// How a format's own header declares a tensor.
#[derive(Debug)]
pub(super) enum Stored {
    As(Dtype),
    /// Codes whose scales are another tensor.
    Int8Codes,
    Int4Codes,
    /// Under this name, which this crate does not read.
    Foreign(String),
}

/// Bytes of a file, by its index.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) file: usize,
    pub(super) range: Range<usize>,
}

/// The order of a tensor's rows in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RowOrder {
    Plain,
    /// Rows of a head that RoPE turns together, `j` and `j + head_dim / 2` of Hugging Face's
    /// order, are neighbours: stored as `2 j` and `2 j + 1`.
    Pairs {
        head_dim: usize,
    },
}

impl RowOrder {
    /// Where row `row` of Hugging Face's order is stored.
    pub(super) fn stored(self, row: usize) -> usize {
        match self {
            Self::Plain => row,
            Self::Pairs { head_dim } => {
                let (head, within) = (row / head_dim, row % head_dim);
                let (half, pair) = (within / (head_dim / 2), within % (head_dim / 2));
                head * head_dim + 2 * pair + half
            }
        }
    }

    /// Which row of Hugging Face's order is stored as row `row`.
    pub(super) fn unstored(self, row: usize) -> usize {
        match self {
            Self::Plain => row,
            Self::Pairs { head_dim } => {
                let (head, within) = (row / head_dim, row % head_dim);
                head * head_dim + within % 2 * (head_dim / 2) + within / 2
            }
        }
    }
}

#[derive(Debug)]
struct Entry {
    dtype: Dtype,
    shape: Vec<usize>,
    order: RowOrder,
    data: Bits,
    scales: Option<Place>,
}

/// One tensor in the form it is stored in.
#[derive(Clone, Debug)]
pub struct Tensor<'a> {
    /// How the values lie in [`data`](Tensor::data).
    pub dtype: Dtype,
    /// `[rows, columns]` of a matrix, `[length]` of a norm.
    pub shape: &'a [usize],
    /// All rows, put together where the file has them in pieces, in the order of the file, which for query and key matrices is not that of their
    /// heads in every format: [`Tensor::row`] and [`Tensor::rows`] put that right.
    pub data: Cow<'a, [u8]>,
    /// Scales of the forms that have them beside the codes ([`Dtype::scales`]), a row's after the
    /// other's; else empty.
    pub scales: &'a [u8],
    name: &'a str,
    order: RowOrder,
}

impl Checkpoint {
    /// Opens the model at `path`: a GGUF file; a folder with Hugging Face's `config.json` and
    /// `model.safetensors` (or the shards that `model.safetensors.index.json` names); or a folder
    /// with Meta's `params.json`, `.metadata` and `.distcp` files.
    ///
    /// # Errors
    /// When a file is missing, truncated, foreign or damaged, or a tensor is missing, unknown, of
    /// the wrong shape or in an unknown form. The message names the file and the tensor.
    pub fn open(path: &Path) -> Result<Self, Error> {
        if !path.is_file() {
            return Self::checked(match dcp::is_dcp(path) {
                true => dcp::read(path)?,
                false => folder::read(path)?,
            });
        }
        let bytes = Bytes::map(path)?;
        if !gguf::is_gguf(&bytes) {
            return Err(Error::UnknownForm {
                path: path.to_owned(),
                reason: "it is no GGUF file; of safetensors, name the folder with config.json"
                    .to_owned(),
            });
        }
        Self::checked(gguf::read(path.to_owned(), bytes)?)
    }

    /// A checkpoint in memory: the bytes of a GGUF file.
    ///
    /// # Errors
    /// As [`Checkpoint::open`]; the messages call the file `<memory>`.
    pub fn from_gguf(bytes: Vec<u8>) -> Result<Self, Error> {
        Self::checked(gguf::read(PathBuf::from(IN_MEMORY), Bytes::Owned(bytes))?)
    }

    /// A checkpoint in memory: the bytes of one safetensors file for a model of this config.
    ///
    /// # Errors
    /// As [`Checkpoint::open`]; the messages call the file `<memory>`.
    pub fn from_safetensors(config: Config, bytes: Vec<u8>) -> Result<Self, Error> {
        config.validate()?;
        let path = PathBuf::from(IN_MEMORY);
        let file = WeightsFile {
            path: path.clone(),
            bytes: Bytes::Owned(bytes),
        };
        Self::checked(folder::found(config, path, vec![file])?)
    }

    /// The architecture.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Where each tensor lies among a model's parameters.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// Names of all tensors, as Hugging Face has them, whatever the format.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// What a user of these weights should be told.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Bytes of all weights.
    pub fn bytes(&self) -> u64 {
        let places = (self.entries.values()).flat_map(|e| e.data.places().chain(&e.scales));
        places.map(|place| place.range.len() as u64).sum()
    }

    /// 64 hexadecimal digits that change when the weights do, to find again what was made of them;
    /// `None` of a checkpoint in memory, or where the system does not say when a file was changed.
    ///
    /// They are the SHA-256 of the config, of where each tensor lies, and for each file of its
    /// absolute path, length, time of the last change and 64 KiB of samples, all but the samples
    /// as they were when it was opened. The rest of the files is not read.
    pub fn identity(&self) -> Option<String> {
        identity::of(&self.config, &self.files, &self.entries)
    }

    /// The tensor of this name.
    ///
    /// # Errors
    /// [`Error::MissingTensor`] for a name that the model has no tensor of.
    pub fn tensor(&self, name: &str) -> Result<Tensor<'_>, Error> {
        let (name, entry) = self.entry(name)?;
        let data = match &entry.data {
            Bits::Whole(place) => Cow::Borrowed(self.bytes_at(place)),
            Bits::Pieces(pieces) => Cow::Owned(self.assembled(entry, pieces)),
        };
        Ok(Tensor {
            dtype: entry.dtype,
            shape: &entry.shape,
            data,
            scales: (entry.scales.as_ref()).map_or(&[], |place| self.bytes_at(place)),
            name,
            order: entry.order,
        })
    }

    fn bytes_at(&self, place: &Place) -> &[u8] {
        &self.files[place.file].bytes[place.range.clone()]
    }

    /// A tensor of floats put together from its pieces, which cover it.
    fn assembled(&self, entry: &Entry, pieces: &[Piece]) -> Vec<u8> {
        let cols = entry.shape.last().copied().unwrap_or(1);
        let row = entry.dtype.row_bytes(cols);
        let row = row.expect("floats have rows of any width that was found in a file");
        let (width, rows) = (row / cols, entry.shape.iter().product::<usize>() / cols);
        let mut data = vec![0; rows * row];
        for piece in pieces {
            let from = self.bytes_at(&piece.place);
            let span = piece.cols.start * width..piece.cols.end * width;
            let lines = from.chunks_exact(span.len());
            for (to, from) in data.chunks_exact_mut(row).skip(piece.rows.start).zip(lines) {
                to[span.clone()].copy_from_slice(from);
            }
        }
        data
    }

    /// Keys that a GGUF file made of this one should have too.
    pub(super) fn carried(&self) -> Vec<&[u8]> {
        let ranges = self.carried.iter();
        ranges
            .map(|range| &self.files[0].bytes[range.clone()])
            .collect()
    }

    /// The file that a tensor lies in.
    pub(super) fn file_of(&self, name: &str) -> Result<&Path, Error> {
        let (_, entry) = self.entry(name)?;
        Ok(&self.files[entry.data.file()].path)
    }

    fn entry(&self, name: &str) -> Result<(&str, &Entry), Error> {
        match self.entries.get_key_value(name) {
            Some((name, entry)) => Ok((name, entry)),
            None => Err(Error::MissingTensor {
                path: self.files[0].path.clone(),
                tensor: name.to_owned(),
            }),
        }
    }

    /// Compares what was found with what the config calls for.
    pub(super) fn checked(found: Found) -> Result<Self, Error> {
        let layout = Layout::new(&found.config);
        let mut entries = BTreeMap::new();
        let mut known = BTreeSet::new();
        for spec in layout.tensors() {
            let tensor = found.tensor(&spec.name)?;
            found.check_shape(&spec.name, tensor, &tensor.stored_shape(spec))?;
            known.insert(spec.name.clone());
            let (dtype, scales) = found.form(spec, tensor, &mut known)?;
            let entry = Entry {
                dtype,
                shape: spec.shape.clone(),
                order: tensor.order,
                data: tensor.at.clone(),
                scales,
            };
            entries.insert(spec.name.clone(), entry);
        }
        let mut names = found.tensors.iter();
        if let Some((name, tensor)) = names.find(|(name, _)| !known.contains(*name)) {
            return Err(Error::ExtraTensor {
                path: found.path_of(tensor),
                tensor: name.clone(),
            });
        }
        Ok(Self {
            config: found.config,
            layout: Arc::new(layout),
            files: found.files,
            entries,
            notes: found.notes,
            carried: found.carried,
        })
    }
}

/// The name of a file that is none.
pub(super) const IN_MEMORY: &str = "<memory>";

impl FoundTensor {
    /// The shape in which a tensor is declared if it is the one of `spec`: packed codes have
    /// columns of bytes.
    fn stored_shape(&self, spec: &TensorSpec) -> Vec<usize> {
        match (&self.stored, &spec.shape[..]) {
            (Stored::Int4Codes, &[rows, cols]) => {
                vec![rows, cols.div_ceil(NIBBLE_RUN) * (NIBBLE_RUN / 2)]
            }
            (_, shape) => shape.to_vec(),
        }
    }
}

impl Found {
    fn tensor(&self, name: &str) -> Result<&FoundTensor, Error> {
        self.tensors.get(name).ok_or_else(|| Error::MissingTensor {
            path: self.listing.clone(),
            tensor: name.to_owned(),
        })
    }

    fn path_of(&self, tensor: &FoundTensor) -> PathBuf {
        self.files[tensor.at.file()].path.clone()
    }

    fn check_shape(
        &self,
        name: &str,
        tensor: &FoundTensor,
        expected: &[usize],
    ) -> Result<(), Error> {
        if tensor.shape == expected {
            return Ok(());
        }
        Err(Error::Shape {
            path: self.path_of(tensor),
            tensor: name.to_owned(),
            expected: expected.to_vec(),
            found: tensor.shape.clone(),
        })
    }

    /// The form of a tensor and its scales, whose names join those known.
    fn form(
        &self,
        spec: &TensorSpec,
        tensor: &FoundTensor,
        known: &mut BTreeSet<String>,
    ) -> Result<(Dtype, Option<Place>), Error> {
        let (candidates, rows, cols): (&[Dtype], _, _) = match (&tensor.stored, &spec.shape[..]) {
            (Stored::As(dtype), _) => return Ok((*dtype, None)),
            (Stored::Int8Codes, &[rows, cols]) => (&[Dtype::Int8Group32], rows, cols),
            (Stored::Int4Codes, &[rows, cols]) => (&INT4_FORMS, rows, cols),
            _ => return Err(self.dtype_error(&spec.name, tensor, FLOATS_OR_CODES)),
        };
        let scales_name = scales_name(&spec.name);
        let scales = self.tensor(&scales_name)?;
        let groups = |dtype: Dtype| dtype.scales().map_or(0, |(group, _)| cols.div_ceil(group));
        // Where both widths of group make the same number of scales there is one for a row, and
        // both mean the same.
        let fits = |dtype: &Dtype| scales.shape == [rows, groups(*dtype)];
        let smallest = candidates[candidates.len() - 1];
        let dtype = candidates.iter().copied().find(fits).unwrap_or(smallest);
        self.check_shape(&scales_name, scales, &[rows, groups(dtype)])?;
        let (_, of_scales) = dtype.scales().expect("candidates have scales");
        match (&scales.stored, &scales.at) {
            (Stored::As(stored), Bits::Whole(place)) if *stored == of_scales => {
                known.insert(scales_name);
                Ok((dtype, Some(place.clone())))
            }
            _ => {
                let expected = if of_scales == Dtype::F32 {
                    "F32"
                } else {
                    "F16"
                };
                Err(self.dtype_error(&scales_name, scales, expected))
            }
        }
    }

    fn dtype_error(&self, name: &str, tensor: &FoundTensor, expected: &'static str) -> Error {
        Error::Dtype {
            path: self.path_of(tensor),
            tensor: name.to_owned(),
            found: match &tensor.stored {
                Stored::As(dtype) => dtype.name().to_owned(),
                Stored::Int8Codes => "I8".to_owned(),
                Stored::Int4Codes => "U8".to_owned(),
                Stored::Foreign(name) => name.clone(),
            },
            expected,
        }
    }
}

const INT4_FORMS: [Dtype; 2] = [Dtype::Int4Group128, Dtype::Int4Group32];
const FLOATS_OR_CODES: &str = "F32, BF16, F16, or for a matrix I8 or U8 with scales, or GGUF's \
                               Q8_0, Q4_0, Q4_1, Q4_K, Q6_K";

impl Tensor<'_> {
    /// Number of rows; a norm is one row.
    pub fn n_rows(&self) -> usize {
        match *self.shape {
            [rows, _] => rows,
            _ => 1,
        }
    }

    /// Values in a row.
    pub fn n_cols(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// Bytes of the values, scales included.
    pub fn bytes(&self) -> u64 {
        (self.data.len() + self.scales.len()) as u64
    }

    /// The bytes of row `row`, in the order of Hugging Face's tensor, and of its scales where they
    /// lie beside the codes.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn row(&self, row: usize) -> (&[u8], &[u8]) {
        let rows = self.n_rows();
        assert!(row < rows, "row {row} of {rows} of tensor `{}`", self.name);
        let stored = self.order.stored(row);
        let part = |bytes| {
            let bytes: &[u8] = bytes;
            let width = bytes.len() / rows;
            &bytes[stored * width..(stored + 1) * width]
        };
        (part(&self.data), part(self.scales))
    }

    /// Dequantises `rows` into `out`, row after row.
    ///
    /// # Errors
    /// [`Error::Rows`] when the tensor has no such rows or `out` is not as long as they are.
    pub fn rows(&self, rows: Range<usize>, out: &mut [f32]) -> Result<(), Error> {
        let cols = self.n_cols();
        let fits = rows.end <= self.n_rows()
            && rows.start <= rows.end
            && out.len() == rows.len().saturating_mul(cols);
        if !fits {
            return Err(Error::Rows {
                tensor: self.name.to_owned(),
                shape: self.shape.to_vec(),
                start: rows.start,
                end: rows.end,
                len: out.len(),
            });
        }
        for (row, out) in rows.zip(out.chunks_exact_mut(cols)) {
            let (data, scales) = self.row(row);
            decode_row(self.dtype, data, scales, out);
        }
        Ok(())
    }
}
