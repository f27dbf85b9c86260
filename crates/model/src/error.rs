//! Every way this crate can refuse: each message says which file, tensor or
//! row is wrong, what was expected and, where it is not obvious, what to do.

use std::path::PathBuf;

/// What went wrong while reading, writing or running a model.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// `read`, `write`, …
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// A `config.json` that is not JSON, or lacks or mistypes a field.
    #[error("{} is not a usable model config: {source}", path.display())]
    ConfigSyntax {
        /// The file.
        path: PathBuf,
        /// Field and position.
        source: serde_json::Error,
    },
    /// A config whose values do not describe a model this crate can run.
    #[error("{}unusable model config: {reason}", path.as_ref().map(|p| format!("{}: ", p.display())).unwrap_or_default())]
    Config {
        /// The file, if the config came from one.
        path: Option<PathBuf>,
        /// Which field, which value, and what is allowed.
        reason: String,
    },
    /// A weights file that is not complete, well-formed safetensors.
    #[error("{} is not a complete safetensors file ({reason}); copy or download it again", path.display())]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// What the parser found.
        reason: String,
    },
    /// A GGUF file that is damaged, or of a model this crate does not implement.
    #[error("{} is not a usable GGUF file: {reason}", path.display())]
    Gguf {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A checkpoint in Meta's layout that is damaged, or of a model this crate does not implement.
    #[error("{} cannot be used: {reason}", path.display())]
    Dcp {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A `model.safetensors.index.json` that cannot be followed.
    #[error("{} is not a usable index of shards: {reason}", path.display())]
    Index {
        /// The index file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// No weights in the folder.
    #[error("{} has neither model.safetensors nor model.safetensors.index.json", dir.display())]
    NoWeights {
        /// The model folder.
        dir: PathBuf,
    },
    /// A tensor the config calls for is in none of the weights files.
    #[error("{}: tensor `{tensor}` is missing, but the model's config calls for it", path.display())]
    MissingTensor {
        /// The weights file or index.
        path: PathBuf,
        /// Name of the tensor.
        tensor: String,
    },
    /// A tensor the config does not call for.
    #[error("{}: tensor `{tensor}` is not part of the model that its config describes", path.display())]
    ExtraTensor {
        /// The weights file.
        path: PathBuf,
        /// Name of the tensor.
        tensor: String,
    },
    /// A tensor that two shards carry.
    #[error("{}: tensor `{tensor}` is also in another shard", path.display())]
    DuplicateTensor {
        /// The second file.
        path: PathBuf,
        /// Name of the tensor.
        tensor: String,
    },
    /// A tensor of another shape than the config calls for.
    #[error("{}: tensor `{tensor}` has shape {found:?}, but the model's config calls for {expected:?}{}", path.display(), shape_hint(tensor))]
    Shape {
        /// The weights file.
        path: PathBuf,
        /// Name of the tensor.
        tensor: String,
        /// Shape the config calls for.
        expected: Vec<usize>,
        /// Shape in the file.
        found: Vec<usize>,
    },
    /// A tensor stored in a type this crate does not read.
    #[error("{}: tensor `{tensor}` is stored as {found}; expected {expected}", path.display())]
    Dtype {
        /// The weights file.
        path: PathBuf,
        /// Name of the tensor.
        tensor: String,
        /// Type in the file.
        found: String,
        /// Types that would do.
        expected: &'static str,
    },
    /// A tensor with infinities or NaN, as a diverged run leaves behind.
    #[error("{}: tensor `{tensor}` holds {value} at index {index}; the run that made it diverged or the file is damaged", path.display())]
    NotFinite {
        /// The weights file.
        path: PathBuf,
        /// Name of the tensor.
        tensor: String,
        /// First element that is not finite, counted along the rows.
        index: usize,
        /// What stands there.
        value: f32,
    },
    /// A path at which there is no form of weights that this crate reads.
    #[error("{} is no model that can be read: {reason}", path.display())]
    UnknownForm {
        /// The file or folder.
        path: PathBuf,
        /// What was found, and what would do.
        reason: String,
    },
    /// Rows of a tensor that it does not have, or a buffer of another size.
    #[error("cannot read rows {start}..{end} of tensor `{tensor}` {shape:?} into {len} values")]
    Rows {
        /// Name of the tensor.
        tensor: String,
        /// Its shape.
        shape: Vec<usize>,
        /// First row asked for.
        start: usize,
        /// Row after the last asked for.
        end: usize,
        /// Length of the buffer.
        len: usize,
    },
    /// A form that the writer in question does not have.
    #[error("{} cannot hold {form} weights; choose one of {choices}", path.display())]
    Form {
        /// What was to be written.
        path: PathBuf,
        /// The form asked for.
        form: &'static str,
        /// Those there are.
        choices: &'static str,
    },
    /// A weight beyond the range of the form it was to be written in.
    #[error("{}: tensor `{tensor}` holds {value} at index {index}, which {form} cannot hold; choose bf16 or f32", path.display())]
    Overflow {
        /// The file that was to be written.
        path: PathBuf,
        /// Name of the tensor.
        tensor: String,
        /// The first such element, counted along the rows.
        index: usize,
        /// What stands there.
        value: f32,
        /// The form asked for.
        form: &'static str,
    },
    /// A row of tokens that does not fit the model or itself.
    #[error("unusable row: {0}")]
    Row(#[from] RowError),
    /// A gradient buffer of another length than the parameters.
    #[error("gradient buffer has {found} values; this model has {expected} parameters")]
    GradientLength {
        /// Number of parameters.
        expected: usize,
        /// Length of the buffer.
        found: usize,
    },
}

impl Error {
    pub(crate) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}

/// The commonest cause of a wrong shape deserves a word of its own.
fn shape_hint(tensor: &str) -> &'static str {
    if tensor.ends_with("embed_tokens.weight") || tensor.starts_with("lm_head") {
        " [vocab_size, hidden_size]; weights and config are from different models"
    } else {
        ""
    }
}

/// Why a [`Row`](crate::Row) cannot be run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// No tokens.
    #[error("it has no tokens")]
    Empty,
    /// Parallel lists of different lengths.
    #[error("it has {ids} ids but {found} {what}")]
    Length {
        /// `positions` or `spans`.
        what: &'static str,
        /// Number of ids.
        ids: usize,
        /// Length of the other list.
        found: usize,
    },
    /// A token outside the vocabulary.
    #[error("id {id} at index {index} is outside the vocabulary of {vocab_size}")]
    Id {
        /// Where.
        index: usize,
        /// The id.
        id: u32,
        /// Number of ids the model knows.
        vocab_size: usize,
    },
    /// A position past the longest the config allows.
    #[error(
        "position {position} at index {index} is not below max_position_embeddings = {max}; shorten the row or the prefix"
    )]
    Position {
        /// Where.
        index: usize,
        /// The position.
        position: u32,
        /// The config's limit.
        max: usize,
    },
    /// A span that is not `prefix_start <= prefix_end <= start <= index`.
    #[error("span {span:?} of index {index} is not prefix_start <= prefix_end <= start <= index")]
    Span {
        /// Where.
        index: usize,
        /// The span.
        span: cwm_kernels::Span,
    },
    /// Positions that fall inside one document or prefix, where the sliding
    /// window could not be told.
    #[error("positions fall inside the keys that index {index} sees, before index {fall}")]
    Descending {
        /// The query.
        index: usize,
        /// Index of the key whose position is below its predecessor's.
        fall: usize,
    },
    /// A target of a row that does not exist, or outside the vocabulary.
    #[error(
        "target {index} asks row {row} for id {id}: the row has {rows} tokens and the vocabulary {vocab_size} ids"
    )]
    Target {
        /// Index in `targets`.
        index: usize,
        /// Its row.
        row: u32,
        /// Its id.
        id: u32,
        /// Number of tokens of the row.
        rows: usize,
        /// Number of ids the model knows.
        vocab_size: usize,
    },
}
