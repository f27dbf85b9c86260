//! Updates of parameters.

use cwm_cuda::ops::{AdamWPart, Ema, MuonPart, MuonScratch, MuonSettings, adamw, muon};
use cwm_kernels::{AdamW, MatMut, MatRef, Store, reference};

use super::*;

const DECAY: f32 = 0.9;

/// What a mean of the parameters becomes.
fn moved(mean: f32, param: f32) -> f32 {
    mean + (1.0 - DECAY) * (param - mean)
}

#[test]
fn adamw_has_the_bits_of_the_definition() {
    let Some(gpu) = open() else { return };
    let settings = AdamW {
        lr: 3e-3,
        beta1: 0.9,
        beta2: 0.95,
        eps: 1e-8,
        weight_decay: 0.1,
    };
    // Where the part begins in each buffer, and how long it is.
    let parts = [
        (0, 0, 0, 0, 264),
        (8, 16, 0, 24, 96),
        (3, 8, 1, 0, 37),
        (8, 0, 8, 8, 1),
    ];
    for (start, first, second, ema, len) in parts {
        let part = AdamWPart {
            params: start..start + len,
            first,
            second,
            ema,
        };
        let mut params = noise(start + len + 5, 1);
        let grads = noise(start + len + 5, 2);
        let mut moments = (noise(first + len, 3), noise(second + len, 4));
        moments.1.iter_mut().for_each(|v| *v = v.abs());
        let mut mean = noise(ema + len, 5);
        let mut device_params = gpu.upload(&params).unwrap();
        let mut device_first = gpu.upload(&moments.0).unwrap();
        let mut device_second = gpu.upload(&moments.1).unwrap();
        let mut device_mean = gpu.upload(&mean).unwrap();
        let mut copy = gpu.upload(&halves(&params)).unwrap();
        for (step, with_mean) in [(1, true), (2, false)] {
            let ema = with_mean.then_some(Ema {
                values: &mut device_mean,
                decay: DECAY,
            });
            adamw(
                &mut device_params,
                &mut device_first,
                &mut device_second,
                &gpu.upload(&grads).unwrap(),
                &mut copy,
                ema,
                &part,
                &settings,
                step,
                0.5,
            )
            .unwrap();
            let range = part.params.clone();
            reference::adamw(
                &mut params[range.clone()],
                &mut moments.0[first..],
                &mut moments.1[second..],
                &grads[range.clone()],
                &settings,
                step,
                0.5,
            );
            if with_mean {
                let pairs = mean[part.ema..].iter_mut().zip(&params[range]);
                pairs.for_each(|(mean, &param)| *mean = moved(*mean, param));
            }
        }
        assert_eq!(floats(&device_params), params, "{part:?}");
        assert_eq!(floats(&device_first), moments.0, "{part:?}");
        assert_eq!(floats(&device_second), moments.1, "{part:?}");
        assert_eq!(floats(&device_mean), mean, "{part:?}");
        assert_eq!(half_floats(&copy), widen(&halves(&params)), "{part:?}");
    }
}

/// The rule of `cwm-train`, with operands of products rounded to bf16: what the matrix becomes.
fn muon_reference(
    params: &mut [f32],
    momentum: &mut [f32],
    grads: &[f32],
    (rows, cols): (usize, usize),
    settings: &MuonSettings,
) {
    let rounded = |x: &[f32]| widen(&halves(x));
    let mut update = Vec::new();
    for (m, &g) in momentum.iter_mut().zip(grads) {
        let g = g * settings.grad_scale;
        *m += 0.05 * (g - *m);
        update.push(g + 0.95 * (*m - g));
    }
    let norm = reference::sum_of_squares(&update).sqrt() as f32 + 1e-7;
    let mut x: Vec<f32> = update.iter().map(|u| u / norm).collect();
    let n = rows.min(cols);
    for _ in 0..5 {
        let operand = rounded(&x);
        let matrix = MatRef::new(&operand, rows, cols);
        let (left, right) = if rows <= cols {
            (matrix, matrix.t())
        } else {
            (matrix.t(), matrix)
        };
        let mut gram = vec![0.0; n * n];
        reference::gemm(MatMut::new(&mut gram, n, n), left, right, Store::Overwrite);
        let gram_operand = rounded(&gram);
        let g = MatRef::new(&gram_operand, n, n);
        let mut polynomial = vec![0.0; n * n];
        reference::gemm(MatMut::new(&mut polynomial, n, n), g, g, Store::Overwrite);
        for (at, (p, &g)) in polynomial.iter_mut().zip(&gram).enumerate() {
            let identity = if at / n == at % n { 3.4445 } else { 0.0 };
            *p = identity - 4.7750 * g + 2.0315 * *p;
        }
        let polynomial = rounded(&polynomial);
        let p = MatRef::new(&polynomial, n, n);
        let (left, right) = if rows <= cols {
            (p, matrix)
        } else {
            (matrix, p)
        };
        let to = MatMut::new(&mut x, rows, cols);
        reference::gemm(to, left, right, Store::Overwrite);
    }
    let rate = settings.lr * (rows as f32 / cols as f32).max(1.0).sqrt();
    for (p, u) in params.iter_mut().zip(&x) {
        *p = *p * (1.0 - settings.lr * settings.weight_decay) - rate * u;
    }
}

#[test]
fn muon_orthogonalises_the_update() {
    let Some(gpu) = open() else { return };
    let settings = MuonSettings {
        lr: 0.02,
        weight_decay: 0.1,
        grad_scale: 0.5,
    };
    let shapes = [
        (16, 16),
        (8, 40),
        (40, 8),
        (24, 104),
        (7, 33),
        (33, 7),
        (1, 5),
    ];
    let mut scratch = MuonScratch::new(&gpu, shapes.into_iter()).unwrap();
    for (rows, cols) in shapes {
        let (start, len) = (8, rows * cols);
        let part = MuonPart {
            params: start..start + len,
            rows,
            cols,
            momentum: 16,
            ema: 0,
        };
        let what = format!("{rows} x {cols}");
        let mut params = noise(start + len + 1, 1);
        let grads = noise(start + len + 1, 2);
        let mut momentum = noise(16 + len, 3);
        let mut mean = noise(len, 4);
        let mut device_params = gpu.upload(&params).unwrap();
        let mut device_momentum = gpu.upload(&momentum).unwrap();
        let mut device_mean = gpu.upload(&mean).unwrap();
        let mut copy = gpu.upload(&halves(&params)).unwrap();
        muon(
            &mut device_params,
            &mut device_momentum,
            &gpu.upload(&grads).unwrap(),
            &mut copy,
            Some(Ema {
                values: &mut device_mean,
                decay: DECAY,
            }),
            &part,
            &settings,
            &mut scratch,
        )
        .unwrap();
        let range = part.params.clone();
        muon_reference(
            &mut params[range.clone()],
            &mut momentum[16..],
            &grads[range.clone()],
            (rows, cols),
            &settings,
        );
        let found = floats(&device_params);
        let step = settings.lr * (rows as f32 / cols as f32).max(1.0).sqrt();
        // Sums in another order may round an operand to the neighbouring bf16, 2⁻⁸ away; five iterations
        // with a slope of up to 3.4 at small singular values, which are a part of each entry.
        assert_close(&what, &found, &params, 1e-6, step * 0.02);
        let moments = floats(&device_momentum);
        assert_close(&what, &moments, &momentum, 1e-6, 1e-7);
        assert_eq!(half_floats(&copy), widen(&halves(&found)), "{what}");
        mean.iter_mut()
            .zip(&found[range])
            .for_each(|(mean, &param)| *mean = moved(*mean, param));
        assert_close(&what, &floats(&device_mean), &mean, 1e-6, 0.0);
    }
}
