//! `config.json` as it lies on disk: Hugging Face's field names, its old and
//! new spellings, and the fields whose presence would change the mathematics.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Config, LayerType, Llama3Scaling, Refusal, Rope, refuse};
use crate::{Dtype, RunEmbedding};

/// Values of `quant_method` and `group_size` under which our forms of codes are announced. They
/// make `transformers` refuse the folder instead of reading codes as weights.
const METHODS: [(Dtype, &str, u64); 3] = [
    (Dtype::Int8Group32, "cwm-int8", 32),
    (Dtype::Int4Group32, "cwm-int4", 32),
    (Dtype::Int4Group128, "cwm-int4", 128),
];

#[derive(Serialize, Deserialize)]
pub(super) struct HfConfig {
    #[serde(default)]
    architectures: Vec<String>,
    model_type: Option<String>,
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    layer_types: Option<Vec<LayerType>>,
    sliding_window: Option<usize>,
    rms_norm_eps: Option<f32>,
    max_position_embeddings: Option<usize>,
    /// Spelling of transformers 5.
    rope_parameters: Option<HfRope>,
    /// Spelling of transformers 4, with `rope_theta` beside it.
    #[serde(skip_serializing)]
    rope_scaling: Option<HfRope>,
    #[serde(skip_serializing)]
    rope_theta: Option<f64>,
    /// Ours alone; `transformers` does not know it.
    #[serde(default, skip_serializing_if = "is_zero")]
    n_previous_embeddings: usize,
    /// Ours too.
    #[serde(skip_serializing_if = "Option::is_none")]
    run_embedding: Option<RunEmbedding>,
    #[serde(default)]
    tie_word_embeddings: bool,
    bos_token_id: Option<u32>,
    eos_token_id: Option<OneOrMany>,
    hidden_act: Option<String>,
    #[serde(default, skip_serializing)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    #[serde(default)]
    dtype: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    quantization_config: Option<Value>,
}

fn is_zero(n: &usize) -> bool {
    *n == 0
}

#[derive(Serialize, Deserialize)]
struct HfRope {
    #[serde(alias = "type")]
    rope_type: Option<String>,
    rope_theta: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    factor: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    low_freq_factor: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    high_freq_factor: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    original_max_position_embeddings: Option<usize>,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(u32),
    Many(Vec<u32>),
}

/// The families this crate runs; they differ only in what a missing field means.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    Cwm,
    Llama,
}

impl HfConfig {
    pub(super) fn new(config: Config, dtype: Dtype) -> Self {
        let rope_type = match config.rope.scaling {
            Some(_) => "llama3",
            None => "default",
        };
        let scaling = config.rope.scaling;
        Self {
            architectures: vec!["CwmForCausalLM".to_owned()],
            model_type: Some("cwm".to_owned()),
            vocab_size: config.vocab_size,
            hidden_size: config.hidden_size,
            intermediate_size: config.intermediate_size,
            num_hidden_layers: config.n_layers,
            num_attention_heads: config.n_heads,
            num_key_value_heads: Some(config.n_kv_heads),
            head_dim: Some(config.head_dim),
            layer_types: Some(config.layer_types),
            sliding_window: Some(config.sliding_window),
            rms_norm_eps: Some(config.rms_norm_eps),
            max_position_embeddings: Some(config.max_position_embeddings),
            rope_parameters: Some(HfRope {
                rope_type: Some(rope_type.to_owned()),
                rope_theta: Some(config.rope.theta),
                factor: scaling.map(|s| s.factor),
                low_freq_factor: scaling.map(|s| s.low_freq_factor),
                high_freq_factor: scaling.map(|s| s.high_freq_factor),
                original_max_position_embeddings: scaling
                    .map(|s| s.original_max_position_embeddings),
            }),
            rope_scaling: None,
            rope_theta: None,
            n_previous_embeddings: config.n_previous_embeddings,
            run_embedding: config.run_embedding,
            tie_word_embeddings: config.tie_word_embeddings,
            bos_token_id: config.bos_token_id,
            // An empty list would stop `generate` from using its own default.
            eos_token_id: (!config.eos_token_id.is_empty())
                .then_some(OneOrMany::Many(config.eos_token_id)),
            hidden_act: Some("silu".to_owned()),
            attention_bias: false,
            mlp_bias: false,
            dtype: Some(
                match dtype {
                    Dtype::Bf16 => "bfloat16",
                    Dtype::F16 => "float16",
                    _ => "float32",
                }
                .to_owned(),
            ),
            quantization_config: (METHODS.iter())
                .find(|(stored, ..)| *stored == dtype)
                .map(|(_, name, group)| json!({"quant_method": name, "group_size": group})),
        }
    }

    fn family(&self) -> Result<Family, Refusal> {
        match (self.architectures.as_slice(), self.model_type.as_deref()) {
            ([name], _) if name == "CwmForCausalLM" => Ok(Family::Cwm),
            ([name], _) if name == "LlamaForCausalLM" => Ok(Family::Llama),
            ([], Some("cwm")) => Ok(Family::Cwm),
            ([], Some("llama")) => Ok(Family::Llama),
            ([], None) => refuse("it names neither architectures nor model_type".to_owned()),
            ([], Some(other)) => refuse(format!("model_type `{other}` is not cwm or llama")),
            (names, _) => refuse(format!(
                "architectures {names:?} is not CwmForCausalLM or LlamaForCausalLM"
            )),
        }
    }

    fn check_mathematics(&self) -> Result<(), Refusal> {
        if self.attention_bias || self.mlp_bias {
            return refuse("attention_bias and mlp_bias must be false".to_owned());
        }
        if let Some(activation) = self.hidden_act.as_deref()
            && activation != "silu"
        {
            return refuse(format!("hidden_act `{activation}` is not silu"));
        }
        if let Some(quantization) = &self.quantization_config {
            let method = quantization.get("quant_method").and_then(Value::as_str);
            let group = quantization.get("group_size").and_then(Value::as_u64);
            let is_ours = |&&(_, name, size): &&(Dtype, &str, u64)| {
                method == Some(name) && group.is_none_or(|group| group == size)
            };
            if METHODS.iter().find(is_ours).is_none() {
                let group = group.map(|size| format!(" in groups of {size}"));
                return refuse(format!(
                    "weights quantised by `{}`{} are not supported; take the unquantised ones",
                    method.unwrap_or("an unnamed method"),
                    group.unwrap_or_default()
                ));
            }
        }
        Ok(())
    }

    fn rope(&self, family: Family) -> Result<Rope, Refusal> {
        let Some(raw) = self.rope_parameters.as_ref().or(self.rope_scaling.as_ref()) else {
            return Ok(match (family, self.rope_theta) {
                (Family::Cwm, None) => CWM_ROPE,
                (_, theta) => Rope {
                    theta: theta.unwrap_or(LLAMA_THETA),
                    scaling: None,
                },
            });
        };
        let theta = raw.rope_theta.or(self.rope_theta).unwrap_or(match family {
            Family::Cwm => CWM_ROPE.theta,
            Family::Llama => LLAMA_THETA,
        });
        let scaling = match raw.rope_type.as_deref() {
            None | Some("default") => None,
            Some("llama3") => Some(raw.llama3()?),
            Some(other) => {
                return refuse(format!("rope_type `{other}` is not default or llama3"));
            }
        };
        Ok(Rope { theta, scaling })
    }
}

impl HfRope {
    fn llama3(&self) -> Result<Llama3Scaling, Refusal> {
        match (
            self.factor,
            self.low_freq_factor,
            self.high_freq_factor,
            self.original_max_position_embeddings,
        ) {
            (Some(factor), Some(low_freq_factor), Some(high_freq_factor), Some(original)) => {
                Ok(Llama3Scaling {
                    factor,
                    low_freq_factor,
                    high_freq_factor,
                    original_max_position_embeddings: original,
                })
            }
            _ => refuse(
                "llama3 RoPE needs factor, low_freq_factor, high_freq_factor and \
                 original_max_position_embeddings"
                    .to_owned(),
            ),
        }
    }
}

/// `transformers`' defaults, which apply where a file leaves a field out.
const LLAMA_THETA: f64 = 10_000.0;
const CWM_ROPE: Rope = Rope {
    theta: 1_000_000.0,
    scaling: Some(Llama3Scaling {
        factor: 16.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 8192,
    }),
};

fn default_layer_types(family: Family, n_layers: usize) -> Vec<LayerType> {
    match family {
        Family::Cwm => super::meta_layer_types(n_layers),
        Family::Llama => vec![LayerType::Full; n_layers],
    }
}

impl TryFrom<HfConfig> for Config {
    type Error = Refusal;

    fn try_from(raw: HfConfig) -> Result<Self, Refusal> {
        let family = raw.family()?;
        raw.check_mathematics()?;
        let rope = raw.rope(family)?;
        let (positions, eps) = match family {
            Family::Cwm => (131_072, 1e-5),
            Family::Llama => (2048, 1e-6),
        };
        let max_position_embeddings = raw.max_position_embeddings.unwrap_or(positions);
        let n_layers = raw.num_hidden_layers;
        if n_layers > super::MAX_LAYERS {
            let most = super::MAX_LAYERS;
            return refuse(format!(
                "num_hidden_layers = {n_layers} is not within 1..={most}"
            ));
        }
        let head_dim = match raw.head_dim {
            Some(width) => width,
            None => raw
                .hidden_size
                .checked_div(raw.num_attention_heads)
                .unwrap_or(0),
        };
        let config = Self {
            vocab_size: raw.vocab_size,
            hidden_size: raw.hidden_size,
            intermediate_size: raw.intermediate_size,
            n_layers,
            n_heads: raw.num_attention_heads,
            n_kv_heads: raw.num_key_value_heads.unwrap_or(raw.num_attention_heads),
            head_dim,
            layer_types: raw
                .layer_types
                .unwrap_or_else(|| default_layer_types(family, n_layers)),
            sliding_window: raw.sliding_window.unwrap_or(match family {
                Family::Cwm => 8192,
                Family::Llama => max_position_embeddings,
            }),
            rms_norm_eps: raw.rms_norm_eps.unwrap_or(eps),
            rope,
            max_position_embeddings,
            n_previous_embeddings: raw.n_previous_embeddings,
            run_embedding: raw.run_embedding,
            tie_word_embeddings: raw.tie_word_embeddings,
            bos_token_id: raw.bos_token_id,
            eos_token_id: match raw.eos_token_id {
                None => Vec::new(),
                Some(OneOrMany::One(id)) => vec![id],
                Some(OneOrMany::Many(ids)) => ids,
            },
        };
        config.check()?;
        Ok(config)
    }
}

impl From<Config> for HfConfig {
    fn from(config: Config) -> Self {
        Self::new(config, Dtype::F32)
    }
}
