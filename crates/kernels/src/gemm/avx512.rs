//! The micro-kernel for AVX-512: 8 x 32, sixteen accumulators of 16 lanes.
//!
//! Verified at start-up: [`cpu`](crate::cpu) runs it on a small odd-shaped problem and falls back
//! to AVX2 if a result differs from the reference, since not every machine that builds or tests
//! this crate can run it.

use std::arch::x86_64::*;

use super::pack::pack_f32;
use super::{Extent, Kernel, Lanes, avx2};
use crate::Store;

/// For processors with AVX-512F (and AVX2, for packing).
#[derive(Debug)]
pub(crate) struct Avx512;

const MR: usize = 8;
const NR: usize = 32;

impl Kernel for Avx512 {
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
                (8, 1, MR) => tile::<8, 1, MR>(extent, a, b, c, c_stride, store),
                (8, ..) => tile::<8, 0, 0>(extent, a, b, c, c_stride, store),
                (7, ..) => tile::<7, 0, 0>(extent, a, b, c, c_stride, store),
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
        // SAFETY: passed on from the caller; AVX2 is part of this kernel's requirements.
        unsafe { pack_f32(MR, avx2::pack::<MR>, dst, src, rows, depth) }
    }

    unsafe fn pack_b(dst: &mut [f32], src: Lanes, cols: usize, depth: usize) {
        // SAFETY: as above.
        unsafe { pack_f32(NR, avx2::pack::<NR>, dst, src, cols, depth) };
    }
}

/// One tile. `LANE` and `DEPTH` are the strides of `A` where they are known when compiling, or 0.
///
/// # Safety
/// As [`Kernel::tile`], with `rows == ROWS`.
#[target_feature(enable = "avx512f")]
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
    let mut sums = [[_mm512_setzero_ps(); 2]; ROWS];
    let (mut a_at, mut b_at) = (a.ptr, b);
    for _ in 0..extent.slots {
        // SAFETY: the caller grants reads of `ROWS` x `slots` of `a` and of a panel of
        // `depth * NR` of `b`.
        unsafe {
            let (b0, b1) = (_mm512_loadu_ps(b_at), _mm512_loadu_ps(b_at.add(16)));
            for (i, sums) in sums.iter_mut().enumerate() {
                let x = _mm512_set1_ps(*a_at.add(i * lane_stride));
                sums[0] = _mm512_fmadd_ps(x, b0, sums[0]);
                sums[1] = _mm512_fmadd_ps(x, b1, sums[1]);
            }
        }
        a_at = a_at.wrapping_add(depth_stride);
        b_at = b_at.wrapping_add(NR);
    }
    let real = (1u64 << extent.cols) - 1;
    let masks = [real as __mmask16, (real >> 16) as __mmask16];
    for (i, sums) in sums.iter().enumerate() {
        for (half, (&sum, &mask)) in sums.iter().zip(&masks).enumerate() {
            let c = c.wrapping_add(i * c_stride + 16 * half);
            // SAFETY: the caller grants `ROWS` x `cols` of `c`, and the mask keeps both accesses
            // to `cols` elements of the row.
            unsafe {
                let old = || _mm512_add_ps(_mm512_maskz_loadu_ps(mask, c), sum);
                let new = if store == Store::Accumulate {
                    old()
                } else {
                    sum
                };
                _mm512_mask_storeu_ps(c, mask, new);
            }
        }
    }
}
