//! The micro-kernel for AVX512_BF16: 8 x 32, sixteen accumulators of 16 lanes, two `k` a step.
//!
//! Inputs are rounded to bf16 while they are packed (see [`pairs`](super::pairs)); `vdpbf16ps`
//! multiplies pairs and adds them to f32 sums, at twice the rate of f32 FMAs. A panel of `A` keeps
//! the order that its source has, lane by lane or pair by pair, since the kernel broadcasts single
//! pairs and either order is as good; only a `B` that is contiguous along `k`, such as a weight
//! matrix in `x·Wᵀ`, is transposed while it is packed.
//!
//! Verified at start-up, as the AVX-512 kernel is.

use std::arch::x86_64::*;
use std::mem::transmute;

use super::pack::packed_len_for;
use super::pairs::{self, Order, SIDE};
use super::{Extent, Kernel, Lanes};
use crate::Store;

/// For processors with AVX512_BF16 (and AVX-512F and BW).
#[derive(Debug)]
pub(crate) struct Bf16;

const MR: usize = 8;
const NR: usize = 32;
/// Slots that [`pack_rows`] takes at once: 8 rows of the source, as many as one set of the
/// first-level cache has ways, since their distance is often a power of two.
const SLOTS_AT_ONCE: usize = 4;
/// Smallest side and smallest number of multiply-adds of a product in bf16. It is faster from far
/// below (1.5x at 64 x 64 x 64), but small products take no time that matters and stay exact.
const MIN_SIDE: usize = 16;
const MIN_WORK: usize = 1 << 20;

/// Is this product large enough?
pub(super) fn pays(m: usize, n: usize, k: usize) -> bool {
    m.min(n).min(k) >= MIN_SIDE && m.saturating_mul(n).saturating_mul(k) >= MIN_WORK
}

impl Kernel for Bf16 {
    const MR: usize = MR;
    const NR: usize = NR;
    const PER_SLOT: usize = 2;
    /// A panel of `B` takes 32 KiB and streams from the second-level cache at an eighth of its
    /// rate; shorter blocks would read and write `C` more often.
    const KC: usize = 512;
    const PACK_A_MIN_PANELS: usize = 0;

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
                (8, _, 1) => tile::<8, 0, 1>(extent, a, b, c, c_stride, store),
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
        assert!(
            dst.len() >= packed_len_for::<Self>(rows, depth, MR),
            "a packing buffer is too short"
        );
        let dst = dst.as_mut_ptr().cast();
        // SAFETY: the features and `src` are granted by the caller, whole panels of `dst` were
        // asserted, and each function gets a source of the kind that it reads.
        unsafe {
            if src.lane_stride == 1 {
                pack_rows::<MR>(dst, src, rows, depth);
                Lanes {
                    ptr: dst.cast_const().cast(),
                    lane_stride: 1,
                    depth_stride: MR,
                }
            } else {
                pack_lanes(dst, src, rows, depth);
                Lanes {
                    ptr: dst.cast_const().cast(),
                    lane_stride: depth.div_ceil(2),
                    depth_stride: 1,
                }
            }
        }
    }

    unsafe fn pack_b(dst: &mut [f32], src: Lanes, cols: usize, depth: usize) {
        assert!(
            dst.len() >= packed_len_for::<Self>(cols, depth, NR),
            "a packing buffer is too short"
        );
        let dst = dst.as_mut_ptr().cast();
        // SAFETY: as in `pack_a`.
        unsafe {
            if src.lane_stride == 1 {
                pack_rows::<NR>(dst, src, cols, depth);
            } else {
                pack_transposed(dst, src, cols, depth);
            }
        }
    }
}

/// One tile. `LANE` and `DEPTH` are the strides of `A` where they are known when compiling, or 0.
///
/// # Safety
/// As [`Kernel::tile`], with `rows == ROWS`.
#[target_feature(enable = "avx512f,avx512bf16")]
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
    for i in 0..ROWS {
        for half in 0..2 {
            let c = c.wrapping_add(i * c_stride + half * SIDE);
            _mm_prefetch::<_MM_HINT_T0>(c.cast());
        }
    }
    let (mut a_at, mut b_at) = (a.ptr.cast::<i32>(), b.cast::<i32>());
    for _ in 0..extent.slots {
        // SAFETY: the caller grants reads of `ROWS` x `slots` of `a` and of a panel of
        // `slots * NR` of `b`; integers and pairs of bf16 of the same size may have any bits.
        unsafe {
            let b0 = transmute::<__m512i, __m512bh>(_mm512_loadu_si512(b_at.cast()));
            let b1 = transmute::<__m512i, __m512bh>(_mm512_loadu_si512(b_at.add(SIDE).cast()));
            for (i, sums) in sums.iter_mut().enumerate() {
                let x = _mm512_set1_epi32(*a_at.add(i * lane_stride));
                let x = transmute::<__m512i, __m512bh>(x);
                sums[0] = _mm512_dpbf16_ps(sums[0], x, b0);
                sums[1] = _mm512_dpbf16_ps(sums[1], x, b1);
            }
        }
        a_at = a_at.wrapping_add(depth_stride);
        b_at = b_at.wrapping_add(NR);
    }
    let masks = [
        pairs::first(extent.cols),
        pairs::first(extent.cols.saturating_sub(SIDE)),
    ];
    for (i, sums) in sums.iter().enumerate() {
        for (half, (&sum, &mask)) in sums.iter().zip(&masks).enumerate() {
            let c = c.wrapping_add(i * c_stride + SIDE * half);
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

/// Packs lane by lane, slot `(lane, p)` at `lane * slots + p`.
///
/// # Safety
/// As [`Kernel::pack_a`], and `dst` is writable for all lanes.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn pack_lanes(dst: *mut i32, src: Lanes, lanes: usize, depth: usize) {
    let slots = depth.div_ceil(2);
    for lane in 0..lanes {
        for slot in (0..slots).step_by(SIDE) {
            // SAFETY: `(lane, 2 * slot)` lies inside `src`, with `depth - 2 * slot` elements from
            // there on; the mask keeps the store to the lane's slots.
            unsafe {
                let pairs = pairs::of_lane(src.offset(lane, 2 * slot), depth - 2 * slot);
                let mask = pairs::first(slots - slot);
                _mm512_mask_storeu_epi32(dst.add(lane * slots + slot), mask, pairs);
            }
        }
    }
}

/// Packs panels of `WIDTH` lanes, 8 or a multiple of 16, of a source whose lanes are contiguous:
/// a few rows at a time from end to end, so that they are read in order.
///
/// # Safety
/// As [`Kernel::pack_b`], with `lane_stride == 1`, and `dst` is writable for whole panels.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn pack_rows<const WIDTH: usize>(dst: *mut i32, src: Lanes, lanes: usize, depth: usize) {
    let slots = depth.div_ceil(2);
    for from in (0..slots).step_by(SLOTS_AT_ONCE) {
        let to = slots.min(from + SLOTS_AT_ONCE);
        for lane in (0..lanes).step_by(SIDE) {
            let real = lanes - lane;
            for slot in from..to {
                // SAFETY: `(lane, 2 * slot)` lies inside `src`, with `real` lanes from there on;
                // the stores go to slot `slot` of the panels of lanes that exist, and `dst` has
                // these whole.
                unsafe {
                    let at = src.offset(lane, 2 * slot);
                    let pairs = pairs::of_rows(at, real, depth - 2 * slot);
                    let panel = dst.add(lane / WIDTH * WIDTH * slots);
                    let to = panel.add(slot * WIDTH + lane % WIDTH);
                    if WIDTH >= SIDE {
                        _mm512_storeu_si512(to.cast(), pairs);
                        if real <= SIDE && lane % WIDTH + SIDE < WIDTH {
                            let rest = to.add(SIDE).cast();
                            _mm512_storeu_si512(rest, _mm512_setzero_si512());
                        }
                    } else {
                        _mm256_storeu_si256(to.cast(), _mm512_castsi512_si256(pairs));
                        if real > WIDTH {
                            let high = _mm512_extracti64x4_epi64::<1>(pairs);
                            _mm256_storeu_si256(to.add(WIDTH * slots).cast(), high);
                        }
                    }
                }
            }
        }
    }
}

/// Packs panels of `NR` lanes of any other source, transposing blocks in registers.
///
/// # Safety
/// As [`Kernel::pack_b`], and `dst` is writable for whole panels.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn pack_transposed(dst: *mut i32, src: Lanes, lanes: usize, depth: usize) {
    let slots = depth.div_ceil(2);
    for lane in (0..lanes.next_multiple_of(NR)).step_by(SIDE) {
        for slot in (0..slots).step_by(SIDE) {
            // SAFETY: the block begins inside `src` or has no lanes, when nothing is read; the
            // stores go to slots below `slots` of a panel that `dst` has.
            unsafe {
                let real = lanes.saturating_sub(lane).min(SIDE);
                let at = src.offset(if real == 0 { 0 } else { lane }, 2 * slot);
                let depth = (depth - 2 * slot).min(2 * SIDE);
                let block = pairs::block(at, real, depth, Order::PairMajor);
                let panel = dst.add(lane / NR * NR * slots + lane % NR);
                for (p, &pairs) in block.iter().enumerate().take(SIDE.min(slots - slot)) {
                    _mm512_storeu_si512(panel.add((slot + p) * NR).cast(), pairs);
                }
            }
        }
    }
}
