//! Muon: momentum whose update is replaced by the nearest (semi-)orthogonal matrix.
//!
//! Keller Jordan's rule (kellerjordan.github.io/posts/muon): Nesterov momentum, then five steps of
//! a quintic Newton-Schulz iteration, which drives every singular value of the update to about 1
//! (0.7 to 1.2, deliberately not closer: the coefficients trade accuracy for speed near zero).
//! All directions of a matrix then learn at the same pace.

use cwm_kernels::{MatMut, MatRef, Precision, Store, gemm, sum_of_squares};

const MOMENTUM: f32 = 0.95;
const ITERATIONS: usize = 5;
/// Coefficients of x, x³ and x⁵: steepest at zero while keeping the fixed region near 1.
const COEFFICIENTS: [f32; 3] = [3.4445, -4.7750, 2.0315];

/// Settings of one update.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MuonStep {
    pub(crate) lr: f32,
    pub(crate) weight_decay: f32,
    /// Applied to the gradient first (clipping).
    pub(crate) grad_scale: f32,
    /// What the products of the iteration may run in.
    pub(crate) precision: Precision,
}

/// Buffers reused between matrices.
#[derive(Debug, Default)]
pub(crate) struct MuonScratch {
    update: Vec<f32>,
    gram: Vec<f32>,
    polynomial: Vec<f32>,
    product: Vec<f32>,
}

/// Updates the matrix `params` [rows, cols] and its `momentum` from `grads`.
pub(crate) fn muon(
    params: &mut [f32],
    momentum: &mut [f32],
    grads: &[f32],
    (rows, cols): (usize, usize),
    step: &MuonStep,
    scratch: &mut MuonScratch,
) {
    let mut update = std::mem::take(&mut scratch.update);
    update.clear();
    update.extend(momentum.iter_mut().zip(grads).map(|(m, &g)| {
        let g = g * step.grad_scale;
        *m += (1.0 - MOMENTUM) * (g - *m);
        g + MOMENTUM * (*m - g)
    }));
    orthogonalize(&mut update, (rows, cols), step.precision, scratch);

    // Tall matrices get a larger step, so that the update's effect on the output does not depend
    // on the shape.
    let rate = step.lr * (rows as f32 / cols as f32).max(1.0).sqrt();
    let keep = 1.0 - step.lr * step.weight_decay;
    for (p, &u) in params.iter_mut().zip(&update) {
        *p = *p * keep - rate * u;
    }
    scratch.update = update;
}

/// Replaces `x` [rows, cols] by about U·Vᵀ of its singular value decomposition U·S·Vᵀ.
///
/// Products may run in `precision`: the published rule runs in bf16.
pub(crate) fn orthogonalize(
    x: &mut Vec<f32>,
    (rows, cols): (usize, usize),
    precision: Precision,
    scratch: &mut MuonScratch,
) {
    let norm = sum_of_squares(x).sqrt() as f32 + 1e-7;
    cwm_kernels::scale(x, 1.0 / norm);

    // The Gram matrix is taken over the shorter side, where it costs least.
    let n = rows.min(cols);
    let wide = rows <= cols;
    let MuonScratch {
        gram,
        polynomial,
        product,
        ..
    } = scratch;
    gram.resize(n * n, 0.0);
    polynomial.resize(n * n, 0.0);
    product.resize(x.len(), 0.0);
    let [a, b, c] = COEFFICIENTS;
    for _ in 0..ITERATIONS {
        let matrix = MatRef::new(x, rows, cols);
        let (left, right) = if wide {
            (matrix, matrix.t())
        } else {
            (matrix.t(), matrix)
        };
        gemm(
            MatMut::new(gram, n, n),
            left,
            right,
            Store::Overwrite,
            precision,
        );
        let g = MatRef::new(gram, n, n);
        gemm(
            MatMut::new(polynomial, n, n),
            g,
            g,
            Store::Overwrite,
            precision,
        );
        for (p, &g) in polynomial.iter_mut().zip(gram.iter()) {
            *p = b * g + c * *p;
        }
        // a·X + (b·G + c·G²)·X as one product.
        polynomial
            .iter_mut()
            .step_by(n + 1)
            .for_each(|diagonal| *diagonal += a);
        let p = MatRef::new(polynomial, n, n);
        let (left, right) = if wide { (p, matrix) } else { (matrix, p) };
        gemm(
            MatMut::new(product, rows, cols),
            left,
            right,
            Store::Overwrite,
            precision,
        );
        std::mem::swap(x, product);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers in -1..1 from a linear congruential generator.
    fn noise(n: usize, mut seed: u64) -> Vec<f32> {
        let mut next = || {
            seed = seed
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (seed >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        };
        (0..n).map(|_| next()).collect()
    }

    fn norm(x: &[f64]) -> f64 {
        x.iter().map(|v| v * v).sum::<f64>().sqrt()
    }

    /// |Xᵀ·v| / |v| for X [rows, cols] over the shorter side: a mean of singular values.
    fn stretch(x: &[f32], rows: usize, cols: usize, v: &[f64]) -> f64 {
        let at = |i: usize, j: usize| f64::from(x[i * cols + j]);
        let out: Vec<f64> = if rows <= cols {
            (0..cols)
                .map(|j| (0..rows).map(|i| at(i, j) * v[i]).sum())
                .collect()
        } else {
            (0..rows)
                .map(|i| (0..cols).map(|j| at(i, j) * v[j]).sum())
                .collect()
        };
        norm(&out) / norm(v)
    }

    #[test]
    fn updates_of_random_matrices_are_nearly_orthogonal() {
        for (rows, cols) in [(24, 24), (16, 48), (48, 16), (7, 33), (1, 5)] {
            let mut x = noise(rows * cols, 5);
            let before = x.clone();
            orthogonalize(
                &mut x,
                (rows, cols),
                Precision::Bf16,
                &mut MuonScratch::default(),
            );
            for seed in 0..20 {
                let v: Vec<f64> = noise(rows.min(cols), 100 + seed)
                    .iter()
                    .map(|&v| v.into())
                    .collect();
                let s = stretch(&x, rows, cols, &v);
                assert!(
                    (0.6..1.3).contains(&s),
                    "{rows}x{cols}: singular value near {s}"
                );
            }
            // U·Vᵀ keeps the direction: <X, U·Vᵀ> is the sum of the singular values, not below |X|.
            let inner: f64 = before
                .iter()
                .zip(&x)
                .map(|(&a, &b)| f64::from(a) * f64::from(b))
                .sum();
            let size = sum_of_squares(&before).sqrt();
            assert!(inner > 0.65 * size, "{rows}x{cols}: {inner} against {size}");
        }
    }

    #[test]
    fn the_iteration_matches_a_plain_double_precision_one() {
        let (rows, cols) = (5, 9);
        let mut x = noise(rows * cols, 9);
        let mut reference: Vec<f64> = x.iter().map(|&v| v.into()).collect();
        let size = norm(&reference);
        reference.iter_mut().for_each(|v| *v /= size);
        let product = |a: &[f64], b: &[f64], m: usize, k: usize, n: usize| -> Vec<f64> {
            let cell = |i: usize, j: usize| (0..k).map(|l| a[i * k + l] * b[l * n + j]).sum();
            (0..m * n).map(|at| cell(at / n, at % n)).collect()
        };
        let [a, b, c] = COEFFICIENTS.map(f64::from);
        for _ in 0..ITERATIONS {
            let transposed: Vec<f64> = (0..rows * cols)
                .map(|at| reference[(at % rows) * cols + at / rows])
                .collect();
            let gram = product(&reference, &transposed, rows, cols, rows);
            let first = product(&gram, &reference, rows, rows, cols);
            let second = product(&gram, &first, rows, rows, cols);
            for (at, value) in reference.iter_mut().enumerate() {
                *value = a * *value + b * first[at] + c * second[at];
            }
        }
        orthogonalize(
            &mut x,
            (rows, cols),
            Precision::Bf16,
            &mut MuonScratch::default(),
        );
        for (got, want) in x.iter().zip(&reference) {
            // bf16 tiles are allowed for the products, hence the loose bound.
            assert!(
                (f64::from(*got) - want).abs() < 0.03,
                "{got} against {want}"
            );
        }
    }

    #[test]
    fn a_step_decays_and_moves_against_the_gradient() {
        let (rows, cols) = (8, 2);
        let mut params = vec![1.0; 16];
        let mut momentum = vec![0.0; 16];
        let grads = noise(16, 3);
        let step = MuonStep {
            lr: 0.1,
            weight_decay: 0.5,
            grad_scale: 1.0,
            precision: Precision::Bf16,
        };
        muon(
            &mut params,
            &mut momentum,
            &grads,
            (rows, cols),
            &step,
            &mut MuonScratch::default(),
        );
        let moved: Vec<f32> = params.iter().map(|p| p - 0.95).collect();
        let along: f32 = moved.iter().zip(&grads).map(|(m, g)| m * g).sum();
        assert!(along < 0.0);
        // Two singular values of about 1, times lr, times sqrt(8 / 2).
        let size = sum_of_squares(&moved).sqrt();
        assert!(
            (0.2 * 0.7 * 1.41..0.2 * 1.25 * 1.42).contains(&size),
            "{size}"
        );
    }
}
