//! NEON against the portable unit, bit for bit wherever both sum in the same order: its functions
//! one by one, packed products in every format, attention over pages. Elsewhere than on AArch64
//! it is NEON's own source over a model of the processor's instructions.

use proptest::prelude::*;

use super::*;
use crate::{
    AttentionShape, KvBuffer, KvFormat, KvPlane, Linear, LinearScratch, PAGE, PagedQueries, Pool,
    Store, WeightFormat, attention_paged, plane_len,
};

/// Lanes that a case has: whole vectors of every unit.
const N: usize = 16;

/// What every function on lanes makes of the same numbers.
#[derive(Debug, Default, PartialEq)]
struct Lanes {
    /// Bits of f32, so that NaN equals itself.
    numbers: Vec<[u32; N]>,
    /// Integer sums, as they are.
    sums: Vec<[i32; N]>,
    codes: [i8; N],
    largest: u32,
}

#[derive(Clone, Debug)]
struct Case {
    a: [f32; N],
    b: [f32; N],
    c: [f32; N],
    whole: [f32; N],
    bytes: [u8; 4 * N],
    sum: i32,
    x: [i8; 4],
    pairs: [u32; N],
    pair: u32,
}

/// Any number but NaN, of which units may make different ones.
fn number() -> impl Strategy<Value = f32> {
    prop_oneof![
        4 => -1e3f32..1e3,
        1 => any::<f32>(),
        1 => prop::sample::select(vec![0.0, -0.0, 0.5, 1.5, -2.5, f32::INFINITY, f32::MIN_POSITIVE]),
    ]
}

/// Bits of a finite bf16 number of moderate size.
fn brief() -> impl Strategy<Value = u32> {
    (-1e6f32..1e6).prop_map(|x| u32::from(to_bf16(x)))
}

fn pair() -> impl Strategy<Value = u32> {
    (brief(), brief()).prop_map(|(low, high)| low | high << 16)
}

fn case() -> impl Strategy<Value = Case> {
    let numbers = || prop::array::uniform16(number());
    let bytes = prop::collection::vec(1u8..=255, 4 * N);
    (
        (numbers(), numbers(), numbers()),
        prop::array::uniform16(-128i8..=127),
        bytes.prop_map(|bytes| std::array::from_fn(|at| bytes[at])),
        -1_000_000..1_000_000,
        prop::array::uniform4(-127i8..=127),
        (prop::array::uniform16(pair()), pair()),
    )
        .prop_map(|((a, b, c), whole, bytes, sum, x, (pairs, pair))| Case {
            a,
            b,
            c,
            whole: whole.map(f32::from),
            bytes,
            sum,
            x,
            pairs,
            pair,
        })
}

#[inline(always)]
unsafe fn lanes<S: Simd>(case: &Case) -> Lanes {
    let mut all = Lanes::default();
    let mut largest = f32::NEG_INFINITY;
    let mut numbers = [[0f32; N]; 10];
    let mut sums = [[0f32; N]; 3];
    let x = i32::from_le_bytes(case.x.map(|x| x as u8));
    let offset: i32 = case.x.iter().map(|&x| i32::from(x)).sum::<i32>() * S::CODE_OFFSET;
    for at in (0..N).step_by(S::LANES) {
        // SAFETY: the arrays have whole vectors, four bytes for each lane.
        unsafe {
            let load = |x: &[f32; N]| S::load(x.as_ptr().add(at));
            let (a, b, c) = (load(&case.a), load(&case.b), load(&case.c));
            let whole = load(&case.whole);
            let bytes = S::load_bytes(case.bytes.as_ptr().add(4 * at));
            let (low, high) = S::nibbles(bytes);
            let start = S::splat_int(case.sum);
            for (to, x) in numbers.iter_mut().zip([
                S::fma(a, b, c),
                S::add(a, b),
                S::sub(a, b),
                S::mul(a, b),
                S::max(a, b),
                S::round(a),
                S::keep_where_ge(c, a, b),
                S::scale_by_power(S::splat(1.25), S::max(whole, S::splat(-126.0))),
                exp::<S>(a),
                S::dot_pair(whole, case.pairs.as_ptr().add(at), case.pair),
            ]) {
                S::store(to.as_mut_ptr().add(at), x);
            }
            let codes = S::dot_codes(S::splat_int(case.sum - offset), bytes, x);
            let (low, high) = (
                S::dot_nibbles(start, low, x),
                S::dot_nibbles(start, high, x),
            );
            for (to, x) in sums.iter_mut().zip([codes, low, high]) {
                S::store(to.as_mut_ptr().add(at), S::to_f32(x));
            }
            S::store_i8(all.codes.as_mut_ptr().add(at), whole);
            largest = largest.max(S::largest(a));
        }
    }
    all.numbers = numbers.map(|x| x.map(f32::to_bits)).to_vec();
    all.sums = sums.map(|x| x.map(|x| x as i32)).to_vec();
    all.largest = largest.to_bits();
    all
}

proptest! {
    #[test]
    fn functions_on_lanes_agree(case in case()) {
        // SAFETY: one unit runs on any processor, the other on this one or in plain Rust.
        let (got, want) = unsafe { (lanes::<Neon>(&case), lanes::<Portable>(&case)) };
        for (index, (got, want)) in got.numbers.iter().zip(&want.numbers).enumerate() {
            for (got, want) in got.iter().zip(want) {
                let both_nan = f32::from_bits(*got).is_nan() && f32::from_bits(*want).is_nan();
                prop_assert!(got == want || both_nan, "function {index}: {got:#x}, wanted {want:#x}");
            }
        }
        prop_assert_eq!(got.sums, want.sums);
        prop_assert_eq!(got.codes, want.codes);
        prop_assert_eq!(f32::from_bits(got.largest), f32::from_bits(want.largest));
    }
}

/// Reproducible numbers in -1..1.
fn noise(len: usize, seed: u32) -> Vec<f32> {
    let mut state = seed;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    std::iter::repeat_with(next).take(len).collect()
}

#[test]
fn sums_across_lanes_are_sums() {
    // SAFETY: the arrays have a whole vector.
    unsafe {
        let x = [1.0, 20.0, 300.0, 4000.0];
        assert_eq!(Neon::sum(Neon::load(x.as_ptr())), 4321.0);
    }
}

#[test]
fn packed_products_are_the_same_bits() {
    let pool = Pool::solo();
    for format in WeightFormat::ALL {
        // Every height of a tile, outputs that end inside a vector, a depth that is padded.
        for [m, n, k] in [[1, 64, 256], [2, 61, 33], [7, 130, 129], [13, 70, 64]] {
            let (w, x) = (noise(n * k, 1), noise(m * k, 2));
            let product = |unit| {
                with_unit(unit, || {
                    let linear = Linear::pack(format, n, k, &pool, |row, out| {
                        out.copy_from_slice(&w[row * k..][..k]);
                    });
                    let mut y = noise(m * n, 3);
                    let mut scratch = LinearScratch::default();
                    linear.apply(&mut y, &x, Store::Accumulate, &pool, &mut scratch);
                    y.into_iter().map(f32::to_bits).collect::<Vec<_>>()
                })
            };
            assert!(
                product(Unit::Neon) == product(Unit::Portable),
                "{format} {m}x{n}x{k}"
            );
        }
    }
}

#[test]
fn paged_attention_is_the_same_but_for_the_order_of_sums() {
    let pool = Pool::solo();
    // A width of whole tiles, and one with vectors and elements left over.
    for head_dim in [32, 23] {
        let shape = AttentionShape {
            n_heads: 6,
            n_kv_heads: 2,
            head_dim,
        };
        let (rows, len) = (5, 2 * PAGE + 17);
        let (keys, values) = (
            noise(len * shape.kv_width(), 1),
            noise(len * shape.kv_width(), 2),
        );
        let q = noise(rows * shape.q_width(), 3);
        for format in [KvFormat::F32, KvFormat::Bf16] {
            let n_pages = len.div_ceil(PAGE);
            let mut buffer = KvBuffer::zeros(format, n_pages * plane_len(shape));
            let width = shape.kv_width();
            for at in 0..len {
                let (key, value) = (&keys[at * width..][..width], &values[at * width..][..width]);
                buffer.write(at / PAGE, shape, at % PAGE, key, value);
            }
            let pages: Vec<KvPlane<'_>> = (0..n_pages).map(|at| buffer.plane(at, shape)).collect();
            for window in [None, Some(40)] {
                let first_page = window.map_or(0, |window| (len - rows + 1 - window) / PAGE);
                let attend = |unit| {
                    let mut out = vec![f32::NAN; rows * shape.q_width()];
                    let queries = PagedQueries {
                        q: &q,
                        stride: shape.q_width(),
                        start: len - rows,
                        window,
                        pages: &pages[first_page..],
                        first_page,
                    };
                    with_unit(unit, || attention_paged(&mut out, queries, shape, &pool));
                    out
                };
                let (got, want) = (attend(Unit::Neon), attend(Unit::Portable));
                for (at, (got, want)) in got.iter().zip(want).enumerate() {
                    assert!(
                        (got - want).abs() < 1e-6,
                        "{shape:?} {format:?} {window:?} at {at}: {got}, wanted {want}"
                    );
                }
            }
        }
    }
}
