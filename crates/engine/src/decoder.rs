//! The forward pass over new tokens of one or more sequences, each behind its cached prefix.
//!
//! The rows of all sequences go through each product together, so that the weights are read once;
//! they only meet in the products, where a row does not notice the others, and in the attention of
//! their own sequence. Every other kernel is called once per row, with slices whose lengths depend
//! on the model and the position only. So the result depends on a sequence's tokens alone: not on
//! how they are cut into calls, nor on what else is computed with them, nor on the threads.

use std::ops::Range;

use cwm_kernels::{
    AttentionShape, Direction, KvPlane, LinearScratch, PagedQueries, Pool, RopeTable, Store, add,
    attention_paged, rms_norm, rope, swiglu,
};

use crate::Mask;
use crate::kv::Cache;
use crate::weights::{Decoder, Layer};

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
        self.attention.q_width()
    }

    fn kv_dim(&self) -> usize {
        self.attention.kv_width()
    }

    fn qkv_dim(&self) -> usize {
        self.q_dim() + 2 * self.kv_dim()
    }
}

/// What a pass reads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context<'a> {
    pub(crate) decoder: &'a Decoder,
    pub(crate) rope: &'a RopeTable,
    pub(crate) pool: &'a Pool,
    pub(crate) dims: Dims,
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

impl Want {
    /// What is wanted of a part of the tokens that is not the last.
    pub(crate) fn before_last(self) -> Self {
        match self {
            Self::All => Self::All,
            Self::Last | Self::None => Self::None,
        }
    }

    /// Which of `n` tokens are wanted.
    fn of(self, n: usize) -> Range<usize> {
        match self {
            Self::None => n..n,
            Self::Last => n.saturating_sub(1)..n,
            Self::All => 0..n,
        }
    }
}

/// New tokens of one sequence.
#[derive(Debug)]
pub(crate) struct Segment<'a> {
    /// Rows for the tokens are reserved in it; they are not committed by the pass.
    pub(crate) cache: &'a mut Cache,
    pub(crate) ids: &'a [u32],
    pub(crate) want: Want,
    /// Tokens whose logits are of interest; all, where it says nothing.
    pub(crate) legal: Option<Mask<'a>>,
    /// Where the wanted logits are appended.
    pub(crate) logits: &'a mut Vec<f32>,
}

/// Rows worth a thread of their own in what is not a product.
const ROWS: usize = 4;

/// The buffers of one forward pass; any session of the engine may use them next. Each holds a row
/// for each token.
#[derive(Debug, Default)]
pub(crate) struct Workspace {
    /// Residual stream `[rows, hidden]`.
    x: Vec<f32>,
    normed: Vec<f32>,
    /// Queries, keys and values, `[rows, qkv_dim]`.
    qkv: Vec<f32>,
    attended: Vec<f32>,
    gate_up: Vec<f32>,
    activated: Vec<f32>,
    logits: Vec<f32>,
    /// Positions of the rows.
    positions: Vec<u32>,
    scratch: LinearScratch,
}

/// A row's worth of `buffer`, for each of `rows`, with unspecified contents.
fn room(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    &mut buffer[..len]
}

/// `out = norm(x) * weight`, row by row.
fn normalise(context: &Context<'_>, out: &mut [f32], x: &[f32], weight: &[f32]) {
    let Dims { hidden, eps, .. } = context.dims;
    let width = ROWS * hidden;
    context.pool.for_each_chunk(out, width, |chunk, out| {
        let x = &x[chunk * width..][..out.len()];
        for (out, x) in out.chunks_exact_mut(hidden).zip(x.chunks_exact(hidden)) {
            rms_norm(out, x, weight, eps);
        }
    });
}

impl Workspace {
    /// Runs the new tokens of `segments`, for which their caches have reserved rows.
    pub(crate) fn run(&mut self, context: &Context<'_>, segments: &mut [Segment<'_>]) {
        self.embed(context, segments);
        let (last, layers) = match context.decoder.layers.split_last() {
            Some((last, layers)) => (last, layers),
            None => return,
        };
        let all: Vec<Range<usize>> = segments.iter().map(|s| 0..s.ids.len()).collect();
        for (index, layer) in layers.iter().enumerate() {
            self.project(context, layer, index, segments);
            self.attend(context, index, segments, &all);
            self.finish(context, layer);
        }
        // The keys and values of the last layer are needed, but of the rest only wanted rows.
        self.project(context, last, layers.len(), segments);
        let wanted: Vec<Range<usize>> = (segments.iter())
            .map(|segment| segment.want.of(segment.ids.len()))
            .collect();
        self.attend(context, layers.len(), segments, &wanted);
        self.keep(context, &all, &wanted);
        self.finish(context, last);
        self.head(context, segments, &wanted);
    }

    /// Looks up the embeddings of the new tokens.
    fn embed(&mut self, context: &Context<'_>, segments: &[Segment<'_>]) {
        let hidden = context.dims.hidden;
        let rows: usize = segments.iter().map(|segment| segment.ids.len()).sum();
        self.positions.clear();
        self.x.resize(rows * hidden, 0.0);
        let mut rows = self.x.chunks_exact_mut(hidden);
        for segment in segments {
            let start = segment.cache.len();
            let text = Text::new(context.decoder, segment);
            for (at, row) in (0..segment.ids.len()).zip(&mut rows) {
                text.embed(context.decoder, at, row);
                self.positions.push((start + at) as u32);
            }
        }
    }

    /// Queries, keys and values, rotated; the latter two go into the caches.
    fn project(
        &mut self,
        context: &Context<'_>,
        layer: &Layer,
        index: usize,
        segments: &mut [Segment<'_>],
    ) {
        let dims = context.dims;
        let (hidden, qkv_dim) = (dims.hidden, dims.qkv_dim());
        let rows = self.x.len() / hidden;
        let normed = room(&mut self.normed, rows * hidden);
        normalise(context, normed, &self.x, &layer.attention_norm);
        let qkv = room(&mut self.qkv, rows * qkv_dim);
        layer.qkv.apply(
            qkv,
            normed,
            Store::Overwrite,
            context.pool,
            &mut self.scratch,
        );
        let AttentionShape {
            n_heads,
            n_kv_heads,
            head_dim,
        } = dims.attention;
        let positions = &self.positions;
        context
            .pool
            .for_each_chunk(qkv, ROWS * qkv_dim, |chunk, qkv| {
                let rotated = dims.q_dim() + dims.kv_dim();
                for (row, qkv) in qkv.chunks_exact_mut(qkv_dim).enumerate() {
                    let position = &positions[chunk * ROWS + row..][..1];
                    let (heads, turn) = (n_heads + n_kv_heads, Direction::Forward);
                    rope(
                        &mut qkv[..rotated],
                        heads,
                        head_dim,
                        position,
                        context.rope,
                        turn,
                    );
                }
            });
        let mut rows = qkv.chunks_exact(qkv_dim);
        for segment in segments {
            let start = segment.cache.len();
            for (at, qkv) in (0..segment.ids.len()).zip(&mut rows) {
                let (key, value) = qkv[dims.q_dim()..].split_at(dims.kv_dim());
                segment.cache.write(index, start + at, key, value);
            }
        }
    }

    /// Attention of the `wanted` tokens of each segment; the others get nothing.
    fn attend(
        &mut self,
        context: &Context<'_>,
        index: usize,
        segments: &[Segment<'_>],
        wanted: &[Range<usize>],
    ) {
        let dims = context.dims;
        let (q_dim, qkv_dim) = (dims.q_dim(), dims.qkv_dim());
        let rows = self.x.len() / dims.hidden;
        let attended = room(&mut self.attended, rows * q_dim);
        let mut begin = 0;
        for (segment, wanted) in segments.iter().zip(wanted) {
            let here = begin + wanted.start..begin + wanted.end;
            begin += segment.ids.len();
            if here.is_empty() {
                continue;
            }
            let start = segment.cache.len() + wanted.start;
            let mut pages: Vec<KvPlane<'_>> = Vec::new();
            let first_page = segment
                .cache
                .visible(index, start..start + wanted.len(), &mut pages);
            let queries = PagedQueries {
                q: &self.qkv[here.start * qkv_dim..],
                stride: qkv_dim,
                start,
                window: segment.cache.window(index),
                pages: &pages,
                first_page,
            };
            let out = &mut attended[here.start * q_dim..here.end * q_dim];
            attention_paged(out, queries, dims.attention, context.pool);
        }
    }

    /// Drops the rows that nobody wants, of what the rest of the last layer reads.
    fn keep(&mut self, context: &Context<'_>, all: &[Range<usize>], wanted: &[Range<usize>]) {
        let dims = context.dims;
        let (mut begin, mut kept) = (0, 0);
        for (all, wanted) in all.iter().zip(wanted) {
            let rows = begin + wanted.start..begin + wanted.end;
            let moved = |width: usize| rows.start * width..rows.end * width;
            self.x.copy_within(moved(dims.hidden), kept * dims.hidden);
            self.attended
                .copy_within(moved(dims.q_dim()), kept * dims.q_dim());
            begin += all.len();
            kept += wanted.len();
        }
        self.x.truncate(kept * dims.hidden);
    }

    /// What follows the attention: its projection and the MLP, each added to the residual stream.
    fn finish(&mut self, context: &Context<'_>, layer: &Layer) {
        let Dims { hidden, inner, .. } = context.dims;
        let rows = self.x.len() / hidden;
        let attended = &self.attended[..rows * context.dims.q_dim()];
        let (pool, scratch) = (context.pool, &mut self.scratch);
        layer
            .output
            .apply(&mut self.x, attended, Store::Accumulate, pool, scratch);
        let normed = room(&mut self.normed, rows * hidden);
        normalise(context, normed, &self.x, &layer.mlp_norm);
        let gate_up = room(&mut self.gate_up, rows * 2 * inner);
        layer
            .gate_up
            .apply(gate_up, normed, Store::Overwrite, pool, scratch);
        let activated = room(&mut self.activated, rows * inner);
        let gate_up = &*gate_up;
        pool.for_each_chunk(activated, ROWS * inner, |chunk, out| {
            let gate_up = &gate_up[chunk * ROWS * 2 * inner..][..2 * out.len()];
            let gate_up = gate_up.chunks_exact(2 * inner);
            for (out, gate_up) in out.chunks_exact_mut(inner).zip(gate_up) {
                swiglu(out, &gate_up[..inner], &gate_up[inner..]);
            }
        });
        layer
            .down
            .apply(&mut self.x, activated, Store::Accumulate, pool, scratch);
    }

    /// Logits of the rows that are left, to the segments that wanted them.
    fn head(
        &mut self,
        context: &Context<'_>,
        segments: &mut [Segment<'_>],
        wanted: &[Range<usize>],
    ) {
        let Dims { hidden, .. } = context.dims;
        let head = &context.decoder.head;
        let rows = self.x.len() / hidden;
        let normed = room(&mut self.normed, rows * hidden);
        normalise(context, normed, &self.x, &context.decoder.final_norm);
        if let [segment] = segments {
            let begin = segment.logits.len();
            let (pool, scratch) = (context.pool, &mut self.scratch);
            segment
                .logits
                .resize(begin + rows * head.n(), f32::NEG_INFINITY);
            let logits = &mut segment.logits[begin..];
            match segment.legal {
                None => head.apply(logits, normed, Store::Overwrite, pool, scratch),
                Some(legal) => {
                    let wanted = |ids: Range<usize>| legal.allows_any(ids);
                    head.apply_where(logits, normed, wanted, pool, scratch);
                }
            }
            return;
        }
        let logits = room(&mut self.logits, rows * head.n());
        head.apply(
            logits,
            normed,
            Store::Overwrite,
            context.pool,
            &mut self.scratch,
        );
        let mut logits = &*logits;
        for (segment, wanted) in segments.iter_mut().zip(wanted) {
            let (own, others) = logits.split_at(wanted.len() * head.n());
            segment.logits.extend_from_slice(own);
            logits = others;
        }
    }
}

/// New tokens behind as many earlier ones as their embeddings depend on.
struct Text {
    ids: Vec<u32>,
    n_before: usize,
    /// Of each token in its run; empty where the model does not look at it.
    places: Vec<Option<u32>>,
}

impl Text {
    fn new(decoder: &Decoder, segment: &Segment<'_>) -> Self {
        let start = segment.cache.len();
        let runs = decoder.run.as_ref().map(|(runs, _)| runs);
        let in_run = runs.map_or(0, |runs| runs.n_places);
        let first = start.saturating_sub(decoder.previous.len().max(in_run));
        let earlier = (first..start).filter_map(|at| segment.cache.id(at));
        let ids: Vec<u32> = earlier.chain(segment.ids.iter().copied()).collect();
        let places = runs.map(|runs| runs.places(ids.iter().copied()));
        let places = places.unwrap_or_default();
        Self {
            n_before: ids.len() - segment.ids.len(),
            ids,
            places,
        }
    }

    /// Writes the embedding of new token `at`.
    fn embed(&self, decoder: &Decoder, at: usize, out: &mut [f32]) {
        let at = self.n_before + at;
        let hidden = out.len();
        let entry = |id: u32| id as usize * hidden..(id as usize + 1) * hidden;
        decoder.embed(self.ids[at], out);
        let earlier = self.ids[..at].iter().rev();
        for (table, &id) in decoder.previous.iter().zip(earlier) {
            add(out, &table[entry(id)]);
        }
        let place = self.places.get(at).copied().flatten();
        if let (Some((_, table)), Some(place)) = (&decoder.run, place) {
            add(out, &table[entry(place)]);
        }
    }
}
