//! The forward pass over a chunk of new tokens that follow a cached prefix.
//!
//! A chunk is cut into lanes of consecutive tokens, one per thread. Each layer has two phases:
//! every lane computes queries, keys and values of its tokens; the keys and values are stored;
//! every lane attends and runs the MLP. Tokens only meet in the cache, so a lane never waits for
//! another within a phase.
//!
//! Apart from the matrix products under [`Numerics::Fast`], every kernel is called once per token,
//! with slices whose lengths depend on the model and the position only: this is what makes the
//! result independent of the chunking.

use std::ops::Range;

use cwm_kernels::{
    AttentionShape, Direction, KvPage, RopeTable, Scratch, add, attention_decode, rms_norm, rope,
    swiglu,
};

use crate::kv::Cache;
use crate::weights::{Decoder, Layer, Numerics};

/// The sizes a forward pass needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dims {
    pub(crate) hidden: usize,
    pub(crate) inner: usize,
    pub(crate) attention: AttentionShape,
    pub(crate) eps: f32,
}

impl Dims {
    fn q_dim(&self) -> usize {
        self.attention.n_heads * self.attention.head_dim
    }

    fn kv_dim(&self) -> usize {
        self.attention.n_kv_heads * self.attention.head_dim
    }

    fn qkv_dim(&self) -> usize {
        self.q_dim() + 2 * self.kv_dim()
    }
}

/// What every lane may read while a chunk is computed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context<'a> {
    pub(crate) decoder: &'a Decoder,
    pub(crate) rope: &'a RopeTable,
    pub(crate) dims: Dims,
    pub(crate) numerics: Numerics,
}

/// Which tokens of a chunk need their final hidden state, and so their logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// No logits: only fill the cache.
    None,
    /// The logits after the last token.
    Last,
    /// The logits after every token.
    All,
}

/// New tokens behind as many earlier ones as their embeddings depend on.
struct Text {
    ids: Vec<u32>,
    /// Of each token in its run; empty where the model does not look at it.
    places: Vec<Option<u32>>,
}

impl Text {
    fn new(decoder: &Decoder, cache: &Cache, new: &[u32]) -> Self {
        let start = cache.len();
        let runs = decoder.run.as_ref().map(|(runs, _)| runs);
        let in_run = runs.map_or(0, |runs| runs.n_places);
        let first = start.saturating_sub(decoder.previous.len().max(in_run));
        let earlier = (first..start).filter_map(|at| cache.id(at));
        let ids: Vec<u32> = earlier.chain(new.iter().copied()).collect();
        let places = runs.map(|runs| runs.places(ids.iter().copied()));
        let places = places.unwrap_or_default();
        Self { ids, places }
    }
}

/// Consecutive tokens of a chunk with their activations, row-major, one row per token. Buffers are
/// reused.
#[derive(Debug, Default)]
struct Lane {
    /// Position of the first row.
    start: usize,
    rows: usize,
    /// Residual stream `[rows, hidden]`.
    x: Vec<f32>,
    normed: Vec<f32>,
    /// Queries, keys and values, `[rows, qkv_dim]`.
    qkv: Vec<f32>,
    attended: Vec<f32>,
    gate_up: Vec<f32>,
    activated: Vec<f32>,
    /// What a block adds to the residual stream.
    delta: Vec<f32>,
    scratch: Scratch,
}

impl Lane {
    /// Looks up the embeddings of `text[chunk]`, whose tokens stand at positions `start..`.
    fn embed(&mut self, context: &Context<'_>, start: usize, text: &Text, chunk: Range<usize>) {
        let Dims { hidden, inner, .. } = context.dims;
        let (before, ids) = text.ids[..chunk.end].split_at(chunk.start);
        (self.start, self.rows) = (start, ids.len());
        self.x.clear();
        let entry = |id: u32| id as usize * hidden..(id as usize + 1) * hidden;
        for (index, &id) in ids.iter().enumerate() {
            let begin = self.x.len();
            self.x
                .extend_from_slice(&context.decoder.embeddings[entry(id)]);
            let earlier = ids[..index].iter().rev().chain(before.iter().rev());
            for (table, &id) in context.decoder.previous.iter().zip(earlier) {
                add(&mut self.x[begin..], &table[entry(id)]);
            }
            let place = text.places.get(chunk.start + index).copied().flatten();
            if let (Some((_, table)), Some(place)) = (&context.decoder.run, place) {
                add(&mut self.x[begin..], &table[entry(place)]);
            }
        }
        self.normed.resize(self.rows * hidden, 0.0);
        self.qkv.resize(self.rows * context.dims.qkv_dim(), 0.0);
        self.attended.resize(self.rows * context.dims.q_dim(), 0.0);
        self.gate_up.resize(self.rows * 2 * inner, 0.0);
        self.activated.resize(self.rows * inner, 0.0);
        self.delta.resize(self.rows * hidden, 0.0);
    }

    /// Normalises the residual stream into `normed`, row by row.
    fn normalise(&mut self, context: &Context<'_>, weight: &[f32]) {
        let Dims { hidden, eps, .. } = context.dims;
        for (out, x) in self
            .normed
            .chunks_exact_mut(hidden)
            .zip(self.x.chunks_exact(hidden))
        {
            rms_norm(out, x, weight, eps);
        }
    }

    /// Phase one: queries, keys and values, rotated.
    fn project(&mut self, context: &Context<'_>, layer: &Layer) {
        let dims = context.dims;
        let AttentionShape {
            n_heads,
            n_kv_heads,
            head_dim,
        } = dims.attention;
        self.normalise(context, &layer.attention_norm);
        layer
            .qkv
            .apply(&mut self.qkv, &self.normed, context.numerics);
        let rotated = dims.q_dim() + dims.kv_dim();
        for (row, qkv) in self.qkv.chunks_exact_mut(dims.qkv_dim()).enumerate() {
            let position = [(self.start + row) as u32];
            let heads = n_heads + n_kv_heads;
            rope(
                &mut qkv[..rotated],
                heads,
                head_dim,
                &position,
                context.rope,
                Direction::Forward,
            );
        }
    }

    /// Stores the keys and values of phase one.
    fn store(&self, context: &Context<'_>, layer: usize, cache: &mut Cache) {
        let dims = context.dims;
        for (row, qkv) in self.qkv.chunks_exact(dims.qkv_dim()).enumerate() {
            let (key, value) = qkv[dims.q_dim()..].split_at(dims.kv_dim());
            cache.write(layer, self.start + row, key, value);
        }
    }

    /// Drops all rows but the last: the rest has no further use once its keys and values are
    /// stored.
    fn keep_last(&mut self, dims: &Dims) {
        let dropped = self.rows.saturating_sub(1);
        self.start += dropped;
        self.rows -= dropped;
        self.x.drain(..dropped * dims.hidden);
        self.qkv.drain(..dropped * dims.qkv_dim());
        self.normed.truncate(self.rows * dims.hidden);
        self.attended.truncate(self.rows * dims.q_dim());
        self.gate_up.truncate(self.rows * 2 * dims.inner);
        self.activated.truncate(self.rows * dims.inner);
        self.delta.truncate(self.rows * dims.hidden);
    }

    /// Phase two: attention over the cache, output projection, MLP, each added to the residual
    /// stream.
    fn finish(&mut self, context: &Context<'_>, index: usize, layer: &Layer, cache: &Cache) {
        self.attend(context, index, layer, cache);
        layer
            .output
            .apply(&mut self.delta, &self.attended, context.numerics);
        add(&mut self.x, &self.delta);

        self.normalise(context, &layer.mlp_norm);
        layer
            .gate_up
            .apply(&mut self.gate_up, &self.normed, context.numerics);
        let inner = context.dims.inner;
        let gate_up = self.gate_up.chunks_exact(2 * inner);
        for (out, gate_up) in self.activated.chunks_exact_mut(inner).zip(gate_up) {
            swiglu(out, &gate_up[..inner], &gate_up[inner..]);
        }
        layer
            .down
            .apply(&mut self.delta, &self.activated, context.numerics);
        add(&mut self.x, &self.delta);
    }

    /// Attends from every row to the cached positions it may see, its own included.
    fn attend(&mut self, context: &Context<'_>, index: usize, layer: &Layer, cache: &Cache) {
        let dims = context.dims;
        let mut pages: Vec<KvPage<'_>> = Vec::new();
        let queries = self.qkv.chunks_exact(dims.qkv_dim());
        for (row, (out, qkv)) in self
            .attended
            .chunks_exact_mut(dims.q_dim())
            .zip(queries)
            .enumerate()
        {
            let position = self.start + row;
            let first = layer
                .window
                .map_or(0, |window| (position + 1).saturating_sub(window));
            pages.clear();
            cache.visible(index, first..=position, &mut pages);
            attention_decode(
                out,
                &qkv[..dims.q_dim()],
                &pages,
                dims.attention,
                &mut self.scratch,
            );
        }
    }
}

/// The buffers of one forward pass; any session of the engine may use them next.
#[derive(Debug, Default)]
pub(crate) struct Workspace {
    lanes: Vec<Lane>,
}

impl Workspace {
    /// Runs `ids` as positions `cache.len()..`, for which `cache` has reserved rows, and appends
    /// the wanted logits to `logits`. The rows are not committed.
    pub(crate) fn run(
        &mut self,
        context: &Context<'_>,
        cache: &mut Cache,
        ids: &[u32],
        want: Want,
        threads: usize,
        logits: &mut Vec<f32>,
    ) {
        self.cut(context, cache, ids, threads);
        let last_layer = context.decoder.layers.len() - 1;
        for (index, layer) in context.decoder.layers.iter().enumerate() {
            each(&mut self.lanes, |lane| lane.project(context, layer));
            for lane in &self.lanes {
                lane.store(context, index, cache);
            }
            if index == last_layer {
                self.keep_wanted(&context.dims, want);
            }
            let cache = &*cache;
            each(&mut self.lanes, |lane| {
                lane.finish(context, index, layer, cache)
            });
        }
        for lane in &mut self.lanes {
            lane.normalise(context, &context.decoder.final_norm);
            let head = &context.decoder.head;
            let begin = logits.len();
            logits.resize(begin + lane.rows * head.n, 0.0);
            head.apply(&mut logits[begin..], &lane.normed, context.numerics);
        }
    }

    /// Deals the tokens of a chunk to at most `threads` lanes of at least [`LANE_ROWS`] rows.
    fn cut(&mut self, context: &Context<'_>, cache: &Cache, ids: &[u32], threads: usize) {
        let start = cache.len();
        let text = Text::new(context.decoder, cache, ids);
        let n_before = text.ids.len() - ids.len();
        let n_lanes = (ids.len() / LANE_ROWS).clamp(1, threads);
        let rows = ids.len().div_ceil(n_lanes);
        self.lanes
            .resize_with(ids.len().div_ceil(rows), Lane::default);
        for (index, lane) in self.lanes.iter_mut().enumerate() {
            let (first, end) = (index * rows, ids.len().min((index + 1) * rows));
            let chunk = n_before + first..n_before + end;
            lane.embed(context, start + first, &text, chunk);
        }
    }

    /// In the last layer only the wanted rows have to go on.
    fn keep_wanted(&mut self, dims: &Dims, want: Want) {
        match want {
            Want::All => {}
            Want::None => self.lanes.clear(),
            Want::Last => {
                self.lanes.drain(..self.lanes.len() - 1);
                for lane in &mut self.lanes {
                    lane.keep_last(dims);
                }
            }
        }
    }
}

/// Fewest tokens worth a thread of their own: starting one costs some ten microseconds per phase.
const LANE_ROWS: usize = 8;

/// Runs `work` on every lane, the first on this thread and the others on threads of their own.
fn each(lanes: &mut [Lane], work: impl Fn(&mut Lane) + Sync) {
    let Some((first, rest)) = lanes.split_first_mut() else {
        return;
    };
    if rest.is_empty() {
        return work(first);
    }
    std::thread::scope(|scope| {
        for lane in rest {
            scope.spawn(|| work(lane));
        }
        work(first);
    });
}
