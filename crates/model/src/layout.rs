//! Where each tensor lies in the one flat vector of parameters.
//!
//! Gradients, optimiser moments and anything else per parameter use the same
//! layout, so an optimiser step is one loop and a checkpoint is one buffer.
//! Query, key and value matrices of a layer are adjacent, and so are gate and
//! up, so that decoding can multiply each group in one pass.

use std::ops::Range;

use crate::Config;

/// One named tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// Hugging Face's name, such as `model.layers.0.mlp.up_proj.weight`.
    pub name: String,
    /// `[rows, columns]` of a matrix (row-major), `[length]` of a norm.
    pub shape: Vec<usize>,
    /// First element in the flat vector.
    pub offset: usize,
    /// Number of elements.
    pub len: usize,
}

impl TensorSpec {
    /// Where it lies in the flat vector.
    pub fn range(&self) -> Range<usize> {
        self.offset..self.offset + self.len
    }

    /// Whether it is a matrix (embedding, projection, head), not a norm.
    pub fn is_matrix(&self) -> bool {
        self.shape.len() == 2
    }

    /// Rows of a matrix; a norm is one row.
    pub fn n_rows(&self) -> usize {
        match self.shape[..] {
            [rows, _] => rows,
            _ => 1,
        }
    }

    /// Values in a row.
    pub fn n_cols(&self) -> usize {
        self.len / self.n_rows()
    }

    /// What it is whatever its layer, such as `q_proj`, `embed_tokens` or `lm_head`.
    pub fn kind(&self) -> &str {
        let mut words = self.name.trim_end_matches(".weight").rsplit('.');
        let is_word = |word: &&str| !word.bytes().all(|byte| byte.is_ascii_digit());
        words.find(is_word).unwrap_or(&self.name)
    }

    /// Whether it is a table that ids are looked up in, or the head that chooses among them.
    pub fn is_table(&self) -> bool {
        self.kind().starts_with("embed") || self.kind() == "lm_head"
    }
}

/// Ranges of one layer's tensors in the flat vector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerTensors {
    /// `input_layernorm.weight` `[hidden]`.
    pub attention_norm: Range<usize>,
    /// `self_attn.q_proj.weight` `[n_heads * head_dim, hidden]`.
    pub q: Range<usize>,
    /// `self_attn.k_proj.weight` `[n_kv_heads * head_dim, hidden]`.
    pub k: Range<usize>,
    /// `self_attn.v_proj.weight` `[n_kv_heads * head_dim, hidden]`.
    pub v: Range<usize>,
    /// `self_attn.o_proj.weight` `[hidden, n_heads * head_dim]`.
    pub o: Range<usize>,
    /// `post_attention_layernorm.weight` `[hidden]`.
    pub mlp_norm: Range<usize>,
    /// `mlp.gate_proj.weight` `[intermediate, hidden]`.
    pub gate: Range<usize>,
    /// `mlp.up_proj.weight` `[intermediate, hidden]`.
    pub up: Range<usize>,
    /// `mlp.down_proj.weight` `[hidden, intermediate]`.
    pub down: Range<usize>,
}

impl LayerTensors {
    /// Query, key and value matrices as one
    /// `[(n_heads + 2 * n_kv_heads) * head_dim, hidden]` matrix.
    pub fn qkv(&self) -> Range<usize> {
        self.q.start..self.v.end
    }

    /// Gate and up matrices as one `[2 * intermediate, hidden]` matrix.
    pub fn gate_up(&self) -> Range<usize> {
        self.gate.start..self.up.end
    }
}

/// Table of a model's tensors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    tensors: Vec<TensorSpec>,
    layers: Vec<LayerTensors>,
    embedding: Range<usize>,
    previous: Vec<Range<usize>>,
    run: Option<Range<usize>>,
    final_norm: Range<usize>,
    head: Range<usize>,
    total: usize,
}

impl Layout {
    /// The layout of models of this config, which must be
    /// [valid](Config::validate).
    pub fn new(config: &Config) -> Self {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let (queries, keys) = (config.query_width(), config.kv_width());
        let mut table = Table::default();
        let embedding = table.push(
            "model.embed_tokens.weight".to_owned(),
            &[config.vocab_size, hidden],
        );
        let previous = (1..=config.n_previous_embeddings)
            .map(|distance| {
                table.push(
                    format!("model.embed_previous.{distance}.weight"),
                    &[config.vocab_size, hidden],
                )
            })
            .collect();
        let run = config.run_embedding.as_ref().map(|runs| {
            let name = "model.embed_run.weight".to_owned();
            table.push(name, &[runs.n_places, hidden])
        });
        let layers = (0..config.n_layers)
            .map(|layer| {
                let mut push = |name: &str, shape: &[usize]| {
                    table.push(format!("model.layers.{layer}.{name}.weight"), shape)
                };
                LayerTensors {
                    attention_norm: push("input_layernorm", &[hidden]),
                    q: push("self_attn.q_proj", &[queries, hidden]),
                    k: push("self_attn.k_proj", &[keys, hidden]),
                    v: push("self_attn.v_proj", &[keys, hidden]),
                    o: push("self_attn.o_proj", &[hidden, queries]),
                    mlp_norm: push("post_attention_layernorm", &[hidden]),
                    gate: push("mlp.gate_proj", &[inner, hidden]),
                    up: push("mlp.up_proj", &[inner, hidden]),
                    down: push("mlp.down_proj", &[hidden, inner]),
                }
            })
            .collect();
        let final_norm = table.push("model.norm.weight".to_owned(), &[hidden]);
        let head = if config.tie_word_embeddings {
            embedding.clone()
        } else {
            table.push("lm_head.weight".to_owned(), &[config.vocab_size, hidden])
        };
        Self {
            tensors: table.tensors,
            layers,
            embedding,
            previous,
            run,
            final_norm,
            head,
            total: table.total,
        }
    }

    /// Every tensor, in the order of the flat vector.
    pub fn tensors(&self) -> &[TensorSpec] {
        &self.tensors
    }

    /// The tensor of this name.
    pub fn tensor(&self, name: &str) -> Option<&TensorSpec> {
        self.tensors.iter().find(|tensor| tensor.name == name)
    }

    /// Number of parameters.
    pub fn total(&self) -> usize {
        self.total
    }

    /// Ranges of the layers' tensors, one entry per layer.
    pub fn layers(&self) -> &[LayerTensors] {
        &self.layers
    }

    /// The embedding matrix `[vocab, hidden]`.
    pub fn embedding(&self) -> Range<usize> {
        self.embedding.clone()
    }

    /// The embedding matrix, then those of the tokens before, nearest first.
    pub(crate) fn embeddings(&self) -> impl Iterator<Item = &Range<usize>> {
        std::iter::once(&self.embedding).chain(&self.previous)
    }

    /// What tokens add to the embedding of a later one, `[vocab, hidden]`,
    /// nearest first.
    pub fn previous_embeddings(&self) -> &[Range<usize>] {
        &self.previous
    }

    /// What a token's place in its run adds to its embedding,
    /// `[n_places, hidden]`.
    pub fn run_embedding(&self) -> Option<Range<usize>> {
        self.run.clone()
    }

    /// The last norm `[hidden]`.
    pub fn final_norm(&self) -> Range<usize> {
        self.final_norm.clone()
    }

    /// The head `[vocab, hidden]`: the embedding matrix itself where tied.
    pub fn head(&self) -> Range<usize> {
        self.head.clone()
    }
}

#[derive(Default)]
struct Table {
    tensors: Vec<TensorSpec>,
    total: usize,
}

impl Table {
    fn push(&mut self, name: String, shape: &[usize]) -> Range<usize> {
        let spec = TensorSpec {
            name,
            shape: shape.to_vec(),
            offset: self.total,
            len: shape.iter().product(),
        };
        let range = spec.range();
        self.total = range.end;
        self.tensors.push(spec);
        range
    }
}
