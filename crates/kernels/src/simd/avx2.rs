//! The trait for AVX2 with FMA and F16C: eight lanes.

use std::arch::x86_64::*;

use super::Simd;

/// x86-64 of 2013 and later.
#[derive(Debug)]
pub(crate) struct Avx2;

/// Sums of four neighbouring 8-bit products, where the first factor is unsigned and no sum of two
/// products leaves 16 bits.
#[inline(always)]
unsafe fn dot_bytes(sum: __m256i, unsigned: __m256i, signed: __m256i) -> __m256i {
    // SAFETY: passed on from the caller.
    unsafe {
        let pairs = _mm256_maddubs_epi16(unsigned, signed);
        _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
    }
}

// SAFETY of the blocks below: the processor has the features, and a whole vector may be read or
// written at each pointer, both by the contract of the trait.
impl Simd for Avx2 {
    const LANES: usize = 8;
    const CODE_OFFSET: i32 = 0;
    type F = __m256;
    type I = __m256i;
    type Bytes = __m256i;

    #[inline(always)]
    unsafe fn splat(x: f32) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, x: __m256) {
        // SAFETY: see above.
        unsafe { _mm256_storeu_ps(to, x) }
    }
    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> __m256 {
        // SAFETY: see above.
        unsafe {
            let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide))
        }
    }
    #[inline(always)]
    unsafe fn load_f16(from: *const u16) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_cvtph_ps(_mm_loadu_si128(from.cast())) }
    }
    #[inline(always)]
    unsafe fn store_bf16(to: *mut u16, x: __m256) {
        // SAFETY: see above.
        unsafe {
            let bits = _mm256_castps_si256(x);
            let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
            let rounding = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff));
            let rounded = _mm256_srli_epi32::<16>(_mm256_add_epi32(bits, rounding));
            let quiet = _mm256_or_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(0x40));
            let nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(x, x));
            let words = _mm256_blendv_epi8(rounded, quiet, nan);
            let packed = _mm256_permute4x64_epi64::<0b1000>(_mm256_packus_epi32(words, words));
            _mm_storeu_si128(to.cast(), _mm256_castsi256_si128(packed));
        }
    }
    #[inline(always)]
    unsafe fn store_i8(to: *mut i8, x: __m256) {
        // SAFETY: see above.
        unsafe {
            let wide = _mm256_cvtps_epi32(x);
            let words = _mm256_packs_epi32(wide, wide);
            let words = _mm256_castsi256_si128(_mm256_permute4x64_epi64::<0b1000>(words));
            _mm_storel_epi64(to.cast(), _mm_packs_epi16(words, words));
        }
    }

    #[inline(always)]
    unsafe fn fma(a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn add(a: __m256, b: __m256) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: __m256, b: __m256) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_sub_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: __m256, b: __m256) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn div(a: __m256, b: __m256) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_div_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn max(a: __m256, b: __m256) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_max_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn round(x: __m256) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(x) }
    }
    #[inline(always)]
    unsafe fn scale_by_power(x: __m256, n: __m256) -> __m256 {
        // SAFETY: see above.
        unsafe {
            let exponent = _mm256_slli_epi32::<23>(_mm256_cvtps_epi32(n));
            _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(x), exponent))
        }
    }
    #[inline(always)]
    unsafe fn keep_where_ge(x: __m256, a: __m256, b: __m256) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_and_ps(x, _mm256_cmp_ps::<_CMP_GE_OQ>(a, b)) }
    }
    #[inline(always)]
    unsafe fn sum(x: __m256) -> f32 {
        // SAFETY: see above.
        unsafe {
            let four = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
        }
    }
    #[inline(always)]
    unsafe fn largest(x: __m256) -> f32 {
        // SAFETY: see above.
        unsafe {
            let four = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps::<1>(two, two)))
        }
    }

    #[inline(always)]
    unsafe fn splat_int(x: i32) -> __m256i {
        // SAFETY: see above.
        unsafe { _mm256_set1_epi32(x) }
    }
    #[inline(always)]
    unsafe fn to_f32(x: __m256i) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_cvtepi32_ps(x) }
    }

    #[inline(always)]
    unsafe fn load_bytes(from: *const u8) -> __m256i {
        // SAFETY: see above.
        unsafe { _mm256_loadu_si256(from.cast()) }
    }
    #[inline(always)]
    unsafe fn nibbles(x: __m256i) -> (__m256i, __m256i) {
        // SAFETY: see above.
        unsafe {
            let low = _mm256_set1_epi8(15);
            let high = _mm256_and_si256(_mm256_srli_epi16::<4>(x), low);
            (_mm256_and_si256(x, low), high)
        }
    }
    #[inline(always)]
    unsafe fn dot_codes(sum: __m256i, codes: __m256i, x: i32) -> __m256i {
        // SAFETY: see above. Codes are at least -127 and so is `x`, so two products stay within 16
        // bits; the sign of `x` moves to the codes, since one factor has to be unsigned.
        unsafe {
            let codes = _mm256_xor_si256(codes, _mm256_set1_epi8(-128));
            let x = _mm256_set1_epi32(x);
            dot_bytes(sum, _mm256_abs_epi8(x), _mm256_sign_epi8(codes, x))
        }
    }
    #[inline(always)]
    unsafe fn dot_nibbles(sum: __m256i, nibbles: __m256i, x: i32) -> __m256i {
        // SAFETY: see above; 2 * 15 * 127 fits.
        unsafe { dot_bytes(sum, nibbles, _mm256_set1_epi32(x)) }
    }
    #[inline(always)]
    unsafe fn dot_pair(sum: __m256, pairs: *const u32, x: u32) -> __m256 {
        // SAFETY: see above.
        unsafe {
            let pairs = _mm256_loadu_si256(pairs.cast());
            let low = _mm256_castsi256_ps(_mm256_slli_epi32::<16>(pairs));
            let mask = _mm256_set1_epi32(0xffff_0000_u32 as i32);
            let high = _mm256_castsi256_ps(_mm256_and_si256(pairs, mask));
            let sum = _mm256_fmadd_ps(low, _mm256_set1_ps(f32::from_bits(x << 16)), sum);
            _mm256_fmadd_ps(high, _mm256_set1_ps(f32::from_bits(x & 0xffff_0000)), sum)
        }
    }
}
