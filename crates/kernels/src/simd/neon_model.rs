//! The functions of `std::arch::aarch64` that the NEON unit uses, in plain Rust, so that its lines
//! are tested on machines of other kinds. Each does what Arm's reference of intrinsics says of its
//! namesake, for the arguments that the unit gives it.

#![expect(non_camel_case_types, reason = "Arm's names")]

use super::from_f16;

pub(super) type float32x2_t = [f32; 2];
pub(super) type float32x4_t = [f32; 4];
pub(super) type float16x4_t = [u16; 4];
pub(super) type uint8x16_t = [u8; 16];
pub(super) type uint16x4_t = [u16; 4];
pub(super) type uint32x4_t = [u32; 4];
pub(super) type int8x8_t = [i8; 8];
pub(super) type int8x16_t = [i8; 16];
pub(super) type int16x4_t = [i16; 4];
pub(super) type int16x8_t = [i16; 8];
pub(super) type int32x2_t = [i32; 2];
pub(super) type int32x4_t = [i32; 4];

fn both<A: Copy, B: Copy, C, const N: usize>(
    a: [A; N],
    b: [B; N],
    f: impl Fn(A, B) -> C,
) -> [C; N] {
    std::array::from_fn(|lane| f(a[lane], b[lane]))
}

/// `N` lanes from `start` on.
fn part<T: Copy, const M: usize, const N: usize>(x: [T; M], start: usize) -> [T; N] {
    std::array::from_fn(|lane| x[start + lane])
}

/// All ones where the comparison holds.
fn mask(a: float32x4_t, b: float32x4_t, holds: impl Fn(&f32, &f32) -> bool) -> uint32x4_t {
    both(a, b, |a, b| if holds(&a, &b) { u32::MAX } else { 0 })
}

/// Functions on lanes: of one vector, or of two.
macro_rules! lanes {
    ($($name:ident($($x:ident: $from:ty),+) -> $to:ty = |$($lane:ident),+| $result:expr;)*) => {
        $(lanes!(@ $name($($x: $from),+) -> $to, |$($lane),+| $result);)*
    };
    (@ $name:ident($a:ident: $from:ty) -> $to:ty, $f:expr) => {
        pub(super) fn $name($a: $from) -> $to {
            $a.map($f)
        }
    };
    (@ $name:ident($a:ident: $from_a:ty, $b:ident: $from_b:ty) -> $to:ty, $f:expr) => {
        pub(super) fn $name($a: $from_a, $b: $from_b) -> $to {
            both($a, $b, $f)
        }
    };
}

lanes! {
    vaddq_f32(a: float32x4_t, b: float32x4_t) -> float32x4_t = |a, b| a + b;
    vsubq_f32(a: float32x4_t, b: float32x4_t) -> float32x4_t = |a, b| a - b;
    vmulq_f32(a: float32x4_t, b: float32x4_t) -> float32x4_t = |a, b| a * b;
    vdivq_f32(a: float32x4_t, b: float32x4_t) -> float32x4_t = |a, b| a / b;
    vadd_f32(a: float32x2_t, b: float32x2_t) -> float32x2_t = |a, b| a + b;
    vrndnq_f32(a: float32x4_t) -> float32x4_t = |a| a.round_ties_even();
    vcvtq_s32_f32(a: float32x4_t) -> int32x4_t = |a| a as i32;
    vcvtq_f32_s32(a: int32x4_t) -> float32x4_t = |a| a as f32;
    vcvt_f32_f16(a: float16x4_t) -> float32x4_t = |a| from_f16(a);

    vaddq_u32(a: uint32x4_t, b: uint32x4_t) -> uint32x4_t = |a, b| a.wrapping_add(b);
    vaddq_s32(a: int32x4_t, b: int32x4_t) -> int32x4_t = |a, b| a.wrapping_add(b);
    vandq_u32(a: uint32x4_t, b: uint32x4_t) -> uint32x4_t = |a, b| a & b;
    vorrq_u32(a: uint32x4_t, b: uint32x4_t) -> uint32x4_t = |a, b| a | b;
    vandq_u8(a: uint8x16_t, b: uint8x16_t) -> uint8x16_t = |a, b| a & b;
    veorq_u8(a: uint8x16_t, b: uint8x16_t) -> uint8x16_t = |a, b| a ^ b;

    vmovl_u16(a: uint16x4_t) -> uint32x4_t = |a| u32::from(a);
    vmovn_u32(a: uint32x4_t) -> uint16x4_t = |a| a as u16;
    vmovn_s32(a: int32x4_t) -> int16x4_t = |a| a as i16;
    vmovn_s16(a: int16x8_t) -> int8x8_t = |a| a as i8;
    vmull_s8(a: int8x8_t, b: int8x8_t) -> int16x8_t = |a, b| i16::from(a) * i16::from(b);

    vreinterpretq_f32_u32(a: uint32x4_t) -> float32x4_t = |a| f32::from_bits(a);
    vreinterpretq_u32_f32(a: float32x4_t) -> uint32x4_t = |a| a.to_bits();
    vreinterpretq_f32_s32(a: int32x4_t) -> float32x4_t = |a| f32::from_bits(a as u32);
    vreinterpretq_s32_f32(a: float32x4_t) -> int32x4_t = |a| a.to_bits() as i32;
    vreinterpretq_s8_u8(a: uint8x16_t) -> int8x16_t = |a| a as i8;
    vreinterpret_f16_u16(a: uint16x4_t) -> float16x4_t = |a| a;
}

/// `a + b * c`, rounded once.
pub(super) fn vfmaq_f32(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
    std::array::from_fn(|lane| b[lane].mul_add(c[lane], a[lane]))
}

pub(super) fn vceqq_f32(a: float32x4_t, b: float32x4_t) -> uint32x4_t {
    mask(a, b, f32::eq)
}

pub(super) fn vcgtq_f32(a: float32x4_t, b: float32x4_t) -> uint32x4_t {
    mask(a, b, f32::gt)
}

pub(super) fn vcgeq_f32(a: float32x4_t, b: float32x4_t) -> uint32x4_t {
    mask(a, b, f32::ge)
}

/// Bits of `a` where those of `mask` are set, of `b` elsewhere.
pub(super) fn vbslq_u32(mask: uint32x4_t, a: uint32x4_t, b: uint32x4_t) -> uint32x4_t {
    std::array::from_fn(|lane| mask[lane] & a[lane] | !mask[lane] & b[lane])
}

pub(super) fn vbslq_f32(mask: uint32x4_t, a: float32x4_t, b: float32x4_t) -> float32x4_t {
    vreinterpretq_f32_u32(vbslq_u32(
        mask,
        vreinterpretq_u32_f32(a),
        vreinterpretq_u32_f32(b),
    ))
}

/// The largest lane, numbers before NaN.
pub(super) fn vmaxnmvq_f32(a: float32x4_t) -> f32 {
    a.into_iter().fold(f32::NAN, f32::max)
}

pub(super) fn vshlq_n_u32<const N: i32>(a: uint32x4_t) -> uint32x4_t {
    a.map(|a| a << N)
}

pub(super) fn vshlq_n_s32<const N: i32>(a: int32x4_t) -> int32x4_t {
    a.map(|a| a << N)
}

pub(super) fn vshrq_n_u32<const N: i32>(a: uint32x4_t) -> uint32x4_t {
    a.map(|a| a >> N)
}

pub(super) fn vshrq_n_u8<const N: i32>(a: uint8x16_t) -> uint8x16_t {
    a.map(|a| a >> N)
}

/// Sums of neighbours, those of `a` first.
pub(super) fn vpaddq_s16(a: int16x8_t, b: int16x8_t) -> int16x8_t {
    std::array::from_fn(|lane| {
        let (from, lane) = if lane < 4 { (a, lane) } else { (b, lane - 4) };
        from[2 * lane].wrapping_add(from[2 * lane + 1])
    })
}

/// Adds the sums of neighbours, widened.
pub(super) fn vpadalq_s16(sum: int32x4_t, a: int16x8_t) -> int32x4_t {
    std::array::from_fn(|lane| sum[lane] + i32::from(a[2 * lane]) + i32::from(a[2 * lane + 1]))
}

pub(super) fn vget_low_s8(a: int8x16_t) -> int8x8_t {
    part(a, 0)
}

pub(super) fn vget_high_s8(a: int8x16_t) -> int8x8_t {
    part(a, 8)
}

pub(super) fn vget_low_f32(a: float32x4_t) -> float32x2_t {
    part(a, 0)
}

pub(super) fn vget_high_f32(a: float32x4_t) -> float32x2_t {
    part(a, 2)
}

pub(super) fn vget_lane_f32<const LANE: i32>(a: float32x2_t) -> f32 {
    a[LANE as usize]
}

pub(super) fn vget_lane_s32<const LANE: i32>(a: int32x2_t) -> i32 {
    a[LANE as usize]
}

pub(super) fn vcombine_s16(low: int16x4_t, high: int16x4_t) -> int16x8_t {
    std::array::from_fn(|lane| if lane < 4 { low[lane] } else { high[lane - 4] })
}

/// Lane 0 has the first bytes, the lowest first.
pub(super) fn vreinterpret_s32_s8(a: int8x8_t) -> int32x2_t {
    std::array::from_fn(|lane| i32::from_le_bytes(part(a.map(|byte| byte as u8), 4 * lane)))
}

pub(super) fn vreinterpretq_s8_s32(a: int32x4_t) -> int8x16_t {
    std::array::from_fn(|lane| a[lane / 4].to_le_bytes()[lane % 4] as i8)
}

/// Functions that put a number into every lane.
macro_rules! duplicates {
    ($($name:ident($x:ty) -> $to:ty;)*) => {
        $(pub(super) fn $name(x: $x) -> $to {
            [x; size_of::<$to>() / size_of::<$x>()]
        })*
    };
}

duplicates! {
    vdupq_n_f32(f32) -> float32x4_t;
    vdupq_n_s32(i32) -> int32x4_t;
    vdupq_n_u32(u32) -> uint32x4_t;
    vdupq_n_u8(u8) -> uint8x16_t;
}

/// Loads of a whole vector, at any alignment.
macro_rules! loads {
    ($($name:ident($from:ty) -> $to:ty;)*) => {
        $(pub(super) unsafe fn $name(from: *const $from) -> $to {
            // SAFETY: the caller has a whole vector there.
            unsafe { from.cast::<$to>().read_unaligned() }
        })*
    };
}

loads! {
    vld1q_f32(f32) -> float32x4_t;
    vld1q_u32(u32) -> uint32x4_t;
    vld1q_u8(u8) -> uint8x16_t;
    vld1_u16(u16) -> uint16x4_t;
}

pub(super) unsafe fn vst1q_f32(to: *mut f32, x: float32x4_t) {
    // SAFETY: the caller has room for a whole vector there.
    unsafe { to.cast::<float32x4_t>().write_unaligned(x) }
}

pub(super) unsafe fn vst1_u16(to: *mut u16, x: uint16x4_t) {
    // SAFETY: as above.
    unsafe { to.cast::<uint16x4_t>().write_unaligned(x) }
}
