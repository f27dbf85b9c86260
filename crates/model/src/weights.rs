//! Weights on disk: safetensors under Hugging Face's names.
//!
//! Promises: a folder that loads had every tensor the config calls for, in
//! the right shape, finite, and no other; a file that is truncated, foreign or
//! damaged is refused with its name, before memory is set aside for it.
//! Saving replaces the old file only once the new one is complete.
//!
//! Besides F32, BF16 and F16 there is our int8 form: a matrix `name` is stored
//! as I8 codes beside `name.scales`, F32, one scale per row and group of 32
//! columns (the last group may be short); weight = code * scale.

mod load;
mod save;

/// How weights are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// Exact.
    F32,
    /// Rounded to 8 bits of mantissa.
    Bf16,
    /// Matrices as 8-bit codes with a scale per group; norms exact. Read by
    /// this crate only.
    Int8,
}

/// Name of unsharded weights inside a model folder.
pub const WEIGHTS_FILE: &str = "model.safetensors";
/// Name of the table of shards.
pub const INDEX_FILE: &str = "model.safetensors.index.json";

/// Name of the scales of int8 tensor `name`.
fn scales_name(name: &str) -> String {
    format!("{name}.scales")
}

fn all_finite(values: &[f32]) -> bool {
    values.iter().all(|value| value.is_finite())
}
