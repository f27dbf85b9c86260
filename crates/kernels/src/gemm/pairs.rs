//! Conversion of f32 operands to pairs of bf16 values, 16 lanes by 16 pairs at a time.
//!
//! A pair is two neighbouring `k` of one lane, the first in the low half of 32 bits: the operand
//! of `vdpbf16ps` and of the AMX tile unit. Values are rounded to nearest even; NaN stays NaN,
//! and what is smaller than 2^-126 becomes zero, as the instructions treat it anyway. Whichever
//! direction of the source is contiguous, a block is read with whole vector loads; where the
//! wanted order is the other one, it is transposed in registers.

use std::arch::x86_64::*;

use super::Lanes;

/// Lanes of a block, and pairs in it.
pub(super) const SIDE: usize = 16;

/// How far ahead along `k` a block of lanes asks for its data, which comes in too many streams for
/// the processor to follow.
const AHEAD: usize = 8 * SIDE;

/// What the vectors of a block are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Order {
    /// Vector `i` holds the pairs of lane `i`.
    LaneMajor,
    /// Vector `i` holds pair `i` of all lanes.
    PairMajor,
}

/// The first `lanes <= 16` lanes and `depth <= 32` elements along `k` of `src`; what is missing is
/// zero.
///
/// # Safety
/// The processor has the features, and `src` is readable at the offsets its strides name for
/// `lanes` x `depth`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) unsafe fn block(
    src: Lanes,
    lanes: usize,
    depth: usize,
    order: Order,
) -> [__m512i; SIDE] {
    // SAFETY: passed on from the caller; the last arm asks for lanes that exist.
    let (found, found_order) = unsafe {
        if src.depth_stride == 1 {
            (along_depth(src, lanes, depth), Order::LaneMajor)
        } else if src.lane_stride == 1 {
            (across_lanes(src, lanes, depth), Order::PairMajor)
        } else {
            let mut block = [_mm512_setzero_si512(); SIDE];
            for (lane, pairs) in block.iter_mut().enumerate().take(lanes) {
                *pairs = of_lane(src.offset(lane, 0), depth);
            }
            (block, Order::LaneMajor)
        }
    };
    if found_order == order {
        found
    } else {
        transpose(found)
    }
}

/// [`block`] as plain numbers.
///
/// # Safety
/// As [`block`].
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) unsafe fn stored_block(
    src: Lanes,
    lanes: usize,
    depth: usize,
    order: Order,
) -> [[u32; SIDE]; SIDE] {
    // SAFETY: the demands are the same; both types are 16 x 64 bytes without padding.
    unsafe { std::mem::transmute(block(src, lanes, depth, order)) }
}

/// A block in [`Order::LaneMajor`], of a source contiguous along `k`.
///
/// # Safety
/// As [`block`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn along_depth(src: Lanes, lanes: usize, depth: usize) -> [__m512i; SIDE] {
    let mut block = [_mm512_setzero_si512(); SIDE];
    for (lane, pairs) in block.iter_mut().enumerate().take(lanes) {
        let ptr = src.ptr.wrapping_add(lane * src.lane_stride);
        for line in 0..2 {
            let ahead = ptr.wrapping_add(AHEAD + line * SIDE);
            _mm_prefetch::<_MM_HINT_T1>(ahead.cast());
        }
        // SAFETY: this lane exists, and has `depth` elements.
        *pairs = unsafe { of_lane(Lanes { ptr, ..src }, depth) };
    }
    block
}

/// A block in [`Order::PairMajor`], of a source contiguous across lanes.
///
/// # Safety
/// As [`block`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn across_lanes(src: Lanes, lanes: usize, depth: usize) -> [__m512i; SIDE] {
    let mut block = [_mm512_setzero_si512(); SIDE];
    for (pair, pairs) in block.iter_mut().enumerate().take(depth.div_ceil(2)) {
        let ptr = src.ptr.wrapping_add(2 * pair * src.depth_stride);
        // SAFETY: from this row on there are `depth - 2 * pair > 0` more.
        *pairs = unsafe { of_rows(Lanes { ptr, ..src }, lanes, depth - 2 * pair) };
    }
    block
}

/// The first 16 pairs of the first lane, of which there are `depth` elements; what is missing is
/// zero.
///
/// # Safety
/// The processor has the features, and `src` is readable for one lane of `depth` elements.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) unsafe fn of_lane(src: Lanes, depth: usize) -> __m512i {
    // SAFETY: as many elements are read as there are: all 32, or those that the masks leave, or
    // one by one.
    unsafe {
        let (low, high) = if src.depth_stride != 1 {
            let mut copy = [0f32; 2 * SIDE];
            for (p, value) in copy.iter_mut().enumerate().take(depth) {
                *value = *src.ptr.add(p * src.depth_stride);
            }
            let at = copy.as_ptr();
            (_mm512_loadu_ps(at), _mm512_loadu_ps(at.add(SIDE)))
        } else if depth >= 2 * SIDE {
            (_mm512_loadu_ps(src.ptr), _mm512_loadu_ps(src.ptr.add(SIDE)))
        } else {
            let rest = first(depth.saturating_sub(SIDE));
            let high = src.ptr.wrapping_add(SIDE);
            (
                _mm512_maskz_loadu_ps(first(depth), src.ptr),
                _mm512_maskz_loadu_ps(rest, high),
            )
        };
        as_integers(_mm512_cvtne2ps_pbh(high, low))
    }
}

/// The first pair of the first 16 of `lanes` lanes that are contiguous, of `depth > 0` elements
/// along `k`; what is missing is zero.
///
/// # Safety
/// The processor has the features, and `src` is readable for `lanes` lanes of `depth.min(2)`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) unsafe fn of_rows(src: Lanes, lanes: usize, depth: usize) -> __m512i {
    // Lane by lane, the halves of a vector next to each other.
    let interleaved = _mm512_set_epi16(
        31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20, 4,
        19, 3, 18, 2, 17, 1, 16, 0,
    );
    let second = src.ptr.wrapping_add(src.depth_stride);
    // SAFETY: as many lanes are read as there are, all 16 or those that the mask leaves, and the
    // second row only if it exists.
    let (even, odd) = unsafe {
        if lanes >= SIDE && depth >= 2 {
            (_mm512_loadu_ps(src.ptr), _mm512_loadu_ps(second))
        } else {
            let odd = if depth >= 2 { first(lanes) } else { 0 };
            (
                _mm512_maskz_loadu_ps(first(lanes), src.ptr),
                _mm512_maskz_loadu_ps(odd, second),
            )
        }
    };
    let halves = as_integers(_mm512_cvtne2ps_pbh(odd, even));
    _mm512_permutexvar_epi16(interleaved, halves)
}

/// A mask of the first `count` of 16 lanes (all of them from 16 on).
#[inline]
pub(super) fn first(count: usize) -> __mmask16 {
    ((1u32 << count.min(SIDE)) - 1) as __mmask16
}

#[inline]
#[target_feature(enable = "avx512f")]
fn as_integers(pairs: __m512bh) -> __m512i {
    // SAFETY: both are 64 bytes without padding, and any bits are a valid value of either.
    unsafe { std::mem::transmute(pairs) }
}

/// Transposes a block of 16 x 16 pairs.
#[inline]
#[target_feature(enable = "avx512f")]
fn transpose(r: [__m512i; SIDE]) -> [__m512i; SIDE] {
    let mut t = r;
    for i in 0..SIDE / 2 {
        t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
    }
    // Of each four rows, columns `c`, `c + 4`, `c + 8` and `c + 12` in the quarters of vector `c`.
    let mut u = t;
    for i in 0..SIDE / 4 {
        let [a, b, c, d] = [t[4 * i], t[4 * i + 1], t[4 * i + 2], t[4 * i + 3]];
        u[4 * i] = _mm512_unpacklo_epi64(a, c);
        u[4 * i + 1] = _mm512_unpackhi_epi64(a, c);
        u[4 * i + 2] = _mm512_unpacklo_epi64(b, d);
        u[4 * i + 3] = _mm512_unpackhi_epi64(b, d);
    }
    // Then a 4 x 4 transposition of quarters, for each of the four columns.
    let mut v = u;
    for c in 0..4 {
        let even = |a, b| _mm512_shuffle_i32x4::<0x88>(a, b);
        let odd = |a, b| _mm512_shuffle_i32x4::<0xdd>(a, b);
        let (front, back) = (even(u[c], u[c + 4]), even(u[c + 8], u[c + 12]));
        v[c] = even(front, back);
        v[c + 8] = odd(front, back);
        let (front, back) = (odd(u[c], u[c + 4]), odd(u[c + 8], u[c + 12]));
        v[c + 4] = even(front, back);
        v[c + 12] = odd(front, back);
    }
    v
}

/// [`block`] in plain Rust, vector by vector: the definition that it is compared with.
///
/// # Safety
/// As [`block`], without any demand on the processor.
#[cfg(test)]
pub(super) unsafe fn plain_block(
    src: Lanes,
    lanes: usize,
    depth: usize,
    order: Order,
) -> [[u32; SIDE]; SIDE] {
    let value = |lane: usize, p: usize| {
        if lane >= lanes || p >= depth {
            return 0;
        }
        // SAFETY: `(lane, p)` is one of the elements that the caller grants.
        bf16(unsafe { *src.ptr.add(lane * src.lane_stride + p * src.depth_stride) })
    };
    std::array::from_fn(|i| {
        std::array::from_fn(|j| {
            let (lane, pair) = match order {
                Order::LaneMajor => (i, j),
                Order::PairMajor => (j, i),
            };
            value(lane, 2 * pair) | value(lane, 2 * pair + 1) << 16
        })
    })
}

/// The upper half of an f32, rounded to nearest even; NaN stays NaN.
#[cfg(test)]
fn bf16(x: f32) -> u32 {
    let bits = x.to_bits();
    if x.is_nan() {
        return bits >> 16 | 0x40;
    }
    if x.is_subnormal() {
        return (bits & 0x8000_0000) >> 16;
    }
    (bits + 0x7fff + (bits >> 16 & 1)) >> 16
}

/// Whether this processor can run [`block`].
pub(super) fn supported() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512bf16")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_what_its_definition_says() {
        if !supported() {
            println!("skipped: this processor has no AVX512_BF16");
            return;
        }
        // A spread of magnitudes, ties of rounding, and the special values.
        let mut data: Vec<f32> = (0..16 * 40 * 3u32)
            .map(|i| f32::from_bits(0x3000_0000_u32.wrapping_add(i.wrapping_mul(0x0123_8000))))
            .collect();
        data[5] = f32::NAN;
        data[70] = f32::INFINITY;
        data[99] = -0.0;
        data[130] = f32::MAX;
        data[131] = -1e-40;
        for (lane_stride, depth_stride) in [(40, 1), (1, 20), (33, 3)] {
            for (lanes, depth) in [(16, 32), (1, 1), (9, 31), (16, 17), (7, 2)] {
                for order in [Order::LaneMajor, Order::PairMajor] {
                    let src = Lanes {
                        ptr: data.as_ptr(),
                        lane_stride,
                        depth_stride,
                    };
                    // SAFETY: the processor was asked, and the largest offset is
                    // 15 * 33 + 31 * 3, inside `data`.
                    let (got, want) = unsafe {
                        let got = stored_block(src, lanes, depth, order);
                        (got, plain_block(src, lanes, depth, order))
                    };
                    assert_eq!(got, want, "{src:?} {lanes}x{depth} {order:?}");
                }
            }
        }
    }

    #[test]
    fn the_definition_rounds_to_nearest_even() {
        for (x, want) in [
            (1.0, 0x3f80),
            (1.0 + 1.0 / 256.0, 0x3f80),
            (1.0 + 3.0 / 256.0, 0x3f82),
            (-2.0, 0xc000),
        ] {
            assert_eq!(bf16(x), want, "{x}");
        }
        assert_eq!(bf16(f32::NAN) & 0x7fff, 0x7fc0);
        assert_eq!(bf16(f32::MAX), 0x7f80, "rounds up to infinity");
    }
}
