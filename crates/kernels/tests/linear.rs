//! Packed products: against a plain sum over the unpacked weights, and bit for bit against
//! themselves in other company.

mod common;

use std::ops::Range;

use common::Random;
use cwm_kernels::{Linear, LinearScratch, PACKED_VERSION, Pool, Store, WeightFormat};

fn packed(format: WeightFormat, n: usize, k: usize, random: &mut Random) -> Linear {
    Linear::pack(format, n, k, &Pool::new(2), |_, row| {
        row.copy_from_slice(&random.values(k))
    })
}

fn apply(linear: &Linear, x: &[f32], pool: &Pool) -> Vec<f32> {
    let mut y = vec![f32::NAN; x.len() / linear.k() * linear.n()];
    linear.apply(
        &mut y,
        x,
        Store::Overwrite,
        pool,
        &mut LinearScratch::default(),
    );
    y
}

/// Largest share of an input that rounding it for this format may lose, relative to the largest
/// input of the row.
fn input_error(format: WeightFormat) -> f32 {
    match format {
        WeightFormat::F32 => 0.0,
        WeightFormat::Bf16 => 1.0 / 256.0,
        _ => 0.5 / 127.0,
    }
}

#[test]
fn products_are_sums_over_the_unpacked_weights() {
    let mut random = Random(1);
    let pool = Pool::new(2);
    for format in WeightFormat::ALL {
        for [m, n, k] in [
            [1, 64, 32],
            [1, 1, 1],
            [3, 65, 130],
            [7, 200, 31],
            [13, 63, 128],
            [100, 130, 257],
        ] {
            let linear = packed(format, n, k, &mut random);
            let x = random.values(m * k);
            let got = apply(&linear, &x, &pool);
            let mut w = vec![0.0; k];
            for j in 0..n {
                linear.row(j, &mut w);
                for i in 0..m {
                    let x = &x[i * k..][..k];
                    let want: f64 = x
                        .iter()
                        .zip(&w)
                        .map(|(&x, &w)| f64::from(x) * f64::from(w))
                        .sum();
                    let size: f32 = w.iter().map(|w| w.abs()).sum();
                    let bound = size * (input_error(format) + 1e-6) + 1e-6;
                    let error = (f64::from(got[i * n + j]) - want).abs() as f32;
                    assert!(
                        error <= bound,
                        "{format} {m}x{n}x{k} at ({i}, {j}): {error} > {bound}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_row_is_the_same_in_any_company_and_on_any_number_of_threads() {
    let mut random = Random(2);
    let (solo, three) = (Pool::solo(), Pool::new(3));
    for format in WeightFormat::ALL {
        let (n, k, m) = (150, 161, 203);
        let linear = packed(format, n, k, &mut random);
        let x = random.values(m * k);
        let alone: Vec<f32> = x
            .chunks_exact(k)
            .flat_map(|x| apply(&linear, x, &solo))
            .collect();
        for rows in [2, 5, 6, 8, 96, 97, m] {
            for pool in [&solo, &three] {
                let together = apply(&linear, &x[..rows * k], pool);
                assert!(together == alone[..rows * n], "{format}: {rows} rows");
            }
        }
    }
}

#[test]
fn adding_is_adding_to_what_is_there() {
    let mut random = Random(3);
    for format in WeightFormat::ALL {
        let (n, k) = (70, 40);
        let linear = packed(format, n, k, &mut random);
        for m in [1, 4] {
            let (x, before) = (random.values(m * k), random.values(m * n));
            let mut y = before.clone();
            linear.apply(
                &mut y,
                &x,
                Store::Accumulate,
                &Pool::solo(),
                &mut LinearScratch::default(),
            );
            let product = apply(&linear, &x, &Pool::solo());
            let want: Vec<f32> = before.iter().zip(product).map(|(a, b)| a + b).collect();
            assert_eq!(y, want, "{format}, {m} rows");
        }
    }
}

#[test]
fn wanted_outputs_are_those_of_the_whole_product_and_the_rest_is_left_alone() {
    let mut random = Random(5);
    for format in WeightFormat::ALL {
        let (n, k) = (200, 40);
        let linear = packed(format, n, k, &mut random);
        for (m, pool) in [(1, Pool::solo()), (7, Pool::new(3))] {
            let x = random.values(m * k);
            let whole = apply(&linear, &x, &pool);
            for wanted in [vec![], vec![0], vec![70, 199], vec![63, 64, 130]] {
                let mut y = vec![-7.0; m * n];
                let has_any = |outputs: Range<usize>| wanted.iter().any(|at| outputs.contains(at));
                linear.apply_where(&mut y, &x, has_any, &pool, &mut LinearScratch::default());
                for (at, &got) in y.iter().enumerate() {
                    let (i, j) = (at / n, at % n);
                    let is_there = got == whole[at];
                    assert!(is_there || got == -7.0, "{format}: ({i}, {j})");
                    assert!(is_there || !wanted.contains(&j), "{format}: ({i}, {j})");
                }
                let left = y.iter().filter(|&&got| got == -7.0).count();
                assert!(
                    left >= m * n / 4 || wanted.len() == 3,
                    "{format}: {left} left"
                );
            }
        }
    }
}

#[test]
fn scratch_of_a_larger_product_does_not_reach_a_smaller_one() {
    let mut random = Random(4);
    let mut scratch = LinearScratch::default();
    let pool = Pool::solo();
    for format in WeightFormat::ALL {
        let large = packed(format, 64, 300, &mut random);
        let small = packed(format, 64, 33, &mut random);
        let (a, b) = (random.values(9 * 300), random.values(33));
        large.apply(
            &mut vec![0.0; 9 * 64],
            &a,
            Store::Overwrite,
            &pool,
            &mut scratch,
        );
        let mut y = vec![0.0; 64];
        small.apply(&mut y, &b, Store::Overwrite, &pool, &mut scratch);
        assert_eq!(y, apply(&small, &b, &pool), "{format}");
    }
}

/// The relative size of what a format may lose of the largest weight of a group.
fn weight_error(format: WeightFormat) -> f32 {
    match format {
        WeightFormat::F32 => 0.0,
        WeightFormat::Bf16 => 1.0 / 256.0,
        WeightFormat::Int8 => 0.51 / 127.0,
        WeightFormat::Int4Group32 | WeightFormat::Int4Group128 => 1.01 / 8.0,
    }
}

#[test]
fn packing_loses_what_the_format_says_and_nothing_the_second_time() {
    let mut random = Random(5);
    for format in WeightFormat::ALL {
        let (n, k) = (67, 130);
        let w: Vec<Vec<f32>> = (0..n).map(|_| random.values(k)).collect();
        let once = Linear::pack(format, n, k, &Pool::solo(), |i, row| {
            row.copy_from_slice(&w[i])
        });
        let twice = Linear::pack(format, n, k, &Pool::new(3), |i, row| once.row(i, row));
        let (mut a, mut b) = (vec![0.0; k], vec![0.0; k]);
        for (i, w) in w.iter().enumerate() {
            once.row(i, &mut a);
            twice.row(i, &mut b);
            assert_eq!(a, b, "{format}: row {i}");
            let lost = a
                .iter()
                .zip(w)
                .fold(0f32, |max, (a, w)| max.max((a - w).abs()));
            assert!(
                lost <= weight_error(format),
                "{format}: row {i} lost {lost}"
            );
        }
    }
}

#[test]
fn packed_bytes_make_the_matrix_again() {
    let mut random = Random(7);
    for format in WeightFormat::ALL {
        for [n, k] in [[1, 1], [65, 130], [64, 128]] {
            let linear = packed(format, n, k, &mut random);
            assert_eq!(linear.bytes().len(), format.packed_bytes(n, k));
            let read = Linear::from_packed(format, n, k, |bytes| {
                bytes.copy_from_slice(linear.bytes());
                Ok::<_, ()>(())
            });
            let x = random.values(3 * k);
            let products = [&linear, &read.expect("it was filled")]
                .map(|linear| apply(linear, &x, &Pool::solo()));
            assert_eq!(products[0], products[1], "{format} {n}x{k}");
        }
    }
    let refused = Linear::from_packed(WeightFormat::Int8, 3, 3, |_| Err("ended early"));
    assert_eq!(refused.map(|_| ()), Err("ended early"));
}

/// Files hold packed bytes. Where these sums change, so has the form, and its version has to.
#[test]
fn the_packed_forms_are_those_of_their_version() {
    let fnv = |bytes: &[u8]| {
        bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |sum, &byte| {
            (sum ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        })
    };
    let sums = WeightFormat::ALL.map(|format| {
        let linear = packed(format, 70, 200, &mut Random(8));
        (format.name(), fnv(linear.bytes()))
    });
    assert_eq!(PACKED_VERSION, 1);
    let known = [
        ("f32", 0x29ff_c8ee_079b_32dd),
        ("bf16", 0xae44_8c35_20d0_642d),
        ("int8", 0x181e_5c14_c41f_0fa5),
        ("int4-g32", 0x6d34_68a1_4b31_a558),
        ("int4-g128", 0x2ed9_eece_34c0_199e),
    ];
    assert_eq!(sums, known);
}
