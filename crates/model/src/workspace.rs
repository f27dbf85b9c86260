//! Buffers for running rows: activations kept for the backward pass,
//! gradients in flight, and the kernels' scratch.
//!
//! One per thread, reused from row to row: once it has seen the longest row,
//! no call allocates.

use cwm_kernels::{Precision, RopeTable, Scratch, Span};

use crate::config::{Config, Rope};
use crate::row::Outcome;

/// Logits that exist at a time while training, 16 MiB of them: a chunk of rows reads and writes the
/// head's weights and their gradient once, so few long chunks are faster than many short ones.
const HEAD_LOGITS: usize = 1 << 22;

/// Rows of logits in a chunk: at least enough for the matrix product to run at full speed, which
/// for a vocabulary of 128,256 ids takes 66 MB instead of half a gigabyte at 1,024 tokens.
pub(crate) fn head_rows(config: &Config) -> usize {
    (HEAD_LOGITS / config.vocab_size.max(1)).clamp(128, 512)
}

/// Reusable memory for [`Model`](crate::Model)'s passes. Grows to the largest
/// row it has seen; may be used with any model.
#[derive(Debug, Default)]
pub struct Workspace {
    /// What training passes keep of each layer.
    pub(crate) recompute: bool,
    pub(crate) rope: RopeCache,
    pub(crate) falls: Vec<u32>,
    pub(crate) window_spans: Vec<Span>,
    /// Of each token in its run; empty where the model does not look at it.
    pub(crate) places: Vec<Option<u32>>,
    pub(crate) layers: Vec<LayerActivations>,
    /// Of the one layer at work, where only inputs are kept.
    pub(crate) active: LayerActivations,
    /// What that layer put out when it was computed again.
    pub(crate) again: Vec<f32>,
    pub(crate) shared: Shared,
    pub(crate) gradients: Gradients,
    pub(crate) head: Head,
    pub(crate) scratch: Scratch,
}

/// What a pass leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    /// Activations of every layer, for the backward pass.
    Everything,
    /// What every layer was given, from which the backward pass computes the
    /// activations of one layer at a time again.
    Inputs,
    /// The last residual stream only; layers take turns in two slots.
    Last,
}

impl Keep {
    /// Which entry of [`Workspace::layers`] is layer `layer`'s.
    pub(crate) fn slot(self, layer: usize) -> usize {
        match self {
            Self::Everything | Self::Inputs => layer,
            Self::Last => 0,
        }
    }
}

/// What one layer computed. Norms and the SwiGLU product are cheap next to
/// the matrix products around them and are computed again going backward.
#[derive(Debug, Default)]
pub(crate) struct LayerActivations {
    /// Residual stream on entry `[T, hidden]`.
    pub(crate) input: Vec<f32>,
    /// Rotated queries `[T, n_heads * head_dim]`.
    pub(crate) q: Vec<f32>,
    /// Rotated keys `[T, n_kv_heads * head_dim]`.
    pub(crate) k: Vec<f32>,
    /// Values `[T, n_kv_heads * head_dim]`.
    pub(crate) v: Vec<f32>,
    /// Output of attention before its projection `[T, n_heads * head_dim]`.
    pub(crate) attended: Vec<f32>,
    /// Log-sum-exp of scores `[n_heads, T]`.
    pub(crate) lse: Vec<f32>,
    /// Residual stream between attention and feed-forward `[T, hidden]`.
    pub(crate) middle: Vec<f32>,
    /// `[T, intermediate]`.
    pub(crate) gate: Vec<f32>,
    /// `[T, intermediate]`.
    pub(crate) up: Vec<f32>,
}

/// Values that live within one layer's pass.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// `[T, hidden]`.
    pub(crate) normed: Vec<f32>,
    /// `silu(gate) * up` `[T, intermediate]`.
    pub(crate) product: Vec<f32>,
}

/// Gradients with respect to activations.
#[derive(Debug, Default)]
pub(crate) struct Gradients {
    /// Of the residual stream `[T, hidden]`.
    pub(crate) residual: Vec<f32>,
    pub(crate) normed: Vec<f32>,
    pub(crate) product: Vec<f32>,
    pub(crate) gate: Vec<f32>,
    pub(crate) up: Vec<f32>,
    pub(crate) attended: Vec<f32>,
    pub(crate) q: Vec<f32>,
    pub(crate) k: Vec<f32>,
    pub(crate) v: Vec<f32>,
}

/// One chunk of [`head_rows`] targets.
#[derive(Debug, Default)]
pub(crate) struct Head {
    /// Residual stream of the targets' rows `[n, hidden]`.
    pub(crate) gathered: Vec<f32>,
    pub(crate) normed: Vec<f32>,
    /// Logits, then their gradient `[n, vocab]`.
    pub(crate) logits: Vec<f32>,
    pub(crate) d_gathered: Vec<f32>,
    pub(crate) d_normed: Vec<f32>,
    pub(crate) ids: Vec<u32>,
    pub(crate) weights: Vec<f32>,
    /// Of all targets of the row that was passed last.
    pub(crate) outcomes: Vec<Outcome>,
}

impl Workspace {
    /// An empty workspace for passes in f32.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty workspace for passes whose matrix products may run in
    /// `precision`; all else is f32.
    pub fn in_precision(precision: Precision) -> Self {
        Self {
            scratch: Scratch::new(precision),
            ..Self::default()
        }
    }

    /// With `recompute`, training passes keep only what each layer was given
    /// and compute its activations again on the way back: the same results
    /// bit for bit, in a fraction of the memory, for about a third more work
    /// (Chen et al. 2016, arXiv 1604.06174).
    #[must_use]
    pub fn recomputing(self, recompute: bool) -> Self {
        Self { recompute, ..self }
    }

    /// What a training pass has to keep.
    pub(crate) fn keep_for_training(&self) -> Keep {
        match self.recompute {
            true => Keep::Inputs,
            false => Keep::Everything,
        }
    }

    /// Grows at once to what training on rows of up to `tokens` tokens takes,
    /// apart from the kernels' own scratch.
    pub fn reserve_training(&mut self, config: &Config, tokens: usize) {
        self.size_layers(config, tokens, self.keep_for_training());
        self.size_gradients(config, tokens);
        self.head.resize(config, head_rows(config).min(tokens));
        self.rope.table(config, tokens.saturating_sub(1) as u32);
    }

    /// How each target of the row that was passed last came out, in the order of the targets.
    pub fn outcomes(&self) -> &[Outcome] {
        &self.head.outcomes
    }

    /// Bytes held, apart from the kernels' own scratch.
    pub fn bytes(&self) -> usize {
        let Self {
            recompute: _,
            rope,
            falls,
            window_spans,
            places,
            layers,
            active,
            again,
            shared,
            gradients,
            head,
            scratch: _,
        } = self;
        let floats = layers
            .iter()
            .chain([active])
            .flat_map(LayerActivations::buffers)
            .chain([again, &shared.normed, &shared.product])
            .chain(gradients.buffers())
            .chain(head.buffers())
            .map(Vec::capacity)
            .sum::<usize>();
        size_of::<f32>() * (floats + rope.floats() + falls.capacity() + head.ids.capacity())
            + size_of::<Span>() * window_spans.capacity()
            + size_of::<Option<u32>>() * places.capacity()
            + size_of::<Outcome>() * head.outcomes.capacity()
    }

    /// Sizes what a forward pass over `tokens` tokens writes.
    pub(crate) fn size_layers(&mut self, config: &Config, tokens: usize, keep: Keep) {
        let slots = match keep {
            Keep::Everything | Keep::Inputs => config.n_layers + 1,
            Keep::Last => 2,
        };
        if keep == Keep::Inputs {
            self.active.resize(config, tokens);
            self.again.resize(tokens * config.hidden_size, 0.0);
        }
        if self.layers.len() < slots {
            self.layers.resize_with(slots, Default::default);
        }
        for (index, slot) in self.layers[..slots].iter_mut().enumerate() {
            // The slot after the last layer holds the final residual only.
            let last = keep == Keep::Everything && index == config.n_layers;
            if last || keep == Keep::Inputs {
                slot.input.resize(tokens * config.hidden_size, 0.0);
            } else {
                slot.resize(config, tokens);
            }
        }
        self.shared.normed.resize(tokens * config.hidden_size, 0.0);
        let inner = tokens * config.intermediate_size;
        self.shared.product.resize(inner, 0.0);
    }

    /// Sizes what a backward pass writes.
    pub(crate) fn size_gradients(&mut self, config: &Config, tokens: usize) {
        let gradients = &mut self.gradients;
        for buffer in [&mut gradients.residual, &mut gradients.normed] {
            buffer.resize(tokens * config.hidden_size, 0.0);
        }
        for buffer in [
            &mut gradients.product,
            &mut gradients.gate,
            &mut gradients.up,
        ] {
            buffer.resize(tokens * config.intermediate_size, 0.0);
        }
        for buffer in [&mut gradients.attended, &mut gradients.q] {
            buffer.resize(tokens * config.query_width(), 0.0);
        }
        for buffer in [&mut gradients.k, &mut gradients.v] {
            buffer.resize(tokens * config.kv_width(), 0.0);
        }
    }
}

impl LayerActivations {
    fn resize(&mut self, config: &Config, tokens: usize) {
        for buffer in [&mut self.input, &mut self.middle] {
            buffer.resize(tokens * config.hidden_size, 0.0);
        }
        for buffer in [&mut self.q, &mut self.attended] {
            buffer.resize(tokens * config.query_width(), 0.0);
        }
        for buffer in [&mut self.k, &mut self.v] {
            buffer.resize(tokens * config.kv_width(), 0.0);
        }
        for buffer in [&mut self.gate, &mut self.up] {
            buffer.resize(tokens * config.intermediate_size, 0.0);
        }
        self.lse.resize(tokens * config.n_heads, 0.0);
    }

    fn buffers(&self) -> [&Vec<f32>; 9] {
        [
            &self.input,
            &self.q,
            &self.k,
            &self.v,
            &self.attended,
            &self.lse,
            &self.middle,
            &self.gate,
            &self.up,
        ]
    }
}

impl Gradients {
    fn buffers(&self) -> [&Vec<f32>; 9] {
        [
            &self.residual,
            &self.normed,
            &self.product,
            &self.gate,
            &self.up,
            &self.attended,
            &self.q,
            &self.k,
            &self.v,
        ]
    }
}

impl Head {
    /// Sizes for `rows` rows.
    pub(crate) fn resize(&mut self, config: &Config, rows: usize) {
        for buffer in [
            &mut self.gathered,
            &mut self.normed,
            &mut self.d_gathered,
            &mut self.d_normed,
        ] {
            buffer.resize(rows * config.hidden_size, 0.0);
        }
        self.logits.resize(rows * config.vocab_size, 0.0);
        self.ids.resize(rows, 0);
        self.weights.resize(rows, 0.0);
    }

    fn buffers(&self) -> [&Vec<f32>; 6] {
        [
            &self.gathered,
            &self.normed,
            &self.logits,
            &self.d_gathered,
            &self.d_normed,
            &self.weights,
        ]
    }
}

/// Sines and cosines for the positions seen so far.
#[derive(Debug, Default)]
pub(crate) struct RopeCache(Option<CachedRope>);

#[derive(Debug)]
struct CachedRope {
    rope: Rope,
    head_dim: usize,
    table: RopeTable,
}

impl RopeCache {
    /// A table that reaches `last_position` (which is below the config's
    /// `max_position_embeddings`).
    pub(crate) fn table(&mut self, config: &Config, last_position: u32) -> &RopeTable {
        let needed = last_position as usize + 1;
        let cached = self.0.take().filter(|cached| {
            cached.rope == config.rope
                && cached.head_dim == config.head_dim
                && cached.table.n_positions() >= needed
        });
        let cached = cached.unwrap_or_else(|| {
            // Powers of two, so that growing rows do not rebuild it each time.
            let positions = needed.next_power_of_two().max(256);
            CachedRope {
                rope: config.rope,
                head_dim: config.head_dim,
                table: RopeTable::new(&config.inv_freq(), positions),
            }
        });
        &self.0.insert(cached).table
    }

    fn floats(&self) -> usize {
        let floats = |cached: &CachedRope| cached.table.n_positions() * cached.head_dim;
        self.0.as_ref().map_or(0, floats)
    }
}
