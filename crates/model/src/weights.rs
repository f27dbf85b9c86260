//! Weights on disk, under Hugging Face's names.
//!
//! Promises: a model that opens has every tensor the config calls for, in the right shape, and no
//! other; a file that is truncated, foreign or damaged is refused with its name, before memory is
//! set aside for it. Files are mapped and read a tensor, or a few rows of one, at a time. Writing
//! replaces an old file only once the new one is complete.
//!
//! Besides F32, BF16 and F16 a folder of safetensors may hold forms of ours: a matrix `name` is
//! stored as codes beside `name.scales`. In int8 the codes are I8 and the scales F32, one per row
//! and group of 32 columns (the last group may be short); weight = code * scale. In int4 the codes
//! are U8, two in a byte, and the scales F16, one for 32 or for 128 columns: see
//! [`Dtype::Int4Group32`]. `quantization_config` in `config.json` names method and group.

mod blocks;
mod bytes;
mod checkpoint;
mod compare;
mod dcp;
mod dtype;
mod folder;
mod gguf;
mod identity;
mod load;
mod save;
mod stream;

pub use checkpoint::{Checkpoint, Tensor};
pub use compare::KindLoss;
pub use dtype::Dtype;

/// Name of unsharded weights inside a model folder.
pub const WEIGHTS_FILE: &str = "model.safetensors";
/// Name of the table of shards.
pub const INDEX_FILE: &str = "model.safetensors.index.json";

/// Name of the scales of the codes in tensor `name`.
fn scales_name(name: &str) -> String {
    format!("{name}.scales")
}

/// Index and value of the first infinity or NaN.
fn first_not_finite(values: &[f32]) -> Option<(usize, f32)> {
    let index = values.iter().position(|value| !value.is_finite())?;
    Some((index, values[index]))
}
