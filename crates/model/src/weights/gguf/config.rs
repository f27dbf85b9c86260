//! A model's config in GGUF's keys.

use super::header::{Header, Reason, Value};
use crate::config::{MAX_LAYERS, meta_layer_types};
use crate::{Config, LayerType, Llama3Scaling, Rope, RunEmbedding};

/// Keys of an architecture that are understood, behind its prefix. Another key might change what
/// the model computes, and is refused.
const KNOWN: [&str; 25] = [
    "vocab_size",
    "context_length",
    "embedding_length",
    "block_count",
    "feed_forward_length",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "attention.layer_norm_rms_epsilon",
    "attention.sliding_window",
    "attention.sliding_window_pattern",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.scaling.type",
    "rope.scaling.factor",
    "rope.scaling.low_freq_factor",
    "rope.scaling.high_freq_factor",
    "rope.scaling.original_context_length",
    "rope.scaling.finetuned",
    "expert_count",
    "expert_used_count",
    "n_previous_embeddings",
    "run_embedding.kinds",
    "run_embedding.n_places",
];

/// The keys of our own that a `llama` file has as well, for what its own cannot say.
pub(super) const EOS_IDS: &str = "cwm.eos_token_ids";
pub(super) const SCALING: &str = "cwm.rope.scaling";

/// The config of a file, and what should be said of it. `factors` are those of its RoPE, if any.
/// The sizes may be anything; [`Config::validate`] is the caller's.
pub(super) fn read(
    header: &Header,
    factors: Option<&[f32]>,
) -> Result<(Config, Vec<String>), Reason> {
    let keys = Keys::new(header)?;
    let n_layers = keys.size("block_count")?;
    let n_heads = keys.per_layer("attention.head_count")?;
    let n_kv_heads = match keys.has("attention.head_count_kv") {
        true => keys.per_layer("attention.head_count_kv")?,
        false => n_heads,
    };
    let hidden_size = keys.size("embedding_length")?;
    let head_dim = keys.head_dim(hidden_size, n_heads)?;
    let max_position_embeddings = keys.size("context_length")?;
    let (sliding_window, layer_types) = keys.windows(n_layers, max_position_embeddings)?;
    let theta = keys.float("rope.freq_base")?.unwrap_or(10_000.0);
    let mut config = Config {
        vocab_size: keys.vocabulary()?,
        hidden_size,
        intermediate_size: keys.per_layer("feed_forward_length")?,
        n_layers,
        n_heads,
        n_kv_heads,
        head_dim,
        layer_types,
        sliding_window,
        rms_norm_eps: keys.needed_float("attention.layer_norm_rms_epsilon")? as f32,
        rope: Rope {
            theta,
            scaling: keys.scaling()?,
        },
        max_position_embeddings,
        n_previous_embeddings: keys.optional_size("n_previous_embeddings")?.unwrap_or(0),
        run_embedding: keys.runs()?,
        tie_word_embeddings: keys.tensor("output.weight").is_none(),
        bos_token_id: keys.id("tokenizer.ggml.bos_token_id")?,
        eos_token_id: keys.ends()?,
    };
    if let Some(factors) = factors {
        settle_scaling(&mut config, factors)?;
    }
    let note = keys.is_llama().then(|| limit_to_window(&mut config));
    Ok((config, note.flatten().into_iter().collect()))
}

/// A file's keys, those of its architecture without their prefix.
struct Keys<'a> {
    header: &'a Header,
    prefix: &'a str,
}

impl<'a> Keys<'a> {
    fn new(header: &'a Header) -> Result<Self, Reason> {
        let prefix = match header.values.get("general.architecture") {
            Some(Value::Text(name)) if name == "llama" || name == "cwm" => name,
            Some(Value::Text(name)) => {
                return Err(format!("architecture `{name}` is not llama or cwm"));
            }
            _ => return Err("it does not name its architecture".to_owned()),
        };
        let keys = Self { header, prefix };
        keys.check()?;
        Ok(keys)
    }

    fn is_llama(&self) -> bool {
        self.prefix == "llama"
    }

    /// Refuses what would be another model than the one described by the keys that are read.
    fn check(&self) -> Result<(), Reason> {
        for key in self.header.values.keys() {
            let own = key
                .strip_prefix(self.prefix)
                .and_then(|key| key.strip_prefix('.'));
            let Some(own) = own else { continue };
            // In a `cwm` file the key that `llama` files borrow is one of its own.
            if !KNOWN.contains(&own) && key != EOS_IDS {
                return Err(format!(
                    "key `{key}` is not known here and may change what the model computes"
                ));
            }
        }
        if self.optional_size("expert_count")?.unwrap_or(0) > 0 {
            return Err("mixtures of experts are not supported".to_owned());
        }
        let rule = self.text("rope.scaling.type")?.unwrap_or("none");
        let is_known = rule == "none" || (rule == "llama3" && !self.is_llama());
        if !is_known {
            return Err(format!("RoPE scaling `{rule}` is not supported"));
        }
        match self.header.values.get("split.count") {
            Some(Value::Whole(2..)) => Err(
                "it is one part of several; join them with llama.cpp's `llama-gguf-split --merge`"
                    .to_owned(),
            ),
            _ => Ok(()),
        }
    }

    fn get(&self, key: &str) -> Option<&'a Value> {
        self.header.values.get(&self.full(key))
    }

    fn full(&self, key: &str) -> String {
        format!("{}.{key}", self.prefix)
    }

    fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    fn tensor(&self, name: &str) -> Option<&'a [usize]> {
        let tensors = &self.header.tensors;
        let head = tensors.iter().find(|tensor| tensor.name == name)?;
        Some(&head.shape)
    }

    fn wrong<T>(&self, key: &str, expected: &str) -> Result<T, Reason> {
        match self.get(key) {
            None => Err(format!("key `{}` is missing", self.full(key))),
            Some(_) => Err(format!("key `{}` is not {expected}", self.full(key))),
        }
    }

    fn optional_size(&self, key: &str) -> Result<Option<usize>, Reason> {
        match self.get(key) {
            None => Ok(None),
            Some(value) => match as_size(value) {
                Some(size) => Ok(Some(size)),
                None => self.wrong(key, "a whole number"),
            },
        }
    }

    fn size(&self, key: &str) -> Result<usize, Reason> {
        match self.optional_size(key)? {
            Some(size) => Ok(size),
            None => self.wrong(key, "a whole number"),
        }
    }

    /// A number that some files give for each layer; here it must be one for all.
    fn per_layer(&self, key: &str) -> Result<usize, Reason> {
        let Some(Value::List(values)) = self.get(key) else {
            return self.size(key);
        };
        let first = values
            .first()
            .filter(|first| values.iter().all(|v| v == *first));
        match first.and_then(as_size) {
            Some(size) => Ok(size),
            None => self.wrong(key, "the same for all layers, which is not supported"),
        }
    }

    fn float(&self, key: &str) -> Result<Option<f64>, Reason> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Float(value)) => Ok(Some(*value)),
            Some(Value::Whole(value)) => Ok(Some(*value as f64)),
            Some(_) => self.wrong(key, "a number"),
        }
    }

    fn needed_float(&self, key: &str) -> Result<f64, Reason> {
        match self.float(key)? {
            Some(value) => Ok(value),
            None => self.wrong(key, "a number"),
        }
    }

    fn text(&self, key: &str) -> Result<Option<&'a str>, Reason> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(_) => self.wrong(key, "a text"),
        }
    }

    fn vocabulary(&self) -> Result<usize, Reason> {
        match (
            self.optional_size("vocab_size")?,
            self.tensor("token_embd.weight"),
        ) {
            (Some(size), _) => Ok(size),
            (None, Some(&[rows, _])) => Ok(rows),
            (None, _) => self.wrong("vocab_size", "a whole number"),
        }
    }

    fn head_dim(&self, hidden: usize, n_heads: usize) -> Result<usize, Reason> {
        let stated = self.optional_size("attention.key_length")?;
        let head_dim = stated.unwrap_or(hidden.checked_div(n_heads).unwrap_or(0));
        for key in ["attention.value_length", "rope.dimension_count"] {
            let other = self.optional_size(key)?.unwrap_or(head_dim);
            if other != head_dim {
                return Err(format!(
                    "{} = {other} is not the width of a head, {head_dim}; that is not supported",
                    self.full(key)
                ));
            }
        }
        Ok(head_dim)
    }

    fn windows(
        &self,
        n_layers: usize,
        positions: usize,
    ) -> Result<(usize, Vec<LayerType>), Reason> {
        // Before a list of that length is made.
        if n_layers > MAX_LAYERS {
            return Err(format!(
                "{} = {n_layers} is absurd",
                self.full("block_count")
            ));
        }
        let window = self
            .optional_size("attention.sliding_window")?
            .filter(|w| *w > 0);
        let Some(window) = window else {
            return Ok((positions, vec![LayerType::Full; n_layers]));
        };
        if self.is_llama() {
            return Err(format!(
                "it is called `llama` but has windows of {window} tokens, and which layers have \
                 them is not said; convert the original folder with `cwm convert`"
            ));
        }
        let key = "attention.sliding_window_pattern";
        match self.get(key) {
            None => Ok((window, meta_layer_types(n_layers))),
            Some(Value::List(layers)) if layers.len() == n_layers => {
                let kind = |slides: &Value| match slides {
                    Value::Bool(true) => Some(LayerType::Sliding),
                    Value::Bool(false) => Some(LayerType::Full),
                    _ => None,
                };
                match layers.iter().map(kind).collect() {
                    Some(types) => Ok((window, types)),
                    None => self.wrong(key, "a list of truth values"),
                }
            }
            Some(_) => self.wrong(key, "a list with a truth value for each layer"),
        }
    }

    /// Llama-3's scaling as our own keys have it.
    fn scaling(&self) -> Result<Option<Llama3Scaling>, Reason> {
        let ours = Keys {
            header: self.header,
            prefix: SCALING,
        };
        let Some(factor) = ours.float("factor")? else {
            return Ok(None);
        };
        Ok(Some(Llama3Scaling {
            factor,
            low_freq_factor: ours.needed_float("low_freq_factor")?,
            high_freq_factor: ours.needed_float("high_freq_factor")?,
            original_max_position_embeddings: ours.size("original_context_length")?,
        }))
    }

    fn runs(&self) -> Result<Option<RunEmbedding>, Reason> {
        let Some(n_places) = self.optional_size("run_embedding.n_places")? else {
            return Ok(None);
        };
        let key = "run_embedding.kinds";
        let Some(Value::List(ids)) = self.get(key) else {
            return self.wrong(key, "a list of ids");
        };
        let ids: Option<Vec<u32>> = ids.iter().map(as_id).collect();
        let Some(ids) = ids.filter(|ids| ids.len().is_multiple_of(2)) else {
            return self.wrong(key, "a list of first and last ids");
        };
        let (kinds, _) = ids.as_chunks::<2>();
        Ok(Some(RunEmbedding {
            kinds: kinds.to_vec(),
            n_places,
        }))
    }

    fn id(&self, key: &str) -> Result<Option<u32>, Reason> {
        match self.header.values.get(key) {
            None => Ok(None),
            Some(value) => match as_id(value) {
                Some(id) => Ok(Some(id)),
                None => Err(format!("key `{key}` is not a token id")),
            },
        }
    }

    /// Ids that end a text: our list, or what llama.cpp has in single keys.
    fn ends(&self) -> Result<Vec<u32>, Reason> {
        if let Some(value) = self.header.values.get(EOS_IDS) {
            let ids = match value {
                Value::List(ids) => ids.iter().map(as_id).collect(),
                _ => None,
            };
            return ids.ok_or_else(|| format!("key `{EOS_IDS}` is not a list of token ids"));
        }
        let mut ids = Vec::new();
        for name in ["eos", "eom", "eot"] {
            let id = self.id(&format!("tokenizer.ggml.{name}_token_id"))?;
            ids.extend(id.filter(|id| !ids.contains(id)));
        }
        Ok(ids)
    }
}

fn as_size(value: &Value) -> Option<usize> {
    match value {
        Value::Whole(n) => usize::try_from(*n).ok(),
        _ => None,
    }
}

fn as_id(value: &Value) -> Option<u32> {
    match value {
        Value::Whole(n) => u32::try_from(*n).ok(),
        _ => None,
    }
}

/// By how much a config's scaling divides each frequency.
pub(super) fn scaling_factors(config: &Config) -> Vec<f32> {
    let mut plain = config.clone();
    plain.rope.scaling = None;
    let pairs = plain.inv_freq().into_iter().zip(config.inv_freq());
    pairs.map(|(plain, scaled)| plain / scaled).collect()
}

/// Makes the scaling agree with the tensor of factors that Llama-3 files have. They do not have
/// the numbers it was made from, but all models of that family share three of the four.
fn settle_scaling(config: &mut Config, factors: &[f32]) -> Result<(), Reason> {
    let agrees = |config: &Config| {
        let own = scaling_factors(config);
        let near = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-3 * b.abs();
        own.len() == factors.len() && own.iter().zip(factors).all(near)
    };
    // RoPE of an absurd width is not worth a list; the config is refused by the caller.
    if config.head_dim != 2 * factors.len() {
        let (found, width) = (factors.len(), config.head_dim);
        return Err(format!(
            "it has {found} RoPE factors for heads of width {width}"
        ));
    }
    if config.rope.scaling.is_none() && factors.iter().any(|factor| *factor != 1.0) {
        let largest = factors
            .iter()
            .fold(1.0_f32, |most, factor| most.max(*factor));
        config.rope.scaling = Some(Llama3Scaling {
            factor: largest.into(),
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_position_embeddings: 8192,
        });
    }
    match agrees(config) {
        true => Ok(()),
        false => Err("its RoPE factors follow no rule that is supported".to_owned()),
    }
}

/// CWM-32B under the name of Llama, as converters that know no windows write it: up to the length
/// of a window both are the same, beyond it they are not.
fn limit_to_window(config: &mut Config) -> Option<String> {
    const CWM_WINDOW: usize = 8192;
    let sizes = [
        config.n_layers,
        config.hidden_size,
        config.intermediate_size,
        config.n_heads,
        config.n_kv_heads,
        config.vocab_size,
    ];
    let is_cwm = sizes == [64, 6144, 21_504, 48, 8, 128_256];
    if !is_cwm || config.max_position_embeddings <= CWM_WINDOW {
        return None;
    }
    config.max_position_embeddings = CWM_WINDOW;
    config.sliding_window = CWM_WINDOW;
    Some(format!(
        "this file has the sizes of CWM-32B but calls itself llama and says nothing of its \
         windows; it is right up to {CWM_WINDOW} tokens, to which it is held; convert the \
         original folder with `cwm convert` for longer ones"
    ))
}
