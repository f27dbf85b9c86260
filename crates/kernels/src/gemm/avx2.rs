//! The micro-kernel for AVX2 and FMA: 6 x 16, twelve accumulators of 8 lanes.
//!
//! Per step of `k` it loads two vectors of `B`, broadcasts six elements of `A` and issues twelve
//! FMAs; twelve independent chains cover the latency of two FMA units, and 12 + 2 + 1 registers
//! leave one spare of sixteen.

use std::arch::x86_64::*;

use super::pack::{pack_f32, pack_scalar};
use super::{Extent, Kernel, Lanes};
use crate::Store;

/// For processors with AVX2 and FMA.
#[derive(Debug)]
pub(crate) struct Avx2;

const MR: usize = 6;
const NR: usize = 16;

impl Kernel for Avx2 {
    const MR: usize = MR;
    const NR: usize = NR;

    unsafe fn tile(
        extent: Extent,
        a: Lanes,
        b: *const f32,
        c: *mut f32,
        c_stride: usize,
        store: Store,
    ) {
        // SAFETY: passed on from the caller; each arm is told exactly `rows` rows, and constant
        // strides only where they equal the real ones.
        unsafe {
            match (extent.rows, a.lane_stride, a.depth_stride) {
                (6, 1, MR) => tile::<6, 1, MR>(extent, a, b, c, c_stride, store),
                (6, _, 1) => tile::<6, 0, 1>(extent, a, b, c, c_stride, store),
                (6, 1, _) => tile::<6, 1, 0>(extent, a, b, c, c_stride, store),
                (6, ..) => tile::<6, 0, 0>(extent, a, b, c, c_stride, store),
                (5, ..) => tile::<5, 0, 0>(extent, a, b, c, c_stride, store),
                (4, ..) => tile::<4, 0, 0>(extent, a, b, c, c_stride, store),
                (3, ..) => tile::<3, 0, 0>(extent, a, b, c, c_stride, store),
                (2, ..) => tile::<2, 0, 0>(extent, a, b, c, c_stride, store),
                (1, ..) => tile::<1, 0, 0>(extent, a, b, c, c_stride, store),
                _ => {}
            }
        }
    }

    unsafe fn pack_a(dst: &mut [f32], src: Lanes, rows: usize, depth: usize) -> Lanes {
        // SAFETY: passed on from the caller.
        unsafe { pack_f32(MR, pack::<MR>, dst, src, rows, depth) }
    }

    unsafe fn pack_b(dst: &mut [f32], src: Lanes, cols: usize, depth: usize) {
        // SAFETY: as above.
        unsafe { pack_f32(NR, pack::<NR>, dst, src, cols, depth) };
    }
}

/// One tile. `LANE` and `DEPTH` are the strides of `A` where they are known when compiling, or 0.
///
/// # Safety
/// As [`Kernel::tile`], with `rows == ROWS`.
#[target_feature(enable = "avx2,fma")]
unsafe fn tile<const ROWS: usize, const LANE: usize, const DEPTH: usize>(
    extent: Extent,
    a: Lanes,
    b: *const f32,
    c: *mut f32,
    c_stride: usize,
    store: Store,
) {
    let lane_stride = if LANE == 0 { a.lane_stride } else { LANE };
    let depth_stride = if DEPTH == 0 { a.depth_stride } else { DEPTH };
    let mut sums = [[_mm256_setzero_ps(); 2]; ROWS];
    // SAFETY: the caller grants reads of `ROWS` x `slots` of `a` and of a panel of `depth * NR`
    // of `b`; prefetches touch nothing.
    unsafe {
        for i in 0..ROWS {
            _mm_prefetch::<_MM_HINT_T0>(c.wrapping_add(i * c_stride).cast());
            _mm_prefetch::<_MM_HINT_T0>(c.wrapping_add(i * c_stride + NR - 1).cast());
        }
        let (mut a_at, mut b_at) = (a.ptr, b);
        for _ in 0..extent.slots {
            let b0 = _mm256_loadu_ps(b_at);
            let b1 = _mm256_loadu_ps(b_at.add(8));
            for (i, sums) in sums.iter_mut().enumerate() {
                let x = _mm256_broadcast_ss(&*a_at.add(i * lane_stride));
                sums[0] = _mm256_fmadd_ps(x, b0, sums[0]);
                sums[1] = _mm256_fmadd_ps(x, b1, sums[1]);
            }
            a_at = a_at.wrapping_add(depth_stride);
            b_at = b_at.wrapping_add(NR);
        }
    }
    // SAFETY: the caller grants `ROWS` x `cols` of `c`; the masked form touches `cols` elements
    // of each row only.
    unsafe {
        if extent.cols == NR {
            for (i, sums) in sums.iter().enumerate() {
                for (half, &sum) in sums.iter().enumerate() {
                    let c = c.add(i * c_stride + 8 * half);
                    let old = || _mm256_add_ps(_mm256_loadu_ps(c), sum);
                    _mm256_storeu_ps(
                        c,
                        if store == Store::Accumulate {
                            old()
                        } else {
                            sum
                        },
                    );
                }
            }
        } else {
            let masks = [
                first_lanes(extent.cols),
                first_lanes(extent.cols.saturating_sub(8)),
            ];
            for (i, sums) in sums.iter().enumerate() {
                for (half, (&sum, &mask)) in sums.iter().zip(&masks).enumerate() {
                    let c = c.wrapping_add(i * c_stride + 8 * half);
                    let old = || _mm256_add_ps(_mm256_maskload_ps(c, mask), sum);
                    let new = if store == Store::Accumulate {
                        old()
                    } else {
                        sum
                    };
                    _mm256_maskstore_ps(c, mask, new);
                }
            }
        }
    }
}

/// A mask of the first `count` lanes (all of them from 8 on).
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn first_lanes(count: usize) -> __m256i {
    let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    _mm256_cmpgt_epi32(_mm256_set1_epi32(count.min(8) as i32), lanes)
}

/// Packs one panel of 6 or of a multiple of 8 lanes, transposing 8 x 8 blocks in registers when `k` is the contiguous direction.
///
/// # Safety
/// As [`PackPanel`](super::pack::PackPanel).
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn pack<const WIDTH: usize>(
    dst: *mut f32,
    src: Lanes,
    lanes: usize,
    depth: usize,
) {
    // SAFETY: passed on from the caller; the blocks below read 8 elements along `k` only where
    // `p + 8 <= depth`, and only of lanes that exist.
    unsafe {
        if src.depth_stride != 1 {
            return pack_scalar::<WIDTH>(dst, src, lanes, depth);
        }
        let whole = depth - depth % 8;
        for p in (0..whole).step_by(8) {
            for first in (0..WIDTH).step_by(8) {
                let mut block = [_mm256_setzero_ps(); 8];
                for (i, row) in block.iter_mut().enumerate().take(WIDTH - first) {
                    if first + i < lanes {
                        *row = _mm256_loadu_ps(src.ptr.add((first + i) * src.lane_stride + p));
                    }
                }
                // A panel narrower than 8 spills into the next group, which is written later; the
                // last group spills into the slack that the caller grants.
                for (i, column) in transpose(block).into_iter().enumerate() {
                    _mm256_storeu_ps(dst.add((p + i) * WIDTH + first), column);
                }
            }
        }
        let tail = Lanes {
            ptr: src.ptr.add(whole),
            ..src
        };
        pack_scalar::<WIDTH>(dst.add(whole * WIDTH), tail, lanes, depth - whole);
    }
}

/// Transposes an 8 x 8 block.
#[inline]
#[target_feature(enable = "avx2")]
fn transpose(r: [__m256; 8]) -> [__m256; 8] {
    let lo = |a, b| _mm256_unpacklo_ps(a, b);
    let hi = |a, b| _mm256_unpackhi_ps(a, b);
    let t = [
        lo(r[0], r[1]),
        hi(r[0], r[1]),
        lo(r[2], r[3]),
        hi(r[2], r[3]),
        lo(r[4], r[5]),
        hi(r[4], r[5]),
        lo(r[6], r[7]),
        hi(r[6], r[7]),
    ];
    let low = |a, b| _mm256_shuffle_ps::<0x44>(a, b);
    let high = |a, b| _mm256_shuffle_ps::<0xee>(a, b);
    let u = [
        low(t[0], t[2]),
        high(t[0], t[2]),
        low(t[1], t[3]),
        high(t[1], t[3]),
        low(t[4], t[6]),
        high(t[4], t[6]),
        low(t[5], t[7]),
        high(t[5], t[7]),
    ];
    let front = |a, b| _mm256_permute2f128_ps::<0x20>(a, b);
    let back = |a, b| _mm256_permute2f128_ps::<0x31>(a, b);
    [
        front(u[0], u[4]),
        front(u[1], u[5]),
        front(u[2], u[6]),
        front(u[3], u[7]),
        back(u[0], u[4]),
        back(u[1], u[5]),
        back(u[2], u[6]),
        back(u[3], u[7]),
    ]
}
