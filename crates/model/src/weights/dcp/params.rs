//! Meta's `params.json`: the architecture under its own names.

use serde::Deserialize;

use crate::{Config, LayerType, Llama3Scaling, Rope};

#[derive(Deserialize)]
pub(super) struct Params {
    model: Arguments,
}

/// What is not here might change what the model computes, and is refused.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Arguments {
    dim: usize,
    n_layers: usize,
    n_heads: usize,
    n_kv_heads: Option<usize>,
    head_dim: Option<usize>,
    max_seq_len: usize,
    vocab_size: usize,
    /// These three say the width of the feed-forward, which the weights say too.
    #[serde(rename = "ffn_dim_multiplier")]
    _ffn_dim_multiplier: Option<f64>,
    #[serde(rename = "ffn_exp")]
    _ffn_exp: Option<f64>,
    #[serde(rename = "multiple_of")]
    _multiple_of: Option<usize>,
    #[serde(default = "default_eps")]
    norm_eps: f32,
    #[serde(default = "default_rope")]
    pos_embed_impl: String,
    #[serde(default = "default_theta")]
    rope_theta: f64,
    #[serde(default)]
    scaled_rope: Scaled,
    #[serde(rename = "attn_impl")]
    _attn_impl: Option<String>,
    /// How documents were kept apart in training.
    #[serde(rename = "attn_bias_type")]
    _attn_bias_type: Option<String>,
    window_attn: Option<Windows>,
    #[serde(default)]
    q_lora_rank: usize,
    #[serde(default)]
    kv_lora_rank: usize,
    #[serde(rename = "qk_nope_head_dim")]
    _qk_nope_head_dim: Option<usize>,
    #[serde(rename = "qk_rope_head_dim")]
    _qk_rope_head_dim: Option<usize>,
    #[serde(default)]
    weight_tying: bool,
    #[serde(default)]
    qkv_biases: bool,
    #[serde(default)]
    qk_norm: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Scaled {
    scale_factor: f64,
    old_context_len: usize,
    low_freq_factor: f64,
    high_freq_factor: f64,
    use_attn_scale: bool,
}

/// The defaults of Meta's code.
impl Default for Scaled {
    fn default() -> Self {
        Self {
            scale_factor: 8.0,
            old_context_len: 8192,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            use_attn_scale: false,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Windows {
    window_pattern: usize,
    global_window: Option<usize>,
    local_window: Option<usize>,
    global_last_layer: bool,
}

impl Default for Windows {
    fn default() -> Self {
        Self {
            window_pattern: 6,
            global_window: None,
            local_window: None,
            global_last_layer: true,
        }
    }
}

fn default_eps() -> f32 {
    1e-5
}

fn default_rope() -> String {
    "rope".to_owned()
}

fn default_theta() -> f64 {
    10_000.0
}

/// Ids of the tokenizer that Meta's models of this size of vocabulary have.
const LLAMA_3_VOCABULARY: usize = 128_256;
const LLAMA_3_BEGIN: u32 = 128_000;
const LLAMA_3_ENDS: [u32; 3] = [128_001, 128_008, 128_009];

impl Params {
    /// The config of a model whose feed-forward is `intermediate_size` wide.
    pub(super) fn config(&self, intermediate_size: usize) -> Result<Config, String> {
        let model = &self.model;
        model.check()?;
        let (sliding_window, layer_types) = model.windows()?;
        let has_llama_ids = model.vocab_size == LLAMA_3_VOCABULARY;
        Ok(Config {
            vocab_size: model.vocab_size,
            hidden_size: model.dim,
            intermediate_size,
            n_layers: model.n_layers,
            n_heads: model.n_heads,
            n_kv_heads: model.n_kv_heads.unwrap_or(model.n_heads),
            head_dim: (model.head_dim).unwrap_or(model.dim.checked_div(model.n_heads).unwrap_or(0)),
            layer_types,
            sliding_window,
            rms_norm_eps: model.norm_eps,
            rope: Rope {
                theta: model.rope_theta,
                scaling: model.scaling()?,
            },
            max_position_embeddings: model.max_seq_len,
            n_previous_embeddings: 0,
            run_embedding: None,
            tie_word_embeddings: false,
            bos_token_id: has_llama_ids.then_some(LLAMA_3_BEGIN),
            eos_token_id: if has_llama_ids {
                LLAMA_3_ENDS.to_vec()
            } else {
                Vec::new()
            },
        })
    }
}

impl Arguments {
    fn check(&self) -> Result<(), String> {
        let unsupported = [
            ("weight_tying", self.weight_tying),
            ("qkv_biases", self.qkv_biases),
            ("qk_norm", self.qk_norm),
            ("q_lora_rank", self.q_lora_rank > 0),
            ("kv_lora_rank", self.kv_lora_rank > 0),
            (
                "scaled_rope.use_attn_scale",
                self.scaled_rope.use_attn_scale,
            ),
        ];
        match unsupported.iter().find(|(_, is_set)| *is_set) {
            Some((name, _)) => Err(format!("`{name}` is not supported")),
            None => Ok(()),
        }
    }

    fn scaling(&self) -> Result<Option<Llama3Scaling>, String> {
        match self.pos_embed_impl.as_str() {
            "rope" => Ok(None),
            "scaled_rope" => Ok(Some(Llama3Scaling {
                factor: self.scaled_rope.scale_factor,
                low_freq_factor: self.scaled_rope.low_freq_factor,
                high_freq_factor: self.scaled_rope.high_freq_factor,
                original_max_position_embeddings: self.scaled_rope.old_context_len,
            })),
            other => Err(format!("positions as `{other}` are not supported")),
        }
    }

    /// The window of local layers, and which layers are local.
    fn windows(&self) -> Result<(usize, Vec<LayerType>), String> {
        if self.n_layers > crate::config::MAX_LAYERS {
            return Err(format!("n_layers = {} is absurd", self.n_layers));
        }
        let all = |window| Ok((window, vec![LayerType::Full; self.n_layers]));
        let Some(windows) = &self.window_attn else {
            return all(self.max_seq_len);
        };
        if let Some(window) = windows
            .global_window
            .filter(|window| *window < self.max_seq_len)
        {
            return Err(format!(
                "global layers with a window of {window} below max_seq_len = {} are not supported",
                self.max_seq_len
            ));
        }
        let Some(local) = windows.local_window else {
            return all(self.max_seq_len);
        };
        if windows.window_pattern == 0 {
            return Err("window_pattern = 0 is no pattern".to_owned());
        }
        let kind = |layer: usize| {
            let is_last = windows.global_last_layer && layer + 1 == self.n_layers;
            match is_last || layer.is_multiple_of(windows.window_pattern) {
                true => LayerType::Full,
                false => LayerType::Sliding,
            }
        };
        Ok((local, (0..self.n_layers).map(kind).collect()))
    }
}
