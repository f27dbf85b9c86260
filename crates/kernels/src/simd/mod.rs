//! Vectors of the processor behind one trait, so that a kernel is written once.
//!
//! A kernel is a generic function over [`Simd`], marked `#[inline(always)]`; for each processor a
//! thin function with the matching `#[target_feature]` calls it, and the compiler inlines the
//! whole into instructions of that processor. The arithmetic is the same everywhere: sums run in the
//! same order with the same fused operations, and sums of integers are exact.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(any(target_arch = "aarch64", test))]
#[cfg_attr(
    not(target_arch = "aarch64"),
    expect(unused_unsafe, reason = "the model's functions are safe")
)]
mod neon;
#[cfg(all(test, not(target_arch = "aarch64")))]
mod neon_model;
mod portable;

use std::sync::OnceLock;

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::Avx512;
#[cfg(any(target_arch = "aarch64", test))]
pub(crate) use neon::Neon;
pub(crate) use portable::Portable;

/// A vector unit.
///
/// # Safety
/// Every function may be called only on a processor that has the unit, and reads or writes whole
/// vectors at the pointers it is given: [`Simd::LANES`] elements unless it says otherwise.
pub(crate) trait Simd {
    /// Lanes of 32 bits in a vector.
    const LANES: usize;
    /// What [`Simd::dot_codes`] adds to each code, so that the caller takes it off again.
    const CODE_OFFSET: i32;
    /// f32 lanes.
    type F: Copy;
    /// i32 lanes.
    type I: Copy;
    /// Four bytes in each lane.
    type Bytes: Copy;

    unsafe fn splat(x: f32) -> Self::F;
    unsafe fn load(from: *const f32) -> Self::F;
    unsafe fn store(to: *mut f32, x: Self::F);
    /// Widens bf16.
    unsafe fn load_bf16(from: *const u16) -> Self::F;
    /// Widens IEEE half precision.
    unsafe fn load_f16(from: *const u16) -> Self::F;
    /// Rounds to bf16, to nearest even.
    unsafe fn store_bf16(to: *mut u16, x: Self::F);
    /// Writes the lanes, which hold whole numbers of -128 to 127, as bytes.
    unsafe fn store_i8(to: *mut i8, x: Self::F);

    /// `a * b + c`, rounded once.
    unsafe fn fma(a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    unsafe fn add(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn sub(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn mul(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn div(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn max(a: Self::F, b: Self::F) -> Self::F;
    /// To the nearest whole number, ties to even.
    unsafe fn round(x: Self::F) -> Self::F;
    /// `x * 2^n` for whole `n` of -126 to 127.
    unsafe fn scale_by_power(x: Self::F, n: Self::F) -> Self::F;
    /// `x` where `a >= b`, zero elsewhere.
    unsafe fn keep_where_ge(x: Self::F, a: Self::F, b: Self::F) -> Self::F;
    /// Sum of the lanes, in a fixed order.
    unsafe fn sum(x: Self::F) -> f32;
    /// The largest lane.
    unsafe fn largest(x: Self::F) -> f32;

    unsafe fn splat_int(x: i32) -> Self::I;
    unsafe fn to_f32(x: Self::I) -> Self::F;

    /// `4 * LANES` bytes.
    unsafe fn load_bytes(from: *const u8) -> Self::Bytes;
    /// The low and the high four bits of each byte.
    unsafe fn nibbles(x: Self::Bytes) -> (Self::Bytes, Self::Bytes);
    /// Adds to each lane the products of its four codes with the four signed bytes of `x`. Codes
    /// are stored plus 128; what is multiplied is the code plus [`Simd::CODE_OFFSET`].
    unsafe fn dot_codes(sum: Self::I, codes: Self::Bytes, x: i32) -> Self::I;
    /// As [`Simd::dot_codes`] for bytes of 0 to 15, multiplied as they are.
    unsafe fn dot_nibbles(sum: Self::I, nibbles: Self::Bytes, x: i32) -> Self::I;
    /// Adds to each lane the two products of its pair of bf16 values, read at `pairs`, with the
    /// pair `x`: the lower one first.
    unsafe fn dot_pair(sum: Self::F, pairs: *const u32, x: u32) -> Self::F;
}

/// Below it `e^x` is no normal number.
const LOWEST: f32 = -87.336_54;

/// `e^x` to about two units in the last place. Exactly 0 below the smallest normal result, as masked
/// scores need; saturates at about 2e38.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
pub(crate) unsafe fn exp<S: Simd>(x: S::F) -> S::F {
    const HIGHEST: f32 = 88.376_26;
    // SAFETY: passed on from the caller; nothing here touches memory.
    unsafe {
        let negative = |x| S::sub(S::splat(0.0), x);
        let low = S::max(x, S::splat(LOWEST));
        let clamped = negative(S::max(negative(low), S::splat(-HIGHEST)));
        S::keep_where_ge(normal_exp::<S>(clamped), x, S::splat(LOWEST))
    }
}

/// As [`exp`], for what is not above 0.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
pub(crate) unsafe fn exp_not_above_zero<S: Simd>(x: S::F) -> S::F {
    // SAFETY: passed on from the caller; nothing here touches memory.
    unsafe {
        let clamped = S::max(x, S::splat(LOWEST));
        S::keep_where_ge(normal_exp::<S>(clamped), x, S::splat(LOWEST))
    }
}

/// `e^x` where that is a normal number: `x = n ln 2 + r`, and Cephes' polynomial for `e^r`.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
unsafe fn normal_exp<S: Simd>(x: S::F) -> S::F {
    // SAFETY: passed on from the caller; nothing here touches memory.
    unsafe {
        let n = S::round(S::mul(x, S::splat(std::f32::consts::LOG2_E)));
        // ln 2 in two parts, the first exact in few bits, so that r keeps its precision.
        let r = S::fma(n, S::splat(-0.693_359_4), x);
        let r = S::fma(n, S::splat(2.121_944_4e-4), r);
        let mut p = S::splat(1.987_569_1e-4);
        for c in [
            1.398_199_9e-3,
            8.333_452e-3,
            4.166_579_6e-2,
            1.666_666_5e-1,
            0.5,
        ] {
            p = S::fma(p, r, S::splat(c));
        }
        let p = S::fma(p, S::mul(r, r), S::add(r, S::splat(1.0)));
        S::scale_by_power(p, n)
    }
}

/// The vector units a kernel can be made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Portable,
    /// On other machines there is a model of it, for tests.
    #[cfg(any(target_arch = "aarch64", test))]
    Neon,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512 with byte operations and VNNI.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// As above, with products of bf16.
    #[cfg(target_arch = "x86_64")]
    Avx512Bf16,
}

/// The unit in use: the best one that the processor has and the chosen [`Level`](crate::Level)
/// allows.
pub(crate) fn unit() -> Unit {
    static UNIT: OnceLock<Unit> = OnceLock::new();
    #[cfg(test)]
    if let Some(unit) = tests::FORCED.get() {
        return unit;
    }
    *UNIT.get_or_init(find)
}

/// What packed products and paged attention run on, for people: it may be more than the
/// [`Level`](crate::Level) says, which is what training runs on.
#[must_use]
pub fn inference_unit() -> &'static str {
    match unit() {
        Unit::Portable => "plain Rust",
        #[cfg(any(target_arch = "aarch64", test))]
        Unit::Neon => "NEON",
        #[cfg(target_arch = "x86_64")]
        Unit::Avx2 => "AVX2",
        #[cfg(target_arch = "x86_64")]
        Unit::Avx512 => "AVX-512 with VNNI",
        #[cfg(target_arch = "x86_64")]
        Unit::Avx512Bf16 => "AVX-512 with VNNI and bf16",
    }
}

#[cfg(target_arch = "x86_64")]
fn find() -> Unit {
    use crate::{Level, cpu};
    let level = cpu().level;
    let wide = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512vnni")
        && is_x86_feature_detected!("f16c");
    if level >= Level::Avx512 && wide {
        if is_x86_feature_detected!("avx512bf16") {
            Unit::Avx512Bf16
        } else {
            Unit::Avx512
        }
    } else if level >= Level::Avx2 && is_x86_feature_detected!("f16c") {
        Unit::Avx2
    } else {
        Unit::Portable
    }
}

#[cfg(target_arch = "aarch64")]
fn find() -> Unit {
    use crate::{Level, cpu};
    match cpu().level {
        Level::Neon => Unit::Neon,
        _ => Unit::Portable,
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn find() -> Unit {
    Unit::Portable
}

/// Runs a generic kernel on the unit in use: `on_unit!(kernel(a: A = x, b: B = y))` calls
/// `kernel::<S>(x, y)`, which must be `#[inline(always)]`, inside a function that has the unit's
/// features.
///
/// Expands to an unsafe call: the arguments have to satisfy the kernel's contract.
macro_rules! on_unit {
    ($kernel:ident ($($name:ident : $type:ty = $value:expr),* $(,)?)) => {{
        #[cfg(any(target_arch = "aarch64", test))]
        #[cfg_attr(target_arch = "aarch64", target_feature(enable = "neon"))]
        unsafe fn neon($($name: $type),*) {
            #[allow(unused_unsafe, reason = "some kernels ask for nothing but the features")]
            // SAFETY: passed on from the macro's caller.
            unsafe {
                $kernel::<$crate::simd::Neon>($($name),*)
            }
        }
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma,f16c")]
        unsafe fn avx2($($name: $type),*) {
            #[allow(unused_unsafe, reason = "see above")]
            // SAFETY: passed on from the macro's caller.
            unsafe {
                $kernel::<$crate::simd::Avx2>($($name),*)
            }
        }
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
        unsafe fn avx512($($name: $type),*) {
            #[allow(unused_unsafe, reason = "see above")]
            // SAFETY: passed on from the macro's caller.
            unsafe {
                $kernel::<$crate::simd::Avx512<false>>($($name),*)
            }
        }
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni,avx512bf16")]
        unsafe fn avx512_bf16($($name: $type),*) {
            #[allow(unused_unsafe, reason = "see above")]
            // SAFETY: passed on from the macro's caller.
            unsafe {
                $kernel::<$crate::simd::Avx512<true>>($($name),*)
            }
        }
        match $crate::simd::unit() {
            $crate::simd::Unit::Portable => $kernel::<$crate::simd::Portable>($($value),*),
            #[cfg(any(target_arch = "aarch64", test))]
            $crate::simd::Unit::Neon => neon($($value),*),
            #[cfg(target_arch = "x86_64")]
            $crate::simd::Unit::Avx2 => avx2($($value),*),
            #[cfg(target_arch = "x86_64")]
            $crate::simd::Unit::Avx512 => avx512($($value),*),
            #[cfg(target_arch = "x86_64")]
            $crate::simd::Unit::Avx512Bf16 => avx512_bf16($($value),*),
        }
    }};
}
pub(crate) use on_unit;

/// An f32 as bf16, rounded to nearest even; NaN stays NaN.
#[inline]
pub(crate) fn to_bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    if x.is_nan() {
        return (bits >> 16) as u16 | 0x40;
    }
    ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16
}

/// A bf16 value as f32.
#[inline]
pub(crate) fn from_bf16(x: u16) -> f32 {
    f32::from_bits(u32::from(x) << 16)
}

/// An IEEE half as f32.
pub(crate) fn from_f16(x: u16) -> f32 {
    let (sign, exponent, fraction) = (x >> 15, x >> 10 & 0x1f, x & 0x3ff);
    let magnitude = match exponent {
        0 => f32::from(fraction) * 2f32.powi(-24),
        31 if fraction == 0 => f32::INFINITY,
        31 => f32::NAN,
        _ => f32::from_bits((u32::from(exponent) + 112) << 23 | u32::from(fraction) << 13),
    };
    if sign == 0 { magnitude } else { -magnitude }
}

/// An f32 as IEEE half, rounded to nearest even; too large becomes infinite.
pub(crate) fn to_f16(x: f32) -> u16 {
    let sign = (x.to_bits() >> 16 & 0x8000) as u16;
    let magnitude = x.abs();
    if magnitude.is_nan() {
        return sign | 0x7e00;
    }
    // Halfway between the largest half and the next power of two, which rounds away.
    if magnitude >= 65_520.0 {
        return sign | 0x7c00;
    }
    if magnitude < 2f32.powi(-14) {
        // Adding half of 2^24 units of the last subnormal place leaves the rounded units in the
        // low bits.
        let units = (magnitude * 2f32.powi(24) + 8_388_608.0).to_bits() & 0x7f_ffff;
        return sign | units as u16;
    }
    let bits = magnitude.to_bits();
    let rounded = bits + 0xfff + (bits >> 13 & 1);
    sign | ((rounded >> 13) - (112 << 10)) as u16
}

#[cfg(test)]
mod tests;
