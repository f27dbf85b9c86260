//! Matrix and matrix-vector products against the reference, on odd shapes and layouts.

mod common;

use common::{Random, assert_close, assert_same_bits, poison};
use cwm_kernels::{
    INT8_GROUP, MatMut, MatRef, PackedMatrix, Store, dequantize_int8, gemm, gemm_packed, gemv,
    gemv_int8, quantize_int8, reference,
};
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
    let (mut got, mut want) = (before.clone(), before.clone());
    gemm(
        MatMut::with_stride(&mut got, m, n, stride),
        a.view(),
        b.view(),
        store,
    );
    reference::gemm(
        MatMut::with_stride(&mut want, m, n, stride),
        a.view(),
        b.view(),
        store,
    );
    for i in 0..m {
        let row = i * stride..i * stride + n;
        assert_close(
            "C",
            &got[row.clone()],
            &want[row.clone()],
            1e-6 * (k as f32).max(4.0).sqrt(),
        );
        let gap = row.end..(i + 1) * stride;
        assert_same_bits("between rows", &got[gap.clone()], &before[gap]);
    }
    let mut packed = before;
    let b = PackedMatrix::new(b.view());
    gemm_packed(
        MatMut::with_stride(&mut packed, m, n, stride),
        a.view(),
        &b,
        store,
    );
    assert_same_bits("packed", &packed, &got);
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

    #[test]
    fn gemv_matches_the_reference(seed: u64, n in 0usize..20, k in 0usize..130) {
        let mut random = Random(seed);
        let (w, x) = (random.values(n * k), random.values(k));
        let (mut got, mut want) = (poison(n), poison(n));
        gemv(&mut got, &w, &x);
        reference::gemv(&mut want, &w, &x);
        assert_close("y", &got, &want, 1e-5);
    }

    #[test]
    fn gemv_int8_matches_the_reference(seed: u64, n in 1usize..9, k in 1usize..130) {
        let mut random = Random(seed);
        let (w, x) = (random.values(n * k), random.values(k));
        let mut q = vec![0; n * k];
        let mut scales = poison(n * k.div_ceil(INT8_GROUP));
        quantize_int8(&mut q, &mut scales, &w, k);
        let (mut got, mut want, mut rounded) = (poison(n), poison(n), poison(n * k));
        gemv_int8(&mut got, &q, &scales, &x);
        reference::gemv_int8(&mut want, &q, &scales, &x);
        assert_close("y", &got, &want, 1e-5);
        dequantize_int8(&mut rounded, &q, &scales, k);
        reference::gemv(&mut want, &rounded, &x);
        assert_close("y from dequantized weights", &got, &want, 1e-5);
        assert_close("rounding of weights", &rounded, &w, 0.5 / 127.0 * 1.001);
    }
}

#[test]
fn gemm_crosses_every_block_boundary() {
    // Depth over KC, rows over MC, columns over NC, each with a remainder.
    for (seed, shape) in [
        (1, [7, 517, 19]),
        (2, [247, 30, 33]),
        (3, [5, 9, 2061]),
        (4, [125, 260, 111]),
    ] {
        for transposed in [[false, false], [false, true], [true, false], [true, true]] {
            check_gemm(seed, shape, transposed, Store::Overwrite);
            check_gemm(seed, shape, transposed, Store::Accumulate);
        }
    }
}

#[test]
fn a_row_of_a_product_does_not_depend_on_the_other_rows() {
    let (m, k, n) = (61, 300, 130);
    let mut random = Random(5);
    let (a, w) = (random.values(m * k), random.values(n * k));
    let w = MatRef::new(&w, n, k).t();
    let mut whole = poison(m * n);
    gemm(
        MatMut::new(&mut whole, m, n),
        MatRef::new(&a, m, k),
        w,
        Store::Overwrite,
    );
    for i in 0..m {
        let mut alone = poison(n);
        let row = MatRef::new(&a[i * k..][..k], 1, k);
        gemm(MatMut::new(&mut alone, 1, n), row, w, Store::Overwrite);
        assert_same_bits("row", &alone, &whole[i * n..][..n]);
    }
}

#[test]
fn packing_again_reuses_the_matrix_for_another_shape() {
    let mut random = Random(6);
    let (b, c) = (random.values(30 * 40), random.values(7 * 50));
    let mut packed = PackedMatrix::new(MatRef::new(&b, 30, 40));
    packed.repack(MatRef::new(&c, 7, 50));
    assert_eq!((packed.k(), packed.n()), (7, 50));
    let a = random.values(7);
    let (mut got, mut want) = (poison(50), poison(50));
    gemm_packed(
        MatMut::new(&mut got, 1, 50),
        MatRef::new(&a, 1, 7),
        &packed,
        Store::Overwrite,
    );
    let c = MatRef::new(&c, 7, 50);
    reference::gemm(
        MatMut::new(&mut want, 1, 50),
        MatRef::new(&a, 1, 7),
        c,
        Store::Overwrite,
    );
    assert_close("C", &got, &want, 1e-5);
}

#[test]
fn wrong_shapes_are_named() {
    let x = [0.0; 12];
    let panic = std::panic::catch_unwind(|| {
        let mut c = [0.0; 4];
        let (a, b) = (MatRef::new(&x, 2, 3), MatRef::new(&x, 4, 2));
        gemm(MatMut::new(&mut c, 2, 2), a, b, Store::Overwrite);
    });
    let payload = panic.expect_err("shapes disagree");
    let message = payload.downcast_ref::<String>().expect("a message");
    assert!(message.contains("C 2x2 from A 2x3 and B 4x2"), "{message}");
}
