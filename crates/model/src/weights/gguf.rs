//! GGUF, the one-file format of llama.cpp.
//!
//! Two architectures are read and written. `llama` is the plain Llama family, as llama.cpp has it.
//! It has no windows, so that a model with windows is written as `cwm`, whose keys are Llama's under
//! another prefix and ours beside them: `cwm.attention.sliding_window` and, for each layer whether
//! it slides, `cwm.attention.sliding_window_pattern`, `cwm.rope.scaling.*`,
//! `cwm.n_previous_embeddings` and `cwm.run_embedding.*`. In both, rows of query and key matrices
//! that RoPE turns together are neighbours, which reading undoes.

mod config;
mod header;
mod read;
mod write;

pub(super) use read::{is_gguf, read};

use super::Dtype;

/// First bytes of a file.
const MAGIC: [u8; 4] = *b"GGUF";
/// Data begins, and each tensor in it, at a multiple of this many bytes unless a key says otherwise.
const ALIGNMENT: usize = 32;
/// A tensor that llama.cpp's converter adds: by how much each frequency of RoPE is divided.
const ROPE_FACTORS: &str = "rope_freqs.weight";

/// The types that are read, with GGUF's number and name.
const TYPES: [(Dtype, u32, &str); 8] = [
    (Dtype::F32, 0, "F32"),
    (Dtype::F16, 1, "F16"),
    (Dtype::Q4_0, 2, "Q4_0"),
    (Dtype::Q4_1, 3, "Q4_1"),
    (Dtype::Q8_0, 8, "Q8_0"),
    (Dtype::Q4K, 12, "Q4_K"),
    (Dtype::Q6K, 14, "Q6_K"),
    (Dtype::Bf16, 30, "BF16"),
];

/// Names of types that are not read, so that a message can say them.
const FOREIGN_TYPES: [(u32, &str); 10] = [
    (6, "Q5_0"),
    (7, "Q5_1"),
    (9, "Q8_1"),
    (10, "Q2_K"),
    (11, "Q3_K"),
    (13, "Q5_K"),
    (15, "Q8_K"),
    (20, "IQ4_NL"),
    (23, "IQ4_XS"),
    (39, "MXFP4"),
];

/// GGUF's and Hugging Face's names of a layer's tensors, `.weight` left out.
const LAYER_NAMES: [(&str, &str); 9] = [
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("ffn_norm", "post_attention_layernorm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

/// The same of tensors that are there once; the last two are ours.
const NAMES: [(&str, &str); 4] = [
    ("token_embd", "model.embed_tokens"),
    ("output_norm", "model.norm"),
    ("output", "lm_head"),
    ("run_embd", "model.embed_run"),
];
/// What stands before the distance in the names of tables for earlier tokens, which are ours.
const PREVIOUS: (&str, &str) = ("previous_embd.", "model.embed_previous.");
const LAYER: (&str, &str) = ("blk.", "model.layers.");

/// Hugging Face's name of a tensor.
fn hugging_face_name(gguf: &str) -> Option<String> {
    translate(gguf, |(gguf, hugging_face)| (gguf, hugging_face))
}

/// GGUF's name of a tensor.
fn gguf_name(hugging_face: &str) -> Option<String> {
    translate(hugging_face, |(gguf, hugging_face)| (hugging_face, gguf))
}

type Pair = (&'static str, &'static str);

fn translate(name: &str, direct: impl Fn(Pair) -> Pair) -> Option<String> {
    let stem = name.strip_suffix(".weight")?;
    let find = |names: &[Pair], stem: &str| {
        let mut pairs = names.iter().map(|pair| direct(*pair));
        pairs.find(|(from, _)| *from == stem).map(|(_, to)| to)
    };
    if let Some(to) = find(&NAMES, stem) {
        return Some(format!("{to}.weight"));
    }
    let numbered = |pair: Pair| {
        let (from, to) = direct(pair);
        Some((stem.strip_prefix(from)?, to))
    };
    if let Some((distance, to)) = numbered(PREVIOUS) {
        let number: u32 = distance.parse().ok()?;
        return Some(format!("{to}{number}.weight"));
    }
    let (rest, to) = numbered(LAYER)?;
    let (layer, part) = rest.split_once('.')?;
    let number: u32 = layer.parse().ok()?;
    let part = find(&LAYER_NAMES, part)?;
    Some(format!("{to}{number}.{part}.weight"))
}
