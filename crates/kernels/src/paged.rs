//! Attention over keys and values that lie in pages, for one query or a few at once.
//!
//! A page holds [`PAGE`] positions. For each key/value head it has the keys across,
//! `[head_dim][PAGE]`, and then, behind all keys, the values down, `[PAGE][head_dim]`: so neither
//! scores nor outputs need a sum across lanes. The softmax goes page by page with a running maximum,
//! and nothing of the length of the context is stored.
//!
//! What a query gets depends on it, on the keys and values it sees and on their places in the
//! pages, bit for bit: not on the other queries of the call, nor on threads.

use std::ops::Range;

use crate::simd::{Simd, exp_not_above_zero, from_bf16, on_unit, to_bf16};
use crate::{AttentionShape, Pool};

/// Positions in a page.
pub const PAGE: usize = 64;

/// How keys and values are held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum KvFormat {
    /// 32-bit floats: exact.
    #[default]
    F32,
    /// bfloat16: half the memory.
    Bf16,
}

impl KvFormat {
    /// Bytes of an element.
    #[must_use]
    pub fn n_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }
}

/// Elements of a cache, of any number of layers and pages.
#[derive(Clone, Debug)]
pub enum KvBuffer {
    /// See [`KvFormat::F32`].
    F32(Vec<f32>),
    /// See [`KvFormat::Bf16`].
    Bf16(Vec<u16>),
}

/// One layer's keys and values in one page, [`plane_len`] elements.
#[derive(Clone, Copy, Debug)]
pub enum KvPlane<'a> {
    /// See [`KvFormat::F32`].
    F32(&'a [f32]),
    /// See [`KvFormat::Bf16`].
    Bf16(&'a [u16]),
}

/// Elements of one layer in one page: keys and values of all heads.
#[must_use]
pub fn plane_len(shape: AttentionShape) -> usize {
    2 * PAGE * shape.kv_width()
}

impl KvBuffer {
    /// `len` zeros.
    #[must_use]
    pub fn zeros(format: KvFormat, len: usize) -> Self {
        match format {
            KvFormat::F32 => Self::F32(vec![0.0; len]),
            KvFormat::Bf16 => Self::Bf16(vec![0; len]),
        }
    }

    /// Bytes it takes.
    #[must_use]
    pub fn n_bytes(&self) -> usize {
        match self {
            Self::F32(x) => size_of_val(&x[..]),
            Self::Bf16(x) => size_of_val(&x[..]),
        }
    }

    /// Plane `index` of those that the buffer is made of.
    ///
    /// # Panics
    /// When there is no such plane.
    #[must_use]
    pub fn plane(&self, index: usize, shape: AttentionShape) -> KvPlane<'_> {
        let range = index * plane_len(shape)..(index + 1) * plane_len(shape);
        match self {
            Self::F32(x) => KvPlane::F32(&x[range]),
            Self::Bf16(x) => KvPlane::Bf16(&x[range]),
        }
    }

    /// Stores the key and the value `[n_kv_heads * head_dim]` of a position of a plane.
    ///
    /// # Panics
    /// When the shapes disagree or the position is not below [`PAGE`].
    pub fn write(
        &mut self,
        index: usize,
        shape: AttentionShape,
        position: usize,
        key: &[f32],
        value: &[f32],
    ) {
        let range = index * plane_len(shape)..(index + 1) * plane_len(shape);
        match self {
            Self::F32(x) => write(&mut x[range], shape, position, key, value, |x| x),
            Self::Bf16(x) => write(&mut x[range], shape, position, key, value, to_bf16),
        }
    }

    /// Copies the first `positions` of every plane from a buffer of the same shape and format.
    ///
    /// # Panics
    /// When the buffers differ in length or format.
    pub fn copy_positions(&mut self, from: &Self, shape: AttentionShape, positions: usize) {
        match (self, from) {
            (Self::F32(to), Self::F32(from)) => copy_positions(to, from, shape, positions),
            (Self::Bf16(to), Self::Bf16(from)) => copy_positions(to, from, shape, positions),
            _ => panic!("pages of different formats"),
        }
    }
}

impl KvPlane<'_> {
    /// Reads the key and the value of a position back.
    ///
    /// # Panics
    /// As [`KvBuffer::write`].
    pub fn read(&self, shape: AttentionShape, position: usize, key: &mut [f32], value: &mut [f32]) {
        match self {
            Self::F32(x) => read(x, shape, position, key, value, |x| x),
            Self::Bf16(x) => read(x, shape, position, key, value, from_bf16),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::F32(x) => x.len(),
            Self::Bf16(x) => x.len(),
        }
    }
}

/// Where element `d` of a head's key and value at a position lie in a plane.
fn places(shape: AttentionShape, position: usize, at: usize) -> (usize, usize) {
    let (head, d) = (at / shape.head_dim, at % shape.head_dim);
    let head_begin = head * shape.head_dim * PAGE;
    let values = PAGE * shape.kv_width();
    (
        head_begin + d * PAGE + position,
        values + head_begin + position * shape.head_dim + d,
    )
}

fn check(shape: AttentionShape, position: usize, key: &[f32], value: &[f32]) {
    let width = shape.kv_width();
    assert!(
        position < PAGE && key.len() == width && value.len() == width,
        "a key of {} and a value of {} elements at position {position}, wanted {width} below {PAGE}",
        key.len(),
        value.len()
    );
}

fn write<E>(
    plane: &mut [E],
    shape: AttentionShape,
    position: usize,
    key: &[f32],
    value: &[f32],
    rounded: impl Fn(f32) -> E,
) {
    check(shape, position, key, value);
    let (keys, values) = plane.split_at_mut(PAGE * shape.kv_width());
    for (across, &key) in keys.chunks_exact_mut(PAGE).zip(key) {
        across[position] = rounded(key);
    }
    let heads = values.chunks_exact_mut(PAGE * shape.head_dim);
    for (down, value) in heads.zip(value.chunks_exact(shape.head_dim)) {
        let down = &mut down[position * shape.head_dim..][..shape.head_dim];
        for (to, &value) in down.iter_mut().zip(value) {
            *to = rounded(value);
        }
    }
}

fn read<E: Copy>(
    plane: &[E],
    shape: AttentionShape,
    position: usize,
    key: &mut [f32],
    value: &mut [f32],
    widened: impl Fn(E) -> f32,
) {
    check(shape, position, key, value);
    for (at, (key, value)) in key.iter_mut().zip(value).enumerate() {
        let (k, v) = places(shape, position, at);
        *key = widened(plane[k]);
        *value = widened(plane[v]);
    }
}

fn copy_positions<E: Copy>(to: &mut [E], from: &[E], shape: AttentionShape, positions: usize) {
    assert_eq!(to.len(), from.len(), "pages of different sizes");
    let half = plane_len(shape) / 2;
    let halves = to.chunks_exact_mut(half).zip(from.chunks_exact(half));
    for (index, (to, from)) in halves.enumerate() {
        // Keys lie across, so their rows are as long as a page; values lie down.
        let row = if index % 2 == 0 {
            PAGE
        } else {
            PAGE * shape.head_dim
        };
        let used = positions * row / PAGE;
        for (to, from) in to.chunks_exact_mut(row).zip(from.chunks_exact(row)) {
            to[..used].copy_from_slice(&from[..used]);
        }
    }
}

/// Consecutive queries of one sequence and what they look at.
#[derive(Clone, Copy, Debug)]
pub struct PagedQueries<'a> {
    /// Query rows, [`AttentionShape::q_width`] elements each, `stride` apart.
    pub q: &'a [f32],
    /// Distance between rows of `q`.
    pub stride: usize,
    /// Position of the first row; the others follow.
    pub start: usize,
    /// Positions a query sees, its own included; `None` for all before it.
    pub window: Option<usize>,
    /// The pages that hold all visible positions, rising, without gaps.
    pub pages: &'a [KvPlane<'a>],
    /// Which page `pages[0]` is: it begins at position `first_page * PAGE`.
    pub first_page: usize,
}

/// Tokens a thread takes at once.
const TOKENS: usize = 8;

/// A call, cut into chunks of a key/value head and some tokens.
struct Job<'a> {
    queries: PagedQueries<'a>,
    shape: AttentionShape,
    rows: usize,
    out: *mut f32,
}

// SAFETY: every chunk writes the outputs of its own heads and tokens.
unsafe impl Sync for Job<'_> {}

/// Attention of each query over its visible keys: `out` is `[rows, n_heads * head_dim]`, and there
/// are as many queries as rows. Scores are scaled by `1/sqrt(head_dim)`.
///
/// # Panics
/// When the shapes disagree or a visible position is in none of the pages.
pub fn attention_paged(
    out: &mut [f32],
    queries: PagedQueries<'_>,
    shape: AttentionShape,
    pool: &Pool,
) {
    shape.check();
    let rows = out.len() / shape.q_width();
    if rows == 0 {
        return;
    }
    let PagedQueries {
        q,
        stride,
        start,
        window,
        pages,
        first_page,
    } = queries;
    assert!(
        out.len() == rows * shape.q_width() && q.len() >= (rows - 1) * stride + shape.q_width(),
        "{} queries of {} elements do not lie in {} with stride {stride}",
        rows,
        shape.q_width(),
        q.len()
    );
    let first = seen(start, window).start;
    assert!(
        window != Some(0)
            && first_page * PAGE <= first
            && start + rows <= (first_page + pages.len()) * PAGE
            && pages.iter().all(|page| page.len() == plane_len(shape)),
        "positions {first}..{} are not all in the {} pages from page {first_page}",
        start + rows,
        pages.len()
    );
    let job = Job {
        queries,
        shape,
        rows,
        out: out.as_mut_ptr(),
    };
    pool.run(shape.n_kv_heads * rows.div_ceil(TOKENS), &|index| {
        // SAFETY: everything a chunk touches was checked above.
        unsafe { on_unit!(chunk(job: &Job<'_> = &job, index: usize = index)) }
    });
}

/// The positions that the query at a position sees.
fn seen(position: usize, window: Option<usize>) -> Range<usize> {
    let start = window.map_or(0, |window| (position + 1).saturating_sub(window));
    start..position + 1
}

/// Does one chunk.
///
/// # Safety
/// The processor has the unit; what [`attention_paged`] checks holds; nobody else works on it.
#[inline(always)]
unsafe fn chunk<S: Simd>(job: &Job<'_>, index: usize) {
    let blocks = job.rows.div_ceil(TOKENS);
    let (kv_head, block) = (index / blocks, index % blocks);
    let group = job.shape.group();
    let first = block * TOKENS * group;
    let end = job.rows.min((block + 1) * TOKENS) * group;
    let mut at = first;
    while at < end {
        let left = end - at;
        // SAFETY: passed on from the caller. The tiles fit 32 registers of 512 bits, 32 of 128
        // (NEON) or 16 of 256.
        at += unsafe {
            match (left, S::LANES) {
                (8.., 4 | 16) => queries::<S, 8, 2>(job, kv_head, at),
                (4.., 4 | 16) => queries::<S, 4, 4>(job, kv_head, at),
                (2.., 4 | 16) => queries::<S, 2, 4>(job, kv_head, at),
                (_, 4 | 16) => queries::<S, 1, 4>(job, kv_head, at),
                (4.., _) => queries::<S, 4, 2>(job, kv_head, at),
                (2.., _) => queries::<S, 2, 2>(job, kv_head, at),
                _ => queries::<S, 1, 2>(job, kv_head, at),
            }
        };
    }
}

/// `R` queries of the heads that share `kv_head`, from the `at`-th on, tokens outermost. Returns `R`.
///
/// # Safety
/// As [`chunk`].
#[inline(always)]
unsafe fn queries<S: Simd, const R: usize, const V: usize>(
    job: &Job<'_>,
    kv_head: usize,
    at: usize,
) -> usize {
    let Job { queries, shape, .. } = job;
    let group = shape.group();
    let mut block = Block::<S, R> {
        q: [queries.q.as_ptr(); R],
        out: [job.out; R],
        seen: std::array::from_fn(|_| 0..0),
        head_dim: shape.head_dim,
        scale: shape.scale(),
        largest: [f32::NEG_INFINITY; R],
        // SAFETY: passed on from the caller.
        sum: unsafe { [S::splat(0.0); R] },
    };
    for r in 0..R {
        let (row, head) = ((at + r) / group, kv_head * group + (at + r) % group);
        let column = head * shape.head_dim;
        block.q[r] = block.q[r].wrapping_add(row * queries.stride + column);
        block.out[r] = block.out[r].wrapping_add(row * shape.q_width() + column);
        block.seen[r] = seen(queries.start + row, queries.window);
    }
    let first = block
        .seen
        .iter()
        .fold(usize::MAX, |min, seen| min.min(seen.start));
    let end = block.seen.iter().fold(0, |max, seen| max.max(seen.end));
    let keys = kv_head * shape.head_dim * PAGE;
    let values = PAGE * shape.kv_width() + keys;
    // SAFETY: passed on from the caller; keys and values of a head lie whole in their plane.
    unsafe {
        block.begin();
        let mut weights = [[0f32; PAGE]; R];
        for page in first / PAGE..end.div_ceil(PAGE) {
            match queries.pages[page - queries.first_page] {
                KvPlane::F32(x) => {
                    let (k, v) = (x.as_ptr().add(keys), x.as_ptr().add(values));
                    block.page::<f32, V>(k, v, page * PAGE, &mut weights);
                }
                KvPlane::Bf16(x) => {
                    let (k, v) = (x.as_ptr().add(keys), x.as_ptr().add(values));
                    block.page::<u16, V>(k, v, page * PAGE, &mut weights);
                }
            }
        }
        block.finish();
    }
    R
}

/// An element of a page.
trait Element: Copy {
    fn widen(self) -> f32;
    /// Widens a vector of them.
    ///
    /// # Safety
    /// The processor has the unit, and a vector of elements is readable.
    unsafe fn load<S: Simd>(from: *const Self) -> S::F;
}

impl Element for f32 {
    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }
    #[inline(always)]
    unsafe fn load<S: Simd>(from: *const Self) -> S::F {
        // SAFETY: passed on from the caller.
        unsafe { S::load(from) }
    }
}

impl Element for u16 {
    #[inline(always)]
    fn widen(self) -> f32 {
        from_bf16(self)
    }
    #[inline(always)]
    unsafe fn load<S: Simd>(from: *const Self) -> S::F {
        // SAFETY: passed on from the caller.
        unsafe { S::load_bf16(from) }
    }
}

/// `R` queries on their way through the pages. Outputs hold sums of values weighted by
/// `exp(score - largest)`, of which `sum` is the total.
struct Block<S: Simd, const R: usize> {
    q: [*const f32; R],
    out: [*mut f32; R],
    seen: [Range<usize>; R],
    head_dim: usize,
    scale: f32,
    largest: [f32; R],
    /// By lanes, so that no page has to add them up.
    sum: [S::F; R],
}

impl<S: Simd, const R: usize> Block<S, R> {
    /// Clears the outputs.
    ///
    /// # Safety
    /// The outputs are writable; so it is for the functions below.
    #[inline(always)]
    unsafe fn begin(&self) {
        for out in self.out {
            for d in 0..self.head_dim {
                // SAFETY: passed on from the caller.
                unsafe { *out.add(d) = 0.0 };
            }
        }
    }

    /// Divides by the sums of weights.
    ///
    /// # Safety
    /// As `begin`; the processor has the unit.
    #[inline(always)]
    unsafe fn finish(&self) {
        for (out, sum) in self.out.into_iter().zip(self.sum) {
            // SAFETY: passed on from the caller.
            let inverse = 1.0 / unsafe { S::sum(sum) };
            for d in 0..self.head_dim {
                // SAFETY: passed on from the caller.
                unsafe { *out.add(d) *= inverse };
            }
        }
    }

    /// Takes in the page that begins at position `begin`. What `weights` holds before means nothing.
    ///
    /// # Safety
    /// The processor has the unit; `keys` and `values` are one head's of a page.
    #[inline(always)]
    unsafe fn page<E: Element, const V: usize>(
        &mut self,
        keys: *const E,
        values: *const E,
        begin: usize,
        weights: &mut [[f32; PAGE]; R],
    ) {
        let within = |at: usize| at.saturating_sub(begin).min(PAGE);
        let columns: [Range<usize>; R] =
            std::array::from_fn(|r| within(self.seen[r].start)..within(self.seen[r].end));
        let seen = columns.iter().filter(|columns| !columns.is_empty());
        let first = seen
            .clone()
            .fold(PAGE, |min, columns| min.min(columns.start));
        let end = seen.fold(0, |max, columns| max.max(columns.end));
        let width = V * S::LANES;
        let (first_tile, end_tile) = (first / width * width, end.next_multiple_of(width));
        let mut shrink = [1f32; R];
        // SAFETY: passed on from the caller; tiles are parts of a page.
        unsafe {
            for column in (first_tile..end_tile).step_by(width) {
                self.scores::<E, V>(keys, column, weights);
            }
            for r in 0..R {
                if columns[r].is_empty() {
                    weights[r] = [0.0; PAGE];
                } else {
                    shrink[r] = self.exponentials(r, &columns[r], &mut weights[r]);
                }
            }
            self.weigh::<E, V>(values, first..end, weights, shrink);
        }
    }

    /// Scores of `V` vectors of keys from `column` on.
    ///
    /// # Safety
    /// As `page`.
    #[inline(always)]
    unsafe fn scores<E: Element, const V: usize>(
        &self,
        keys: *const E,
        column: usize,
        scores: &mut [[f32; PAGE]; R],
    ) {
        // SAFETY: passed on from the caller.
        unsafe {
            let mut sums = [[S::splat(0.0); V]; R];
            for d in 0..self.head_dim {
                let mut k = [S::splat(0.0); V];
                for (v, k) in k.iter_mut().enumerate() {
                    *k = E::load::<S>(keys.add(d * PAGE + column + v * S::LANES));
                }
                for (sums, q) in sums.iter_mut().zip(self.q) {
                    let q = S::splat(*q.add(d));
                    for (sum, k) in sums.iter_mut().zip(k) {
                        *sum = S::fma(q, k, *sum);
                    }
                }
            }
            for (scores, sums) in scores.iter_mut().zip(sums) {
                for (v, sum) in sums.into_iter().enumerate() {
                    let to = scores.as_mut_ptr().add(column + v * S::LANES);
                    S::store(to, S::mul(sum, S::splat(self.scale)));
                }
            }
        }
    }

    /// Scores become weights, zero outside `columns`; returns the factor by which what came before
    /// shrinks.
    ///
    /// # Safety
    /// The processor has the unit.
    #[inline(always)]
    unsafe fn exponentials(
        &mut self,
        r: usize,
        columns: &Range<usize>,
        scores: &mut [f32; PAGE],
    ) -> f32 {
        scores[..columns.start].fill(f32::NEG_INFINITY);
        scores[columns.end..].fill(f32::NEG_INFINITY);
        // SAFETY: vectors lie inside the page.
        unsafe {
            let mut largest = S::splat(self.largest[r]);
            for at in (0..PAGE).step_by(S::LANES) {
                largest = S::max(largest, S::load(scores.as_ptr().add(at)));
            }
            let largest = S::largest(largest);
            let mut sum = S::splat(0.0);
            for at in (0..PAGE).step_by(S::LANES) {
                let at = scores.as_mut_ptr().add(at);
                let weight = exp_not_above_zero::<S>(S::sub(S::load(at), S::splat(largest)));
                S::store(at, weight);
                sum = S::add(sum, weight);
            }
            // On most pages the largest stays what it was: a call of `exp` less.
            let shrink = match self.largest[r] == largest {
                true => 1.0,
                false => (self.largest[r] - largest).exp(),
            };
            self.largest[r] = largest;
            self.sum[r] = S::fma(self.sum[r], S::splat(shrink), sum);
            shrink
        }
    }

    /// Outputs shrink and take in the values of `columns` by weight.
    ///
    /// # Safety
    /// As `page`.
    #[inline(always)]
    unsafe fn weigh<E: Element, const V: usize>(
        &self,
        values: *const E,
        columns: Range<usize>,
        weights: &[[f32; PAGE]; R],
        shrink: [f32; R],
    ) {
        let wide = self.head_dim / (V * S::LANES) * (V * S::LANES);
        let paired = self.head_dim / (2 * S::LANES) * (2 * S::LANES);
        let whole = self.head_dim / S::LANES * S::LANES;
        // SAFETY: passed on from the caller; the four parts cover a head once.
        unsafe {
            for d in (0..wide).step_by(V * S::LANES) {
                self.weigh_vectors::<E, V>(values, &columns, weights, shrink, d);
            }
            for d in (wide..paired).step_by(2 * S::LANES) {
                self.weigh_vectors::<E, 2>(values, &columns, weights, shrink, d);
            }
            for d in (paired..whole).step_by(S::LANES) {
                self.weigh_vectors::<E, 1>(values, &columns, weights, shrink, d);
            }
            for d in whole..self.head_dim {
                for r in 0..R {
                    let out = self.out[r].add(d);
                    let mut sum = *out * shrink[r];
                    for column in columns.clone() {
                        let value = (*values.add(column * self.head_dim + d)).widen();
                        sum = weights[r][column].mul_add(value, sum);
                    }
                    *out = sum;
                }
            }
        }
    }

    /// [`Block::weigh`] for `V` vectors of a head from element `d` on.
    ///
    /// # Safety
    /// As `page`, and the vectors lie in the head.
    #[inline(always)]
    unsafe fn weigh_vectors<E: Element, const V: usize>(
        &self,
        values: *const E,
        columns: &Range<usize>,
        weights: &[[f32; PAGE]; R],
        shrink: [f32; R],
        d: usize,
    ) {
        // SAFETY: passed on from the caller.
        unsafe {
            let mut sums = [[S::splat(0.0); V]; R];
            for (r, sums) in sums.iter_mut().enumerate() {
                for (v, sum) in sums.iter_mut().enumerate() {
                    let old = S::load(self.out[r].add(d + v * S::LANES));
                    *sum = S::mul(old, S::splat(shrink[r]));
                }
            }
            for column in columns.clone() {
                let mut value = [S::splat(0.0); V];
                for (v, value) in value.iter_mut().enumerate() {
                    *value = E::load::<S>(values.add(column * self.head_dim + d + v * S::LANES));
                }
                for (sums, weights) in sums.iter_mut().zip(weights) {
                    let weight = S::splat(weights[column]);
                    for (sum, value) in sums.iter_mut().zip(value) {
                        *sum = S::fma(weight, value, *sum);
                    }
                }
            }
            for (r, sums) in sums.into_iter().enumerate() {
                for (v, sum) in sums.into_iter().enumerate() {
                    S::store(self.out[r].add(d + v * S::LANES), sum);
                }
            }
        }
    }
}
