//! The inner loops: a few rows of `x` against a few vectors of outputs, over the whole depth.

use std::ops::Range;
use std::sync::atomic::{Ordering, compiler_fence};

use super::PANEL;
use super::input::Prepared;
use crate::simd::Simd;

/// Where the outputs go: `[m, n]` row-major.
#[derive(Clone, Copy)]
pub(super) struct Output {
    pub(super) y: *mut f32,
    pub(super) n: usize,
    pub(super) m: usize,
    pub(super) add: bool,
}

/// Prepared rows, and how they meet a panel.
pub(super) trait Tile: Copy {
    /// Sums of rows `row..row + R` with the outputs `lane..lane + V * LANES` of a panel.
    ///
    /// # Safety
    /// The processor has the unit; the rows exist; `panel` is one of this format and depth, and the
    /// lanes lie in it.
    unsafe fn tile<S: Simd, const R: usize, const V: usize>(
        self,
        row: usize,
        panel: *const u8,
        lane: usize,
    ) -> [[S::F; V]; R];
}

/// Multiplies rows with a panel: blocks of at most `RB` rows, which is even, as equal as they can be, by
/// `VB` vectors; a block of one row by `V1` vectors. So few rows leave no rest that is slower.
///
/// # Safety
/// As [`Tile::tile`] for all `rows` and lanes; the outputs from `column` on are writable (and
/// readable, to add to) for these rows.
#[inline(always)]
pub(super) unsafe fn product<
    S: Simd,
    T: Tile,
    const RB: usize,
    const VB: usize,
    const V1: usize,
>(
    x: T,
    rows: Range<usize>,
    panel: *const u8,
    column: usize,
    output: &Output,
) {
    if rows.len() == 1 {
        // SAFETY: passed on from the caller.
        return unsafe { single::<S, T, V1>(x, rows.start, panel, column, output) };
    }
    let blocks = rows.len().div_ceil(RB);
    let (height, taller) = (rows.len() / blocks, rows.len() % blocks);
    // The rows of the taller blocks, then those of the others.
    let middle = rows.start + taller * (height + 1);
    let parts = [(rows.start..middle, height + 1), (middle..rows.end, height)];
    // SAFETY: passed on from the caller; blocks are parts of `rows`, and lanes lie in the panel.
    unsafe {
        for lane in (0..PANEL).step_by(VB * S::LANES) {
            for (rows, height) in &parts {
                for row in rows.clone().step_by(*height) {
                    let place = (row, column + lane);
                    match *height {
                        6 if RB >= 6 => block::<S, T, 6, VB>(x, panel, lane, place, output),
                        5 if RB >= 6 => block::<S, T, 5, VB>(x, panel, lane, place, output),
                        4 if RB >= 4 => block::<S, T, 4, VB>(x, panel, lane, place, output),
                        3 if RB >= 4 => block::<S, T, 3, VB>(x, panel, lane, place, output),
                        2 => block::<S, T, 2, VB>(x, panel, lane, place, output),
                        // Only the last row, where blocks are of two: below.
                        _ => {}
                    }
                }
            }
        }
        if height == 1 {
            single::<S, T, V1>(x, rows.end - 1, panel, column, output);
        }
    }
}

/// One row with a panel.
///
/// # Safety
/// As [`product`].
#[inline(always)]
unsafe fn single<S: Simd, T: Tile, const V: usize>(
    x: T,
    row: usize,
    panel: *const u8,
    column: usize,
    output: &Output,
) {
    for lane in (0..PANEL).step_by(V * S::LANES) {
        // SAFETY: passed on from the caller; the lanes lie in the panel.
        unsafe { block::<S, T, 1, V>(x, panel, lane, (row, column + lane), output) }
    }
}

/// `R` rows with `V` vectors of outputs of a panel, stored from a row and column on.
///
/// # Safety
/// As [`product`].
#[inline(always)]
unsafe fn block<S: Simd, T: Tile, const R: usize, const V: usize>(
    x: T,
    panel: *const u8,
    lane: usize,
    (row, column): (usize, usize),
    output: &Output,
) {
    // SAFETY: passed on from the caller.
    unsafe {
        let sums = x.tile::<S, R, V>(row, panel, lane);
        write::<S, R, V>(&sums, row, column, output);
    }
}

/// Stores a tile whose first output is `column`, cut where the outputs end.
///
/// # Safety
/// As [`product`].
#[inline(always)]
unsafe fn write<S: Simd, const R: usize, const V: usize>(
    sums: &[[S::F; V]; R],
    row: usize,
    column: usize,
    output: &Output,
) {
    for (r, sums) in sums.iter().enumerate() {
        for (v, &sum) in sums.iter().enumerate() {
            let column = column + v * S::LANES;
            let to = output.y.wrapping_add((row + r) * output.n + column);
            // SAFETY: `to` is followed by the rest of the row, of which no more is touched.
            unsafe {
                if column + S::LANES <= output.n {
                    let new = if output.add {
                        S::add(S::load(to), sum)
                    } else {
                        sum
                    };
                    S::store(to, new);
                    continue;
                }
                let (mut whole, count) = ([0f32; 16], output.n.saturating_sub(column));
                let count = count.min(S::LANES);
                let mut new = sum;
                if output.add {
                    to.copy_to_nonoverlapping(whole.as_mut_ptr(), count);
                    new = S::add(S::load(whole.as_ptr()), sum);
                }
                S::store(whole.as_mut_ptr(), new);
                to.copy_from_nonoverlapping(whole.as_ptr(), count);
            }
        }
    }
}

/// Keeps the loads of one row's steps in the order of memory. Left alone, the compiler moves int8's
/// about within a group; then a processor's prefetcher loses the stream, and a Zen 4 reads 15 GB/s
/// instead of 26. It is no instruction.
#[inline(always)]
fn in_order<const R: usize>() {
    if R == 1 {
        compiler_fence(Ordering::SeqCst);
    }
}

/// Rows as they are, `[m, k]`.
#[derive(Clone, Copy)]
pub(super) struct F32Rows {
    x: *const f32,
    k: usize,
}

impl F32Rows {
    pub(super) fn new(x: Prepared) -> Self {
        Self { x: x.x, k: x.depth }
    }
}

impl Tile for F32Rows {
    #[inline(always)]
    unsafe fn tile<S: Simd, const R: usize, const V: usize>(
        self,
        row: usize,
        panel: *const u8,
        lane: usize,
    ) -> [[S::F; V]; R] {
        // SAFETY: passed on from the caller: `k` steps of `PANEL` weights and of a row.
        unsafe {
            let mut sums = [[S::splat(0.0); V]; R];
            let mut w = panel.cast::<f32>().add(lane);
            let mut x = self.x.add(row * self.k);
            for _ in 0..self.k {
                let mut weights = [S::splat(0.0); V];
                for (v, weights) in weights.iter_mut().enumerate() {
                    *weights = S::load(w.add(v * S::LANES));
                }
                for (r, sums) in sums.iter_mut().enumerate() {
                    let x = S::splat(*x.add(r * self.k));
                    for (sum, weights) in sums.iter_mut().zip(weights) {
                        *sum = S::fma(x, weights, *sum);
                    }
                }
                w = w.add(PANEL);
                x = x.add(1);
            }
            sums
        }
    }
}

/// Rows of pairs of bf16.
#[derive(Clone, Copy)]
pub(super) struct Bf16Rows {
    x: *const u16,
    depth: usize,
}

impl Bf16Rows {
    pub(super) fn new(x: Prepared) -> Self {
        Self {
            x: x.bf16,
            depth: x.depth,
        }
    }
}

impl Tile for Bf16Rows {
    #[inline(always)]
    unsafe fn tile<S: Simd, const R: usize, const V: usize>(
        self,
        row: usize,
        panel: *const u8,
        lane: usize,
    ) -> [[S::F; V]; R] {
        // SAFETY: passed on from the caller: `depth / 2` steps of `PANEL` pairs and of a row.
        unsafe {
            let mut sums = [[S::splat(0.0); V]; R];
            let mut w = panel.cast::<u32>().add(lane);
            let mut x = self.x.add(row * self.depth);
            for _ in 0..self.depth / 2 {
                for (r, sums) in sums.iter_mut().enumerate() {
                    let x = x.add(r * self.depth).cast::<u32>().read_unaligned();
                    for (v, sum) in sums.iter_mut().enumerate() {
                        *sum = S::dot_pair(*sum, w.add(v * S::LANES), x);
                    }
                }
                w = w.add(PANEL);
                x = x.add(2);
            }
            sums
        }
    }
}

/// Rows of int8 codes with a scale and the sum of the codes for each group.
#[derive(Clone, Copy)]
pub(super) struct Int8Rows(Codes);

/// As [`Int8Rows`], for 4-bit weights in groups of `8 * STEPS`.
#[derive(Clone, Copy)]
pub(super) struct Int4Rows<const STEPS: usize>(Codes);

#[derive(Clone, Copy)]
struct Codes {
    codes: *const i8,
    scales: *const f32,
    sums: *const i32,
    depth: usize,
    groups: usize,
}

impl Codes {
    fn new(x: Prepared, group: usize) -> Self {
        Self {
            codes: x.codes,
            scales: x.scales,
            sums: x.sums,
            depth: x.depth,
            groups: x.depth / group,
        }
    }

    /// Four codes of a row.
    ///
    /// # Safety
    /// They exist.
    #[inline(always)]
    unsafe fn four(&self, row: usize, at: usize) -> i32 {
        // SAFETY: passed on from the caller.
        unsafe {
            let from = self.codes.add(row * self.depth + at);
            from.cast::<i32>().read_unaligned()
        }
    }

    /// Adds a group's integer sums to the sums of a tile, scaled.
    ///
    /// # Safety
    /// The processor has the unit; the rows and the group exist; `scales` points to the weights'
    /// scales of the tile's lanes.
    #[inline(always)]
    unsafe fn add_scaled<S: Simd, const R: usize, const V: usize>(
        &self,
        sums: &mut [[S::F; V]; R],
        whole: &[[S::I; V]; R],
        scales: *const u16,
        row: usize,
        group: usize,
    ) {
        // SAFETY: passed on from the caller.
        unsafe {
            let mut weights = [S::splat(0.0); V];
            for (v, weights) in weights.iter_mut().enumerate() {
                *weights = S::load_f16(scales.add(v * S::LANES));
            }
            for (r, (sums, whole)) in sums.iter_mut().zip(whole).enumerate() {
                let x = S::splat(*self.scales.add((row + r) * self.groups + group));
                for ((sum, whole), weights) in sums.iter_mut().zip(whole).zip(weights) {
                    *sum = S::fma(S::to_f32(*whole), S::mul(weights, x), *sum);
                }
            }
        }
    }

    /// What integer sums start with, so that an offset of the codes cancels.
    ///
    /// # Safety
    /// The processor has the unit; the rows and the group exist.
    #[inline(always)]
    unsafe fn start<S: Simd, const R: usize, const V: usize>(
        &self,
        offset: i32,
        row: usize,
        group: usize,
    ) -> [[S::I; V]; R] {
        // SAFETY: passed on from the caller.
        unsafe {
            let mut start = [[S::splat_int(0); V]; R];
            for (r, start) in start.iter_mut().enumerate() {
                let sum = *self.sums.add((row + r) * self.groups + group);
                *start = [S::splat_int(-offset * sum); V];
            }
            start
        }
    }
}

impl Int8Rows {
    pub(super) fn new(x: Prepared) -> Self {
        Self(Codes::new(x, 32))
    }
}

impl Tile for Int8Rows {
    #[inline(always)]
    unsafe fn tile<S: Simd, const R: usize, const V: usize>(
        self,
        row: usize,
        panel: *const u8,
        lane: usize,
    ) -> [[S::F; V]; R] {
        const STEPS: usize = 8;
        // SAFETY: passed on from the caller: a group is eight steps of four codes for each output,
        // then a scale for each.
        unsafe {
            let mut sums = [[S::splat(0.0); V]; R];
            let mut w = panel;
            for group in 0..self.0.groups {
                let mut whole = self.0.start::<S, R, V>(S::CODE_OFFSET, row, group);
                for step in 0..STEPS {
                    in_order::<R>();
                    let mut weights = [S::load_bytes(w.add((step * PANEL + lane) * 4)); V];
                    for (v, weights) in weights.iter_mut().enumerate().skip(1) {
                        *weights = S::load_bytes(w.add((step * PANEL + lane + v * S::LANES) * 4));
                    }
                    for (r, whole) in whole.iter_mut().enumerate() {
                        let x = self.0.four(row + r, group * 32 + step * 4);
                        for (whole, weights) in whole.iter_mut().zip(weights) {
                            *whole = S::dot_codes(*whole, weights, x);
                        }
                    }
                }
                let scales = w.add(STEPS * PANEL * 4).cast::<u16>().add(lane);
                self.0
                    .add_scaled::<S, R, V>(&mut sums, &whole, scales, row, group);
                w = w.add(STEPS * PANEL * 4 + 2 * PANEL);
            }
            sums
        }
    }
}

impl<const STEPS: usize> Int4Rows<STEPS> {
    pub(super) fn new(x: Prepared) -> Self {
        Self(Codes::new(x, 8 * STEPS))
    }
}

impl<const STEPS: usize> Tile for Int4Rows<STEPS> {
    #[inline(always)]
    unsafe fn tile<S: Simd, const R: usize, const V: usize>(
        self,
        row: usize,
        panel: *const u8,
        lane: usize,
    ) -> [[S::F; V]; R] {
        /// Codes are stored plus this.
        const OFFSET: i32 = 8;
        // SAFETY: passed on from the caller: a group is `STEPS` steps of eight codes for each
        // output, the first four in the low halves of four bytes, then a scale for each.
        unsafe {
            let mut sums = [[S::splat(0.0); V]; R];
            let mut w = panel;
            for group in 0..self.0.groups {
                let mut whole = self.0.start::<S, R, V>(OFFSET, row, group);
                for step in 0..STEPS {
                    let at = (group * STEPS + step) * 8;
                    for v in 0..V {
                        let bytes = S::load_bytes(w.add((step * PANEL + lane + v * S::LANES) * 4));
                        let (low, high) = S::nibbles(bytes);
                        for (r, whole) in whole.iter_mut().enumerate() {
                            let sum = S::dot_nibbles(whole[v], low, self.0.four(row + r, at));
                            whole[v] = S::dot_nibbles(sum, high, self.0.four(row + r, at + 4));
                        }
                    }
                }
                let scales = w.add(STEPS * PANEL * 4).cast::<u16>().add(lane);
                self.0
                    .add_scaled::<S, R, V>(&mut sums, &whole, scales, row, group);
                w = w.add(STEPS * PANEL * 4 + 2 * PANEL);
            }
            sums
        }
    }
}
