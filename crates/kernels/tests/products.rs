//! Matrix products against the reference, on odd shapes and layouts.

mod common;

use common::{Random, assert_close, assert_same_bits, bf16, poison, rounds_to_bf16};
use cwm_kernels::{MatMut, MatRef, Precision, Store, gemm, reference};
use proptest::prelude::*;

/// A matrix in row-major or transposed storage, with rows further apart than they are long.
struct Stored {
    data: Vec<f32>,
    rows: usize,
    cols: usize,
    padding: usize,
    transposed: bool,
}

impl Stored {
    fn new(random: &mut Random, rows: usize, cols: usize, transposed: bool) -> Self {
        let padding = random.below(4);
        let (outer, inner) = if transposed {
            (cols, rows)
        } else {
            (rows, cols)
        };
        let data = random.values(outer * (inner + padding));
        Self {
            data,
            rows,
            cols,
            padding,
            transposed,
        }
    }

    /// The same matrix as the products in bf16 see it.
    fn rounded(&self) -> Self {
        Self {
            data: bf16(&self.data),
            ..*self
        }
    }

    fn view(&self) -> MatRef<'_> {
        if self.transposed {
            let stride = self.rows + self.padding;
            MatRef::with_stride(&self.data, self.cols, self.rows, stride).t()
        } else {
            MatRef::with_stride(&self.data, self.rows, self.cols, self.cols + self.padding)
        }
    }
}

fn check_gemm(seed: u64, [m, k, n]: [usize; 3], [ta, tb]: [bool; 2], store: Store) {
    let mut random = Random(seed);
    let a = Stored::new(&mut random, m, k, ta);
    let b = Stored::new(&mut random, k, n, tb);
    let stride = n + random.below(3);
    let before = match store {
        Store::Overwrite => poison(m * stride),
        Store::Accumulate => random.values(m * stride),
    };
    let into = |multiply: &dyn Fn(MatMut<'_>)| {
        let mut c = before.clone();
        multiply(MatMut::with_stride(&mut c, m, n, stride));
        c
    };
    let defined = |a: &Stored, b: &Stored| into(&|c| reference::gemm(c, a.view(), b.view(), store));
    let rows = |c: &[f32]| -> Vec<f32> {
        let row = |i: usize| &c[i * stride..i * stride + n];
        (0..m).flat_map(row).copied().collect()
    };
    let tolerance = 1e-6 * (k as f32).max(4.0).sqrt();
    let exact = rows(&defined(&a, &b));
    for precision in [Precision::F32, Precision::Bf16] {
        let got = into(&|c| gemm(c, a.view(), b.view(), store, precision));
        // A product in bf16 is that of the rounded matrices, as exactly as a product in f32 is that
        // of the given ones. Which of those allowed are in bf16 is the path's choice, never mixed.
        let in_f32 =
            |(got, want): (&f32, &f32)| (got - want).abs() <= tolerance * want.abs().max(1.0);
        let may_round = precision == Precision::Bf16 && rounds_to_bf16();
        if may_round && !rows(&got).iter().zip(&exact).all(in_f32) {
            let rounded = rows(&defined(&a.rounded(), &b.rounded()));
            assert_close("C in bf16", &rows(&got), &rounded, tolerance);
        } else {
            assert_close("C", &rows(&got), &exact, tolerance);
        }
        for i in 0..m {
            let gap = i * stride + n..(i + 1) * stride;
            assert_same_bits("between rows", &got[gap.clone()], &before[gap]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn gemm_matches_the_reference(
        seed: u64,
        shape in [0usize..40, 0usize..70, 0usize..150],
        transposed: [bool; 2],
        accumulate: bool,
    ) {
        let store = if accumulate { Store::Accumulate } else { Store::Overwrite };
        check_gemm(seed, shape, transposed, store);
    }

}

#[test]
fn gemm_crosses_every_block_boundary() {
    // Depth over KC, rows over MC, columns over NC, each with a remainder; first for the sizes
    // that stay in f32 everywhere, then for those that bf16 takes.
    for (seed, shape) in [
        (1, [7, 517, 19]),
        (2, [247, 30, 33]),
        (3, [5, 9, 2061]),
        (4, [125, 260, 111]),
        (5, [67, 1061, 45]),
        (6, [17, 33, 2061]),
        (7, [270, 71, 131]),
        (8, [41, 515, 105]),
    ] {
        for transposed in [[false, false], [false, true], [true, false], [true, true]] {
            check_gemm(seed, shape, transposed, Store::Overwrite);
            check_gemm(seed, shape, transposed, Store::Accumulate);
        }
    }
}

#[test]
fn a_row_of_a_product_does_not_depend_on_the_other_rows() {
    let (m, k, n) = (61, 300, 260);
    let mut random = Random(5);
    let (a, w) = (random.values(m * k), random.values(n * k));
    let w = MatRef::new(&w, n, k).t();
    let product = |rows: &[f32], precision: Precision| {
        let m = rows.len() / k;
        let mut c = poison(m * n);
        let rows = MatRef::new(rows, m, k);
        gemm(
            MatMut::new(&mut c, m, n),
            rows,
            w,
            Store::Overwrite,
            precision,
        );
        c
    };
    // Where products in bf16 exist, 27 rows are still large enough to be one.
    for (precision, together) in [(Precision::F32, 1), (Precision::Bf16, 27)] {
        let whole = product(&a, precision);
        for i in 0..=m - together {
            let alone = product(&a[i * k..][..together * k], precision);
            assert_same_bits("rows", &alone, &whole[i * n..][..together * n]);
        }
    }
}

#[test]
fn what_is_not_a_number_stays_so() {
    let (m, k, n) = (64, 130, 190);
    let mut random = Random(9);
    let (mut a, mut b) = (random.values(m * k), random.values(k * n));
    a[3 * k + 7] = f32::NAN;
    b[11 * n + 5] = f32::INFINITY;
    for transposed in [false, true] {
        let mut c = poison(m * n);
        if transposed {
            let (a, b) = (MatRef::new(&a, m, k).t(), MatRef::new(&b, k, n).t());
            let c = MatMut::new(&mut c, n, m);
            gemm(c, b, a, Store::Overwrite, Precision::Bf16);
        } else {
            let (a, b) = (MatRef::new(&a, m, k), MatRef::new(&b, k, n));
            let c = MatMut::new(&mut c, m, n);
            gemm(c, a, b, Store::Overwrite, Precision::Bf16);
        }
        for (at, value) in c.iter().enumerate() {
            let (i, j) = match transposed {
                true => (at % m, at / m),
                false => (at / n, at % n),
            };
            assert_eq!(value.is_nan(), i == 3, "({i}, {j}) is {value}");
            assert_eq!(
                value.is_infinite(),
                i != 3 && j == 5,
                "({i}, {j}) is {value}"
            );
        }
    }
}

#[test]
fn wrong_shapes_are_named() {
    let x = [0.0; 12];
    let panic = std::panic::catch_unwind(|| {
        let mut c = [0.0; 4];
        let (a, b) = (MatRef::new(&x, 2, 3), MatRef::new(&x, 4, 2));
        gemm(
            MatMut::new(&mut c, 2, 2),
            a,
            b,
            Store::Overwrite,
            Precision::F32,
        );
    });
    let payload = panic.expect_err("shapes disagree");
    let message = payload.downcast_ref::<String>().expect("a message");
    assert!(message.contains("C 2x2 from A 2x3 and B 4x2"), "{message}");
}
