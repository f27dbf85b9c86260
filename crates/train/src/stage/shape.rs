//! Shapes of new models.

use cwm_model::{Config, LayerType, Rope, RunEmbedding};
use serde::{Deserialize, Serialize};

use super::StageError;
use crate::Tokenizer;

/// Shapes of small models by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Size {
    /// For tests: about 0.1M parameters.
    #[serde(rename = "nano-tiny")]
    Tiny,
    /// About 1.7M parameters: the shape of the shipped model.
    #[serde(rename = "nano-small")]
    Small,
    /// About 7.6M parameters.
    #[serde(rename = "nano-medium")]
    Medium,
    /// About 19M parameters.
    #[serde(rename = "nano-large")]
    Large,
    /// About 52M parameters, with heads as wide as GPUs like them.
    #[serde(rename = "nano-huge")]
    Huge,
}

impl Size {
    /// The shape for a vocabulary.
    pub fn config(self, tokenizer: &Tokenizer) -> Config {
        let (hidden_size, n_layers, n_heads, n_kv_heads, head_dim, intermediate_size) = match self {
            Self::Tiny => (64, 2, 2, 1, 32, 128),
            Self::Small => (128, 6, 4, 2, 32, 384),
            Self::Medium => (288, 8, 9, 3, 32, 768),
            Self::Large => (384, 10, 12, 4, 32, 1152),
            Self::Huge => (576, 14, 9, 3, 64, 1536),
        };
        let (begin, end) = tokenizer.ends();
        let runs = |kinds| RunEmbedding {
            kinds,
            n_places: 64,
        };
        Config {
            vocab_size: tokenizer.vocabulary(),
            hidden_size,
            intermediate_size,
            n_layers,
            n_heads,
            n_kv_heads,
            head_dim,
            layer_types: layer_types(n_layers),
            sliding_window: 64,
            rms_norm_eps: 1e-5,
            rope: Rope {
                theta: 10_000.0,
                scaling: None,
            },
            max_position_embeddings: 4096,
            n_previous_embeddings: 2,
            run_embedding: match tokenizer {
                Tokenizer::Nano(vocabulary) => Some(runs(vocabulary.runs())),
                Tokenizer::Text { .. } => None,
            },
            tie_word_embeddings: false,
            bos_token_id: Some(begin),
            eos_token_id: end,
        }
    }
}

/// The last layer and every third before it see the source too; the others see
/// only what is near, since all that a line does is told in its focus.
pub(crate) fn layer_types(n_layers: usize) -> Vec<LayerType> {
    let layer_type = |above: usize| match above % 3 {
        0 => LayerType::Full,
        _ => LayerType::Sliding,
    };
    (0..n_layers).rev().map(layer_type).collect()
}

/// A shape written out, under the names of `config.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: usize,
    head_dim: usize,
    layer_types: Vec<LayerType>,
    sliding_window: usize,
    #[serde(default = "epsilon")]
    rms_norm_eps: f32,
    rope_theta: f64,
    max_position_embeddings: usize,
    #[serde(default)]
    n_previous_embeddings: usize,
    #[serde(default)]
    tie_word_embeddings: bool,
    /// That of the tokenizer if none is given; another one is refused.
    vocab_size: Option<usize>,
}

fn epsilon() -> f32 {
    1e-5
}

impl Shape {
    /// The shape for a vocabulary.
    ///
    /// # Errors
    /// When the vocabulary is of another size.
    pub fn config(&self, tokenizer: &Tokenizer) -> Result<Config, StageError> {
        let vocab_size = tokenizer.vocabulary();
        if let Some(wanted) = self.vocab_size.filter(|&wanted| wanted != vocab_size) {
            return Err(StageError::wrong(
                "model.shape.vocab_size",
                format!(
                    "is {wanted}, but the tokenizer `{}` has {vocab_size} ids; leave the key out",
                    tokenizer.kind().name()
                ),
            ));
        }
        let (begin, end) = tokenizer.ends();
        Ok(Config {
            vocab_size,
            hidden_size: self.hidden_size,
            intermediate_size: self.intermediate_size,
            n_layers: self.num_hidden_layers,
            n_heads: self.num_attention_heads,
            n_kv_heads: self.num_key_value_heads,
            head_dim: self.head_dim,
            layer_types: self.layer_types.clone(),
            sliding_window: self.sliding_window,
            rms_norm_eps: self.rms_norm_eps,
            rope: Rope {
                theta: self.rope_theta,
                scaling: None,
            },
            max_position_embeddings: self.max_position_embeddings,
            n_previous_embeddings: self.n_previous_embeddings,
            run_embedding: None,
            tie_word_embeddings: self.tie_word_embeddings,
            bos_token_id: Some(begin),
            eos_token_id: end,
        })
    }
}
