//! Attention over a whole sequence as matrix products, forward and backward.
//!
//! Queries are taken in blocks of [`QUERY_BLOCK`] rows, one head at a time. A block multiplies
//! only with the keys that some row of it may see, found in blocks of [`KEY_BLOCK`] and grouped
//! into chunks, at most one per [`KC`] keys; the masked entries inside a chunk become exact
//! zeros. Keys and values of a head are packed once and shared by all blocks and by all query
//! heads of the group. The whole row of scores is held, so the softmax needs no rescaling, and
//! only its log-sum-exp is kept for the backward pass, which recomputes the probabilities.
//!
//! Where the scratch allows it and the processor has it, products of wide heads run in bf16: queries, keys, values,
//! probabilities and their gradients are rounded as operands; scores, softmax and sums are f32.
//!
//! Chunks begin at fixed places, so that a row's output does not depend on which other rows are
//! in its block, nor on how many rows follow.

use std::ops::Range;

use crate::buffer::Buffer;
use crate::gemm::{KC, Panels, gemm_panels, pack_panels, packed_len};
use crate::{
    AttentionShape, Level, MatMut, MatRef, Precision, Scratch, Span, Store, cpu, dot, rows, scale,
};

/// Query rows per block: a multiple of every micro-kernel's height.
const QUERY_BLOCK: usize = 48;
/// Granularity of visibility: a multiple of every micro-kernel's width and a divisor of `KC`.
const KEY_BLOCK: usize = 64;
/// Width of a head from which on attention uses products in bf16, where the processor has them.
const BF16_HEAD_DIM: usize = 32;

/// See [`crate::attention`]; shapes are checked by the caller.
#[expect(
    clippy::too_many_arguments,
    reason = "the tensors of attention; a struct would only rename them"
)]
pub(crate) fn forward(
    out: &mut [f32],
    lse: &mut [f32],
    q: &[f32],
    k: &[f32],
    v: &[f32],
    spans: &[Span],
    shape: AttentionShape,
    scratch: &mut Scratch,
) {
    let t = spans.len();
    let Scratch {
        precision: allowed,
        keys,
        values,
        scores,
        visible,
        ..
    } = scratch;
    let precision = precision(*allowed, shape);
    for kv_head in 0..shape.n_kv_heads {
        let keys = pack_head(
            &mut keys.0,
            k,
            t,
            kv_head,
            shape,
            Side::Transposed,
            precision,
        );
        let values = pack_head(values, v, t, kv_head, shape, Side::Plain, precision);
        for block in query_blocks(t) {
            visible.find(spans, &block);
            for head in heads_of(kv_head, shape) {
                let at = block.start * shape.q_width() + head * shape.head_dim;
                let stride = visible.stride();
                let scores = scores.get(block.len() * stride);
                let queries = head_rows(&q[at..], block.len(), shape);
                visible.each(|keys_seen, column| {
                    let scores = tail(scores, column, block.len(), keys_seen.len(), stride);
                    let keys = keys.cols_range(keys_seen.start, keys_seen.len());
                    gemm_panels(scores, queries, keys, Store::Overwrite);
                });
                let mut inverse_sums = [0f32; QUERY_BLOCK];
                for (row, i) in block.clone().enumerate() {
                    let scores = &mut scores[row * stride..][..visible.width()];
                    let seen = visible.columns(&spans[i], i);
                    let (sum, row_lse) = exponentials(scores, seen, shape.scale());
                    inverse_sums[row] = 1.0 / sum;
                    lse[head * t + i] = row_lse;
                }
                let out = &mut out[at..];
                visible.each(|keys_seen, column| {
                    let p = MatRef::with_stride(
                        &scores[column..],
                        block.len(),
                        keys_seen.len(),
                        stride,
                    );
                    let out =
                        MatMut::with_stride(out, block.len(), shape.head_dim, shape.q_width());
                    let values = values.rows_range(keys_seen.start, keys_seen.len());
                    gemm_panels(out, p, values, first_overwrites(column));
                });
                for (row, &factor) in inverse_sums.iter().enumerate().take(block.len()) {
                    scale(&mut out[row * shape.q_width()..][..shape.head_dim], factor);
                }
            }
        }
    }
}

/// See [`crate::attention_backward`]; shapes are checked by the caller.
#[expect(
    clippy::too_many_arguments,
    reason = "the tensors of attention; a struct would only rename them"
)]
pub(crate) fn backward(
    dq: &mut [f32],
    dk: &mut [f32],
    dv: &mut [f32],
    dout: &[f32],
    out: &[f32],
    lse: &[f32],
    q: &[f32],
    k: &[f32],
    v: &[f32],
    spans: &[Span],
    shape: AttentionShape,
    scratch: &mut Scratch,
) {
    let (t, hd) = (spans.len(), shape.head_dim);
    dk.fill(0.0);
    dv.fill(0.0);
    let Scratch {
        precision: allowed,
        keys,
        values,
        block_rows,
        scores,
        score_gradients,
        visible,
    } = scratch;
    let precision = precision(*allowed, shape);
    for kv_head in 0..shape.n_kv_heads {
        let keys_across = pack_head(
            &mut keys.0,
            k,
            t,
            kv_head,
            shape,
            Side::Transposed,
            precision,
        );
        let keys_down = pack_head(&mut keys.1, k, t, kv_head, shape, Side::Plain, precision);
        let values = pack_head(values, v, t, kv_head, shape, Side::Transposed, precision);
        for block in query_blocks(t) {
            visible.find(spans, &block);
            let (stride, count) = (visible.stride(), block.len());
            let scores = scores.get(count * stride);
            let gradients = score_gradients.get(count * stride);
            for head in heads_of(kv_head, shape) {
                let at = block.start * shape.q_width() + head * hd;
                let queries = head_rows(&q[at..], count, shape);
                let dout_rows = head_rows(&dout[at..], count, shape);
                visible.each(|seen, column| {
                    let s = tail(scores, column, count, seen.len(), stride);
                    let keys = keys_across.cols_range(seen.start, seen.len());
                    gemm_panels(s, queries, keys, Store::Overwrite);
                    let dp = tail(gradients, column, count, seen.len(), stride);
                    let values = values.cols_range(seen.start, seen.len());
                    gemm_panels(dp, dout_rows, values, Store::Overwrite);
                });
                for (row, i) in block.clone().enumerate() {
                    let row_at = at + row * shape.q_width();
                    let d = dot(&dout[row_at..][..hd], &out[row_at..][..hd]);
                    let s = &mut scores[row * stride..][..visible.width()];
                    let dp = &mut gradients[row * stride..][..visible.width()];
                    let seen = visible.columns(&spans[i], i);
                    for columns in &seen {
                        let (s, dp) = (&mut s[columns.clone()], &mut dp[columns.clone()]);
                        rows::attention_gradient(s, dp, shape.scale(), lse[head * t + i], d);
                    }
                    zero_outside(s, &seen);
                    zero_outside(dp, &seen);
                }
                let queries = pack_block(&mut block_rows.0, &queries, precision);
                let dout_rows = pack_block(&mut block_rows.1, &dout_rows, precision);
                let kv_at = kv_head * hd;
                visible.each(|seen, column| {
                    let part = |x| MatRef::with_stride(x, count, seen.len(), stride);
                    let (p, ds) = (part(&scores[column..]), part(&gradients[column..]));
                    let dq = MatMut::with_stride(&mut dq[at..], count, hd, shape.q_width());
                    let keys = keys_down.rows_range(seen.start, seen.len());
                    gemm_panels(dq, ds, keys, first_overwrites(column));
                    let kv_at = seen.start * shape.kv_width() + kv_at;
                    for (gradient, left, right) in
                        [(&mut *dk, ds, queries), (&mut *dv, p, dout_rows)]
                    {
                        let gradient = &mut gradient[kv_at..];
                        let gradient =
                            MatMut::with_stride(gradient, seen.len(), hd, shape.kv_width());
                        gemm_panels(gradient, left.t(), right, Store::Accumulate);
                    }
                });
            }
        }
    }
}

/// Which keys a block of queries may see, and where their scores lie in a row: the scores of the
/// chunks follow each other without gaps ("columns").
#[derive(Debug, Default)]
pub(crate) struct Visible {
    /// Ranges of keys, increasing, at most one within each aligned stretch of `KC` keys.
    chunks: Vec<Range<usize>>,
    /// Per `KEY_BLOCK` keys: does any row of the block see any of them?
    seen: Vec<bool>,
}

impl Visible {
    fn find(&mut self, spans: &[Span], block: &Range<usize>) {
        self.seen.clear();
        self.seen.resize(block.end.div_ceil(KEY_BLOCK), false);
        for i in block.clone() {
            for range in spans[i]
                .ranges(i)
                .into_iter()
                .filter(|range| !range.is_empty())
            {
                self.seen[range.start / KEY_BLOCK..=(range.end - 1) / KEY_BLOCK].fill(true);
            }
        }
        self.chunks.clear();
        for (index, seen) in self.seen.chunks(KC / KEY_BLOCK).enumerate() {
            let first = seen.iter().position(|&seen| seen);
            let last = seen.iter().rposition(|&seen| seen);
            if let Some((first, last)) = first.zip(last) {
                let start = index * KC + first * KEY_BLOCK;
                let end = index * KC + (last + 1) * KEY_BLOCK;
                self.chunks.push(start..end.min(block.end));
            }
        }
    }

    /// Columns of a row of scores.
    fn width(&self) -> usize {
        self.chunks.iter().map(Range::len).sum()
    }

    /// Distance between rows of scores: whole cache lines, and never a multiple of 1 KiB, whose
    /// powers of two would put all rows of a tile into the same cache set.
    fn stride(&self) -> usize {
        let width = self.width().next_multiple_of(16);
        if width.is_multiple_of(256) {
            width + 16
        } else {
            width
        }
    }

    /// Calls `f(keys, first column)` for each chunk.
    fn each(&self, mut f: impl FnMut(&Range<usize>, usize)) {
        let mut column = 0;
        for chunk in &self.chunks {
            f(chunk, column);
            column += chunk.len();
        }
    }

    /// The columns that row `i` of the block sees. A range of keys that crosses from one chunk to
    /// the next has all its blocks seen, so those chunks touch and its columns are contiguous.
    fn columns(&self, span: &Span, i: usize) -> [Range<usize>; 2] {
        span.ranges(i).map(|range| {
            let mut found = 0..0;
            if !range.is_empty() {
                self.each(|chunk, column| {
                    if chunk.contains(&range.start) {
                        let start = column + range.start - chunk.start;
                        found = start..start + range.len();
                    }
                });
            }
            found
        })
    }
}

/// Which operand of a product a packed head becomes.
enum Side {
    /// `[head_dim, T]`, the right-hand side of products with rows of a head.
    Transposed,
    /// `[T, head_dim]`, the right-hand side of products with rows of scores.
    Plain,
}

/// Packs one key/value head of `x` `[T, n_kv_heads * head_dim]`.
fn pack_head<'a>(
    buffer: &'a mut Buffer,
    x: &[f32],
    t: usize,
    kv_head: usize,
    shape: AttentionShape,
    side: Side,
    precision: Precision,
) -> Panels<'a> {
    if t == 0 {
        return pack_block(buffer, &MatRef::new(&[], 0, 0), Precision::F32);
    }
    let head = &x[kv_head * shape.head_dim..];
    let head = MatRef::with_stride(head, t, shape.head_dim, shape.kv_width());
    pack_block(
        buffer,
        &match side {
            Side::Transposed => head.t(),
            Side::Plain => head,
        },
        precision,
    )
}

fn pack_block<'a>(buffer: &'a mut Buffer, b: &MatRef<'_>, precision: Precision) -> Panels<'a> {
    let packed = buffer.get(packed_len(b.cols, b.rows, precision));
    pack_panels(packed, b, precision);
    Panels::new(packed, b.rows, b.cols, precision)
}

/// What the products of heads of this shape run in, of what is allowed. Narrow heads stay in f32:
/// padding and conversion would cost what bf16 saves. Nothing but the head's width decides, so
/// that a row does not depend on how many there are.
fn precision(allowed: Precision, shape: AttentionShape) -> Precision {
    if cpu().level >= Level::Avx512Bf16 && shape.head_dim >= BF16_HEAD_DIM {
        allowed
    } else {
        Precision::F32
    }
}

/// Rows of one query head, `x` starting at its first element.
fn head_rows<'a>(x: &'a [f32], rows: usize, shape: AttentionShape) -> MatRef<'a> {
    MatRef::with_stride(x, rows, shape.head_dim, shape.q_width())
}

/// The columns of a block of scores from `column` on, as a destination.
fn tail(scores: &mut [f32], column: usize, rows: usize, cols: usize, stride: usize) -> MatMut<'_> {
    MatMut::with_stride(&mut scores[column..], rows, cols, stride)
}

fn query_blocks(t: usize) -> impl Iterator<Item = Range<usize>> {
    (0..t)
        .step_by(QUERY_BLOCK)
        .map(move |start| start..(start + QUERY_BLOCK).min(t))
}

/// The query heads that read `kv_head`.
fn heads_of(kv_head: usize, shape: AttentionShape) -> Range<usize> {
    kv_head * shape.group()..(kv_head + 1) * shape.group()
}

fn first_overwrites(column: usize) -> Store {
    if column == 0 {
        Store::Overwrite
    } else {
        Store::Accumulate
    }
}

/// Turns the seen scores of a row into `exp(s * scale - max)` and the others into 0; returns the
/// sum and the log-sum-exp.
fn exponentials(scores: &mut [f32], seen: [Range<usize>; 2], factor: f32) -> (f32, f32) {
    let max = seen
        .iter()
        .map(|columns| rows::max(&scores[columns.clone()]));
    let max = max.fold(f32::NEG_INFINITY, f32::max) * factor;
    let sums = seen
        .clone()
        .map(|columns| rows::exp_sum(&mut scores[columns], factor, max));
    zero_outside(scores, &seen);
    let sum = sums[0] + sums[1];
    (sum, max + sum.ln())
}

/// Zeroes what lies outside two increasing ranges (the first may be the empty `0..0`).
fn zero_outside(row: &mut [f32], [first, second]: &[Range<usize>; 2]) {
    row[..first.start].fill(0.0);
    row[first.end..second.start].fill(0.0);
    row[second.end..].fill(0.0);
}
