//! The rows of a pass that go through it together.

use std::ops::Range;

use cwm_kernels::{
    AttentionShape, Direction, KvPlane, LinearScratch, PagedQueries, Store, attention_paged,
    rms_norm, rope, swiglu,
};

use super::text::Text;
use super::{Context, Dims, Segment};
use crate::Mask;
use crate::weights::Layer;

/// Rows worth a thread of their own in what is not a product.
const ROWS: usize = 4;

/// New tokens of one segment.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    /// Index of the segment.
    segment: usize,
    /// Which of its tokens.
    pub(super) tokens: Range<usize>,
    /// Those of them whose logits are wanted.
    pub(super) wanted: Range<usize>,
}

/// Rows and their buffers, each of which holds a row for each token.
#[derive(Debug, Default)]
pub(super) struct Part {
    /// Where the rows come from, in order.
    pieces: Vec<Piece>,
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

impl Part {
    /// Takes over the rows `rows` of all those of `segments`.
    pub(super) fn begin(&mut self, rows: Range<usize>, segments: &[Segment<'_>]) {
        self.pieces.clear();
        self.positions.clear();
        let mut first = 0;
        for (index, segment) in segments.iter().enumerate() {
            let n = segment.ids.len();
            let within = |row: usize| row.clamp(first, first + n) - first;
            let tokens = within(rows.start)..within(rows.end);
            first += n;
            if tokens.is_empty() {
                continue;
            }
            let wanted = segment.want.of(n);
            let inside = |at: usize| at.clamp(tokens.start, tokens.end);
            let start = segment.cache.len();
            let positions = tokens.clone().map(|at| (start + at) as u32);
            self.positions.extend(positions);
            self.pieces.push(Piece {
                segment: index,
                wanted: inside(wanted.start)..inside(wanted.end),
                tokens,
            });
        }
    }

    /// Looks up the embeddings of the tokens.
    pub(super) fn embed(&mut self, context: &Context<'_>, segments: &[Segment<'_>]) {
        let hidden = context.dims.hidden;
        self.x.resize(self.positions.len() * hidden, 0.0);
        let mut rows = self.x.chunks_exact_mut(hidden);
        for piece in &self.pieces {
            let text = Text::new(context.decoder, &segments[piece.segment]);
            for (at, row) in piece.tokens.clone().zip(&mut rows) {
                text.embed(context.decoder, at, row);
            }
        }
    }

    /// Queries, keys and values, rotated.
    pub(super) fn project(&mut self, context: &Context<'_>, layer: &Layer) {
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
    }

    /// Keys and values go into the caches.
    pub(super) fn store(&self, context: &Context<'_>, index: usize, segments: &mut [Segment<'_>]) {
        let dims = context.dims;
        let mut rows = self.qkv.chunks_exact(dims.qkv_dim());
        for piece in &self.pieces {
            let cache = &mut *segments[piece.segment].cache;
            let start = cache.len();
            for (at, qkv) in piece.tokens.clone().zip(&mut rows) {
                let (key, value) = qkv[dims.q_dim()..].split_at(dims.kv_dim());
                cache.write(index, start + at, key, value);
            }
        }
    }

    /// Attention of the tokens of each piece that `which` names; the others get nothing.
    pub(super) fn attend(
        &mut self,
        context: &Context<'_>,
        index: usize,
        segments: &[Segment<'_>],
        which: impl Fn(&Piece) -> Range<usize>,
    ) {
        let dims = context.dims;
        let (q_dim, qkv_dim) = (dims.q_dim(), dims.qkv_dim());
        let rows = self.x.len() / dims.hidden;
        let attended = room(&mut self.attended, rows * q_dim);
        let mut begin = 0;
        for piece in &self.pieces {
            let (cache, tokens) = (&*segments[piece.segment].cache, which(piece));
            let first = begin + tokens.start - piece.tokens.start;
            let here = first..first + tokens.len();
            begin += piece.tokens.len();
            if here.is_empty() {
                continue;
            }
            let start = cache.len() + tokens.start;
            let mut pages: Vec<KvPlane<'_>> = Vec::new();
            let first_page = cache.visible(index, start..start + tokens.len(), &mut pages);
            let queries = PagedQueries {
                q: &self.qkv[here.start * qkv_dim..],
                stride: qkv_dim,
                start,
                window: cache.window(index),
                pages: &pages,
                first_page,
            };
            let out = &mut attended[here.start * q_dim..here.end * q_dim];
            attention_paged(out, queries, dims.attention, context.pool);
        }
    }

    /// Drops the rows that nobody wants, of what the rest of the last layer reads.
    pub(super) fn keep(&mut self, context: &Context<'_>) {
        let dims = context.dims;
        let (mut begin, mut kept) = (0, 0);
        for piece in &self.pieces {
            let first = begin + piece.wanted.start - piece.tokens.start;
            let moved = |width: usize| first * width..(first + piece.wanted.len()) * width;
            self.x.copy_within(moved(dims.hidden), kept * dims.hidden);
            self.attended
                .copy_within(moved(dims.q_dim()), kept * dims.q_dim());
            begin += piece.tokens.len();
            kept += piece.wanted.len();
        }
        self.x.truncate(kept * dims.hidden);
    }

    /// What follows the attention: its projection and the MLP, each added to the residual stream.
    pub(super) fn finish(&mut self, context: &Context<'_>, layer: &Layer) {
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

    /// Logits of the rows that are left, for [`Part::hand_out`].
    pub(super) fn head(&mut self, context: &Context<'_>, legal: Option<Mask<'_>>) {
        let mut logits = std::mem::take(&mut self.logits);
        let len = self.x.len() / context.dims.hidden * context.decoder.head.n();
        logits.resize(len, 0.0);
        if legal.is_some() {
            logits.fill(f32::NEG_INFINITY);
        }
        self.multiply_head(context, legal, &mut logits);
        self.logits = logits;
    }

    /// The logits that [`Part::head`] made, to the segments that wanted them.
    pub(super) fn hand_out(&self, segments: &mut [Segment<'_>]) {
        let wanted = self.pieces.iter().map(|piece| piece.wanted.len());
        let vocab_size = self.logits.len() / wanted.sum::<usize>().max(1);
        let mut logits = &self.logits[..];
        for piece in &self.pieces {
            let (own, others) = logits.split_at(piece.wanted.len() * vocab_size);
            segments[piece.segment].logits.extend_from_slice(own);
            logits = others;
        }
    }

    /// Logits of the rows that are left, all of which are this segment's.
    pub(super) fn head_into(&mut self, context: &Context<'_>, segment: &mut Segment<'_>) {
        let begin = segment.logits.len();
        let len = self.x.len() / context.dims.hidden * context.decoder.head.n();
        segment.logits.resize(begin + len, f32::NEG_INFINITY);
        self.multiply_head(context, segment.legal, &mut segment.logits[begin..]);
    }

    /// Writes logits, of legal tokens at least.
    fn multiply_head(&mut self, context: &Context<'_>, legal: Option<Mask<'_>>, out: &mut [f32]) {
        let head = &context.decoder.head;
        let normed = room(&mut self.normed, self.x.len());
        normalise(context, normed, &self.x, &context.decoder.final_norm);
        let (pool, scratch) = (context.pool, &mut self.scratch);
        match legal {
            None => head.apply(out, normed, Store::Overwrite, pool, scratch),
            Some(legal) => {
                let wanted = |ids: Range<usize>| legal.allows_any(ids);
                head.apply_where(out, normed, wanted, pool, scratch);
            }
        }
    }
}
