//! The trait for NEON: four lanes.
//!
//! NEON belongs to every AArch64 processor that Rust's standard library runs on, so nothing has to
//! be detected. What stable Rust does not offer yet, the products of four bytes (`SDOT`) and of bf16
//! (`BFDOT`), is made of older instructions.
//!
//! These lines have been run in an emulator and on no processor: results are known, speed is not.
//! On other machines the tests compile them against [`neon_model`](super::neon_model), which has
//! the same functions in plain Rust.

#[cfg(target_arch = "aarch64")]
use std::arch::aarch64::*;

use super::Simd;
#[cfg(not(target_arch = "aarch64"))]
use super::neon_model::*;

/// AArch64.
#[derive(Debug)]
pub(crate) struct Neon;

/// Sums of four neighbouring 8-bit products, where no sum of two products leaves 16 bits.
#[inline(always)]
unsafe fn dot_bytes(sum: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    // SAFETY: passed on from the caller.
    unsafe {
        let low = vmull_s8(vget_low_s8(a), vget_low_s8(b));
        let high = vmull_s8(vget_high_s8(a), vget_high_s8(b));
        vpadalq_s16(sum, vpaddq_s16(low, high))
    }
}

// SAFETY of the blocks below: the processor has the features, and a whole vector may be read or
// written at each pointer, both by the contract of the trait.
impl Simd for Neon {
    const LANES: usize = 4;
    const CODE_OFFSET: i32 = 0;
    type F = float32x4_t;
    type I = int32x4_t;
    type Bytes = uint8x16_t;

    #[inline(always)]
    unsafe fn splat(x: f32) -> float32x4_t {
        // SAFETY: see above.
        unsafe { vdupq_n_f32(x) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> float32x4_t {
        // SAFETY: see above.
        unsafe { vld1q_f32(from) }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, x: float32x4_t) {
        // SAFETY: see above.
        unsafe { vst1q_f32(to, x) }
    }
    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> float32x4_t {
        // SAFETY: see above.
        unsafe { vreinterpretq_f32_u32(vshlq_n_u32::<16>(vmovl_u16(vld1_u16(from)))) }
    }
    #[inline(always)]
    unsafe fn load_f16(from: *const u16) -> float32x4_t {
        // SAFETY: see above.
        unsafe { vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(from))) }
    }
    #[inline(always)]
    unsafe fn store_bf16(to: *mut u16, x: float32x4_t) {
        // SAFETY: see above.
        unsafe {
            let bits = vreinterpretq_u32_f32(x);
            let odd = vandq_u32(vshrq_n_u32::<16>(bits), vdupq_n_u32(1));
            let rounding = vaddq_u32(odd, vdupq_n_u32(0x7fff));
            let rounded = vshrq_n_u32::<16>(vaddq_u32(bits, rounding));
            let quiet = vorrq_u32(vshrq_n_u32::<16>(bits), vdupq_n_u32(0x40));
            let words = vbslq_u32(vceqq_f32(x, x), rounded, quiet);
            vst1_u16(to, vmovn_u32(words));
        }
    }
    #[inline(always)]
    unsafe fn store_i8(to: *mut i8, x: float32x4_t) {
        // SAFETY: see above; four bytes are written, at any alignment.
        unsafe {
            let words = vmovn_s32(vcvtq_s32_f32(x));
            let bytes = vreinterpret_s32_s8(vmovn_s16(vcombine_s16(words, words)));
            to.cast::<i32>().write_unaligned(vget_lane_s32::<0>(bytes));
        }
    }

    #[inline(always)]
    unsafe fn fma(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        // SAFETY: see above.
        unsafe { vfmaq_f32(c, a, b) }
    }
    #[inline(always)]
    unsafe fn add(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: see above.
        unsafe { vaddq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: see above.
        unsafe { vsubq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: see above.
        unsafe { vmulq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn div(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: see above.
        unsafe { vdivq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn max(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: see above. `FMAX` would make NaN of a NaN in `a`, where every other unit takes `b`.
        unsafe { vbslq_f32(vcgtq_f32(a, b), a, b) }
    }
    #[inline(always)]
    unsafe fn round(x: float32x4_t) -> float32x4_t {
        // SAFETY: see above.
        unsafe { vrndnq_f32(x) }
    }
    #[inline(always)]
    unsafe fn scale_by_power(x: float32x4_t, n: float32x4_t) -> float32x4_t {
        // SAFETY: see above.
        unsafe {
            let exponent = vshlq_n_s32::<23>(vcvtq_s32_f32(n));
            vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(x), exponent))
        }
    }
    #[inline(always)]
    unsafe fn keep_where_ge(x: float32x4_t, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: see above.
        unsafe { vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(x), vcgeq_f32(a, b))) }
    }
    #[inline(always)]
    unsafe fn sum(x: float32x4_t) -> f32 {
        // SAFETY: see above.
        unsafe {
            let two = vadd_f32(vget_low_f32(x), vget_high_f32(x));
            vget_lane_f32::<0>(two) + vget_lane_f32::<1>(two)
        }
    }
    #[inline(always)]
    unsafe fn largest(x: float32x4_t) -> f32 {
        // SAFETY: see above.
        unsafe { vmaxnmvq_f32(x) }
    }

    #[inline(always)]
    unsafe fn splat_int(x: i32) -> int32x4_t {
        // SAFETY: see above.
        unsafe { vdupq_n_s32(x) }
    }
    #[inline(always)]
    unsafe fn to_f32(x: int32x4_t) -> float32x4_t {
        // SAFETY: see above.
        unsafe { vcvtq_f32_s32(x) }
    }

    #[inline(always)]
    unsafe fn load_bytes(from: *const u8) -> uint8x16_t {
        // SAFETY: see above.
        unsafe { vld1q_u8(from) }
    }
    #[inline(always)]
    unsafe fn nibbles(x: uint8x16_t) -> (uint8x16_t, uint8x16_t) {
        // SAFETY: see above.
        unsafe { (vandq_u8(x, vdupq_n_u8(15)), vshrq_n_u8::<4>(x)) }
    }
    #[inline(always)]
    unsafe fn dot_codes(sum: int32x4_t, codes: uint8x16_t, x: i32) -> int32x4_t {
        // SAFETY: see above. Codes are at least -127 and so is `x`, so two products stay within 16
        // bits.
        unsafe {
            let codes = vreinterpretq_s8_u8(veorq_u8(codes, vdupq_n_u8(128)));
            dot_bytes(sum, codes, vreinterpretq_s8_s32(vdupq_n_s32(x)))
        }
    }
    #[inline(always)]
    unsafe fn dot_nibbles(sum: int32x4_t, nibbles: uint8x16_t, x: i32) -> int32x4_t {
        // SAFETY: see above; 2 * 15 * 127 fits.
        unsafe {
            let x = vreinterpretq_s8_s32(vdupq_n_s32(x));
            dot_bytes(sum, vreinterpretq_s8_u8(nibbles), x)
        }
    }
    #[inline(always)]
    unsafe fn dot_pair(sum: float32x4_t, pairs: *const u32, x: u32) -> float32x4_t {
        // SAFETY: see above.
        unsafe {
            let pairs = vld1q_u32(pairs);
            let low = vreinterpretq_f32_u32(vshlq_n_u32::<16>(pairs));
            let high = vreinterpretq_f32_u32(vandq_u32(pairs, vdupq_n_u32(0xffff_0000)));
            let sum = vfmaq_f32(sum, low, vdupq_n_f32(f32::from_bits(x << 16)));
            vfmaq_f32(sum, high, vdupq_n_f32(f32::from_bits(x & 0xffff_0000)))
        }
    }
}
