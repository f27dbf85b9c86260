//! The trait in plain Rust: eight lanes in an array.

use super::{Simd, from_bf16, from_f16, to_bf16};

/// Any processor.
#[derive(Debug)]
pub(crate) struct Portable;

const LANES: usize = 8;

type F = [f32; LANES];

#[inline(always)]
fn each<T: Copy, U>(x: [T; LANES], f: impl Fn(T) -> U) -> [U; LANES] {
    x.map(f)
}

#[inline(always)]
fn both(a: F, b: F, f: impl Fn(f32, f32) -> f32) -> F {
    std::array::from_fn(|lane| f(a[lane], b[lane]))
}

/// The products of four bytes of a lane with the four of `x`, added up.
#[inline(always)]
fn dot(
    sum: [i32; LANES],
    bytes: [[u8; 4]; LANES],
    x: i32,
    code: impl Fn(u8) -> i32,
) -> [i32; LANES] {
    let x = x.to_le_bytes().map(|b| i32::from(b as i8));
    std::array::from_fn(|lane| {
        (0..4).fold(sum[lane], |sum, at| sum + code(bytes[lane][at]) * x[at])
    })
}

impl Simd for Portable {
    const LANES: usize = LANES;
    const CODE_OFFSET: i32 = 0;
    type F = F;
    type I = [i32; LANES];
    type Bytes = [[u8; 4]; LANES];

    #[inline(always)]
    unsafe fn splat(x: f32) -> F {
        [x; LANES]
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> F {
        // SAFETY: a whole vector is readable by the trait's contract.
        unsafe { from.cast::<F>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, x: F) {
        // SAFETY: a whole vector is writable by the trait's contract.
        unsafe { to.cast::<F>().write_unaligned(x) }
    }
    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> F {
        // SAFETY: as in `load`.
        each(
            unsafe { from.cast::<[u16; LANES]>().read_unaligned() },
            from_bf16,
        )
    }
    #[inline(always)]
    unsafe fn load_f16(from: *const u16) -> F {
        // SAFETY: as in `load`.
        each(
            unsafe { from.cast::<[u16; LANES]>().read_unaligned() },
            from_f16,
        )
    }
    #[inline(always)]
    unsafe fn store_bf16(to: *mut u16, x: F) {
        // SAFETY: as in `store`.
        unsafe { to.cast::<[u16; LANES]>().write_unaligned(each(x, to_bf16)) }
    }
    #[inline(always)]
    unsafe fn store_i8(to: *mut i8, x: F) {
        // SAFETY: as in `store`.
        unsafe {
            to.cast::<[i8; LANES]>()
                .write_unaligned(each(x, |x| x as i8))
        }
    }

    #[inline(always)]
    unsafe fn fma(a: F, b: F, c: F) -> F {
        std::array::from_fn(|lane| a[lane].mul_add(b[lane], c[lane]))
    }
    #[inline(always)]
    unsafe fn add(a: F, b: F) -> F {
        both(a, b, |a, b| a + b)
    }
    #[inline(always)]
    unsafe fn sub(a: F, b: F) -> F {
        both(a, b, |a, b| a - b)
    }
    #[inline(always)]
    unsafe fn mul(a: F, b: F) -> F {
        both(a, b, |a, b| a * b)
    }
    #[inline(always)]
    unsafe fn div(a: F, b: F) -> F {
        both(a, b, |a, b| a / b)
    }
    #[inline(always)]
    unsafe fn max(a: F, b: F) -> F {
        both(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    unsafe fn round(x: F) -> F {
        each(x, f32::round_ties_even)
    }
    #[inline(always)]
    unsafe fn scale_by_power(x: F, n: F) -> F {
        both(x, n, |x, n| {
            f32::from_bits(x.to_bits().wrapping_add_signed((n as i32) << 23))
        })
    }
    #[inline(always)]
    unsafe fn keep_where_ge(x: F, a: F, b: F) -> F {
        std::array::from_fn(|lane| if a[lane] >= b[lane] { x[lane] } else { 0.0 })
    }
    #[inline(always)]
    unsafe fn sum(x: F) -> f32 {
        let four: [f32; 4] = std::array::from_fn(|lane| x[lane] + x[lane + 4]);
        (four[0] + four[2]) + (four[1] + four[3])
    }
    #[inline(always)]
    unsafe fn largest(x: F) -> f32 {
        x.into_iter().fold(f32::NEG_INFINITY, f32::max)
    }

    #[inline(always)]
    unsafe fn splat_int(x: i32) -> [i32; LANES] {
        [x; LANES]
    }
    #[inline(always)]
    unsafe fn to_f32(x: [i32; LANES]) -> F {
        each(x, |x| x as f32)
    }

    #[inline(always)]
    unsafe fn load_bytes(from: *const u8) -> Self::Bytes {
        // SAFETY: as in `load`.
        unsafe { from.cast::<Self::Bytes>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn nibbles(x: Self::Bytes) -> (Self::Bytes, Self::Bytes) {
        (
            each(x, |x| x.map(|b| b & 15)),
            each(x, |x| x.map(|b| b >> 4)),
        )
    }
    #[inline(always)]
    unsafe fn dot_codes(sum: [i32; LANES], codes: Self::Bytes, x: i32) -> [i32; LANES] {
        dot(sum, codes, x, |b| i32::from(b) - 128)
    }
    #[inline(always)]
    unsafe fn dot_nibbles(sum: [i32; LANES], nibbles: Self::Bytes, x: i32) -> [i32; LANES] {
        dot(sum, nibbles, x, i32::from)
    }
    #[inline(always)]
    unsafe fn dot_pair(sum: F, pairs: *const u32, x: u32) -> F {
        // SAFETY: as in `load`.
        let pairs = unsafe { pairs.cast::<[u32; LANES]>().read_unaligned() };
        let (low, high) = (from_bf16(x as u16), from_bf16((x >> 16) as u16));
        std::array::from_fn(|lane| {
            let sum = from_bf16(pairs[lane] as u16).mul_add(low, sum[lane]);
            from_bf16((pairs[lane] >> 16) as u16).mul_add(high, sum)
        })
    }
}
