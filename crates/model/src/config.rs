//! What a model is made of: the values of Hugging Face's `config.json` for
//! `CwmForCausalLM` and the plain Llama family.
//!
//! Promises: a [`Config`] that came from [`Config::load`] or passed
//! [`Config::validate`] describes a model whose sizes fit in memory arithmetic
//! and whose every operation this crate implements. Anything else (other
//! architectures, biases, other activations, other RoPE rules, foreign
//! quantisation) is refused by name, never ignored.

mod hf;

use std::path::Path;

use cwm_kernels::AttentionShape;
use serde::{Deserialize, Serialize};

use crate::{Dtype, Error, RunEmbedding, files};

/// Which keys a layer's queries see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LayerType {
    /// Every visible key.
    #[serde(rename = "full_attention")]
    Full,
    /// The query itself and the `sliding_window - 1` positions before it.
    #[serde(rename = "sliding_attention")]
    Sliding,
}

/// Rotary position embedding.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rope {
    /// Base of the geometric series of frequencies.
    pub theta: f64,
    /// Llama-3's stretching of low frequencies, if any.
    pub scaling: Option<Llama3Scaling>,
}

/// Llama-3 RoPE scaling: wavelengths above `original / low` are stretched by
/// `factor`, those below `original / high` are kept, and between them the two
/// are blended linearly in `original / wavelength`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Llama3Scaling {
    /// How much longer the longest wavelengths become.
    pub factor: f64,
    /// Fewest turns over the original context that are blended.
    pub low_freq_factor: f64,
    /// Fewest turns over the original context that are left alone.
    pub high_freq_factor: f64,
    /// Context length before scaling, in tokens.
    pub original_max_position_embeddings: usize,
}

/// A model's architecture. Serialises as Hugging Face's `config.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "hf::HfConfig", into = "hf::HfConfig")]
pub struct Config {
    /// Number of token ids.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the SwiGLU feed-forward.
    pub intermediate_size: usize,
    /// `num_hidden_layers`.
    pub n_layers: usize,
    /// `num_attention_heads`: query heads.
    pub n_heads: usize,
    /// `num_key_value_heads`: each serves `n_heads / n_kv_heads` query heads.
    pub n_kv_heads: usize,
    /// Width of one head; even. Need not be `hidden_size / n_heads`.
    pub head_dim: usize,
    /// One per layer.
    pub layer_types: Vec<LayerType>,
    /// Window `W` of sliding layers: a query sees itself and `W - 1` before.
    pub sliding_window: usize,
    /// Added to the mean square in every norm.
    pub rms_norm_eps: f32,
    /// Rotary position embedding.
    pub rope: Rope,
    /// Positions are below this.
    pub max_position_embeddings: usize,
    /// How many tokens before a token add to its embedding, each distance
    /// through a matrix of its own; 0 in the CWM and Llama families. It gives
    /// small models for nothing what they otherwise spend an attention layer
    /// on: knowing what stands just before.
    pub n_previous_embeddings: usize,
    /// What tells a token its place in a run of its kind; `None` in the CWM
    /// and Llama families.
    pub run_embedding: Option<RunEmbedding>,
    /// Whether the head is the embedding matrix.
    pub tie_word_embeddings: bool,
    /// Id that opens a text.
    pub bos_token_id: Option<u32>,
    /// Ids that end a turn or text.
    pub eos_token_id: Vec<u32>,
}

/// Name of the config inside a model folder.
pub const CONFIG_FILE: &str = "config.json";

/// No dimension of a real model comes near this (CWM-32B's largest is its
/// vocabulary, 128,256); a damaged config must not make us reserve terabytes.
const MAX_DIMENSION: usize = 1 << 24;
pub(crate) const MAX_LAYERS: usize = 4096;
const MAX_PREVIOUS: usize = 8;
const MAX_PLACES: usize = 1 << 16;

impl Config {
    /// Reads `config.json` of a model folder.
    ///
    /// # Errors
    /// When the file cannot be read, is not JSON of the expected fields, or
    /// describes a model this crate does not implement.
    pub fn load(dir: &Path) -> Result<Self, Error> {
        let path = dir.join(CONFIG_FILE);
        let text = std::fs::read(&path).map_err(Error::io("read", &path))?;
        let raw: hf::HfConfig = match serde_json::from_slice(&text) {
            Ok(raw) => raw,
            Err(source) => return Err(Error::ConfigSyntax { path, source }),
        };
        Self::try_from(raw).map_err(|refusal| Error::Config {
            path: Some(path),
            reason: refusal.0,
        })
    }

    /// Writes `config.json`, complete or not at all, as `transformers` reads
    /// it: always as `CwmForCausalLM`, of which Llama is the special case in
    /// which every layer is full.
    ///
    /// # Errors
    /// When the config is not valid or the file cannot be written.
    pub fn save(&self, dir: &Path) -> Result<(), Error> {
        self.save_as(dir, Dtype::F32)
    }

    /// [`Config::save`], naming the type the weights beside it are stored in.
    pub(crate) fn save_as(&self, dir: &Path, dtype: Dtype) -> Result<(), Error> {
        self.validate()?;
        let path = dir.join(CONFIG_FILE);
        let raw = hf::HfConfig::new(self.clone(), dtype);
        let mut text = match serde_json::to_string_pretty(&raw) {
            Ok(text) => text,
            Err(source) => return Err(Error::ConfigSyntax { path, source }),
        };
        text.push('\n');
        files::write_atomically(&path, |temporary| {
            std::fs::write(temporary, &text).map_err(Error::io("write", &path))
        })
    }

    /// Checks that the values describe a model this crate can run.
    ///
    /// # Errors
    /// [`Error::Config`], naming the field.
    pub fn validate(&self) -> Result<(), Error> {
        self.check()
            .map_err(|Refusal(reason)| Error::Config { path: None, reason })
    }

    fn check(&self) -> Result<(), Refusal> {
        self.check_sizes()?;
        self.check_rope()?;
        if !(self.rms_norm_eps > 0.0 && self.rms_norm_eps.is_finite()) {
            return refuse(format!(
                "rms_norm_eps = {} is not positive",
                self.rms_norm_eps
            ));
        }
        for &id in self.bos_token_id.iter().chain(&self.eos_token_id) {
            if id as usize >= self.vocab_size {
                return refuse(format!(
                    "special id {id} is outside the vocabulary of {}",
                    self.vocab_size
                ));
            }
        }
        Ok(())
    }

    fn check_sizes(&self) -> Result<(), Refusal> {
        let sizes = [
            ("vocab_size", self.vocab_size, MAX_DIMENSION),
            ("hidden_size", self.hidden_size, MAX_DIMENSION),
            ("intermediate_size", self.intermediate_size, MAX_DIMENSION),
            ("num_hidden_layers", self.n_layers, MAX_LAYERS),
            ("num_attention_heads", self.n_heads, MAX_DIMENSION),
            ("num_key_value_heads", self.n_kv_heads, MAX_DIMENSION),
            ("head_dim", self.head_dim, MAX_DIMENSION),
            (
                "num_attention_heads * head_dim",
                self.n_heads.saturating_mul(self.head_dim),
                MAX_DIMENSION,
            ),
            ("sliding_window", self.sliding_window, u32::MAX as usize),
            (
                "n_previous_embeddings + 1",
                self.n_previous_embeddings.saturating_add(1),
                MAX_PREVIOUS + 1,
            ),
            (
                "max_position_embeddings",
                self.max_position_embeddings,
                u32::MAX as usize,
            ),
        ];
        for (name, size, most) in sizes {
            if size == 0 || size > most {
                return refuse(format!("{name} = {size} is not within 1..={most}"));
            }
        }
        if let Some(runs) = &self.run_embedding {
            self.check_runs(runs)?;
        }
        if !self.n_heads.is_multiple_of(self.n_kv_heads) {
            return refuse(format!(
                "num_attention_heads = {} is not a multiple of num_key_value_heads = {}",
                self.n_heads, self.n_kv_heads
            ));
        }
        if !self.head_dim.is_multiple_of(2) {
            return refuse(format!(
                "head_dim = {} is odd; RoPE needs pairs",
                self.head_dim
            ));
        }
        if self.layer_types.len() != self.n_layers {
            return refuse(format!(
                "layer_types lists {} layers, num_hidden_layers is {}",
                self.layer_types.len(),
                self.n_layers
            ));
        }
        // With the limits above no product of two dimensions overflows 64
        // bits, but their sum over layers can pass what one buffer may hold.
        let bytes = self
            .n_params_wide()
            .saturating_mul(size_of::<f32>() as u128);
        if bytes > isize::MAX as u128 {
            return refuse(format!(
                "{} parameters do not fit in memory",
                self.n_params_wide()
            ));
        }
        Ok(())
    }

    fn check_runs(&self, runs: &RunEmbedding) -> Result<(), Refusal> {
        if runs.n_places == 0 || runs.n_places > MAX_PLACES {
            return refuse(format!(
                "run_embedding.n_places = {} is not within 1..={MAX_PLACES}",
                runs.n_places
            ));
        }
        let fits = |&[first, last]: &[u32; 2]| first <= last && (last as usize) < self.vocab_size;
        match runs.kinds.iter().find(|kind| !fits(kind)) {
            None => Ok(()),
            Some([first, last]) => refuse(format!(
                "run_embedding.kinds has {first} to {last}, which is not a range of the \
                 vocabulary of {}",
                self.vocab_size
            )),
        }
    }

    fn check_rope(&self) -> Result<(), Refusal> {
        let positive = |name: &str, value: f64| {
            if value > 0.0 && value.is_finite() {
                Ok(())
            } else {
                refuse(format!("RoPE {name} = {value} is not positive"))
            }
        };
        positive("rope_theta", self.rope.theta)?;
        let Some(scaling) = self.rope.scaling else {
            return Ok(());
        };
        positive("factor", scaling.factor)?;
        positive("low_freq_factor", scaling.low_freq_factor)?;
        positive("high_freq_factor", scaling.high_freq_factor)?;
        if scaling.high_freq_factor <= scaling.low_freq_factor {
            return refuse(format!(
                "RoPE high_freq_factor = {} is not above low_freq_factor = {}",
                scaling.high_freq_factor, scaling.low_freq_factor
            ));
        }
        if scaling.original_max_position_embeddings == 0 {
            return refuse("RoPE original_max_position_embeddings is 0".to_owned());
        }
        Ok(())
    }

    /// RoPE frequencies in radians per position, one per pair of a head's
    /// dimensions: `theta^(-2i / head_dim)`, then [`Llama3Scaling`].
    ///
    /// Computed in f32 step by step as `transformers` does, so that tables
    /// agree at positions where a last-bit difference would be a visible turn.
    pub fn inv_freq(&self) -> Vec<f32> {
        let (theta, width) = (self.rope.theta as f32, self.head_dim as f32);
        (0..self.head_dim / 2)
            .map(|pair| 1.0 / theta.powf((2 * pair) as f32 / width))
            .map(|frequency| match self.rope.scaling {
                Some(scaling) => scaling.apply(frequency),
                None => frequency,
            })
            .collect()
    }

    /// Number of parameters (a tied head counts once).
    pub fn n_params(&self) -> usize {
        usize::try_from(self.n_params_wide()).unwrap_or(usize::MAX)
    }

    /// Parameters of the layers: neither those of tables that tokens are looked up in nor those of
    /// the head.
    pub fn n_non_embedding_params(&self) -> usize {
        let places = self.run_embedding.as_ref().map_or(0, |runs| runs.n_places);
        let head = usize::from(!self.tie_word_embeddings);
        let tables = (1 + self.n_previous_embeddings + head) * self.vocab_size + places;
        self.n_params() - tables * self.hidden_size
    }

    /// Floating-point operations of training on one token of rows of `context` tokens, as CWM's
    /// paper counts them: `6 N + 6 d L S`, with `N` the [parameters of the
    /// layers](Config::n_non_embedding_params), `d` the
    /// hidden size, `L` the layers and `S` the context.
    pub fn train_flops_per_token(&self, context: usize) -> f64 {
        let attention = self.hidden_size as f64 * self.n_layers as f64 * context as f64;
        6.0 * (self.n_non_embedding_params() as f64 + attention)
    }

    fn n_params_wide(&self) -> u128 {
        let wide = |size: usize| size as u128;
        let hidden = wide(self.hidden_size);
        let attention = 2 * hidden * wide(self.query_width()) + 2 * hidden * wide(self.kv_width());
        let feed_forward = 3 * hidden * wide(self.intermediate_size);
        let heads = if self.tie_word_embeddings { 0 } else { 1 };
        let embeddings = 1 + wide(self.n_previous_embeddings) + heads;
        let places = self.run_embedding.as_ref().map_or(0, |runs| runs.n_places);
        wide(self.n_layers) * (attention + feed_forward + 2 * hidden)
            + (embeddings * wide(self.vocab_size) + wide(places)) * hidden
            + hidden
    }

    /// Width of all query heads together.
    pub fn query_width(&self) -> usize {
        self.n_heads * self.head_dim
    }

    /// Width of all key (or value) heads together.
    pub fn kv_width(&self) -> usize {
        self.n_kv_heads * self.head_dim
    }

    /// Shape of the attention heads, as the kernels take it.
    pub fn attention_shape(&self) -> AttentionShape {
        AttentionShape {
            n_heads: self.n_heads,
            n_kv_heads: self.n_kv_heads,
            head_dim: self.head_dim,
        }
    }
}

impl Llama3Scaling {
    fn apply(self, frequency: f32) -> f32 {
        let (factor, low, high) = (
            self.factor as f32,
            self.low_freq_factor as f32,
            self.high_freq_factor as f32,
        );
        let original = self.original_max_position_embeddings as f32;
        let wavelength = 2.0 * std::f32::consts::PI / frequency;
        if wavelength > original / low {
            frequency / factor
        } else if wavelength < original / high {
            frequency
        } else {
            let kept = (original / wavelength - low) / (high - low);
            (1.0 - kept) * frequency / factor + kept * frequency
        }
    }
}

/// Meta's rule for files that do not list their layers: every fourth layer and the last are full.
/// (`transformers` forgets the last one.)
pub(crate) fn meta_layer_types(n_layers: usize) -> Vec<LayerType> {
    let kind = |layer: usize| match layer.is_multiple_of(4) || layer + 1 == n_layers {
        true => LayerType::Full,
        false => LayerType::Sliding,
    };
    (0..n_layers).map(kind).collect()
}

/// Why a config is refused, before it is known which file it came from.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refusal(String);

fn refuse<T>(reason: String) -> Result<T, Refusal> {
    Err(Refusal(reason))
}
