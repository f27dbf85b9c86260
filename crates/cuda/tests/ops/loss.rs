//! The loss of a softmax classifier, and sums of squares.

use cwm_cuda::ops::{SUM_PARTIAL_LEN, cross_entropy, sum_of_squares};
use cwm_kernels::reference;

use super::*;

/// Loss and gradient of these logits on the device: losses, correct and gradients.
fn on_device(
    gpu: &Gpu,
    logits: &[f32],
    ids: &[u32],
    weights: &[f32],
    scale: f32,
) -> (Vec<f32>, Vec<u32>, Vec<f32>) {
    let rows = ids.len();
    let mut d_logits = half_poison(gpu, logits.len());
    let mut losses = poison(gpu, rows);
    let mut correct = gpu.upload(&vec![7; rows]).unwrap();
    cross_entropy(
        &mut d_logits,
        &mut losses,
        &mut correct,
        &gpu.upload(logits).unwrap(),
        &gpu.upload(ids).unwrap(),
        &gpu.upload(weights).unwrap(),
        scale,
        rows,
        logits.len() / rows,
    )
    .unwrap();
    (
        floats(&losses),
        correct.read(rows).unwrap(),
        half_floats(&d_logits),
    )
}

#[test]
fn losses_and_gradients_are_those_of_the_definition() {
    let Some(gpu) = open() else { return };
    for (rows, vocab) in [
        (1, 2),
        (3, 7),
        (37, 40),
        (5, 735),
        (3, 1000),
        (2, 20_008),
        (1, 128_256),
    ] {
        // Up to 20 apart, and some equal.
        let mut logits: Vec<f32> = noise(rows * vocab, 1).iter().map(|x| 10.0 * x).collect();
        let mut ids: Vec<u32> = (0..rows).map(|row| (row * 31 % vocab) as u32).collect();
        for (row, logits) in logits.chunks_mut(vocab).enumerate() {
            if row % 3 == 1 {
                // The target is the first of the largest, or the second.
                logits[vocab - 1] = 11.0;
                logits[vocab / 2] = 11.0;
                ids[row] = if row % 2 == 0 { vocab - 1 } else { vocab / 2 } as u32;
            }
        }
        let weights: Vec<f32> = (0..rows).map(|row| [1.0, 0.5, 0.0][row % 3]).collect();
        // The target of a row without weight may be anything.
        for (id, &weight) in ids.iter_mut().zip(&weights) {
            if weight == 0.0 {
                *id = u32::MAX;
            }
        }
        let scale = 0.25;
        let (losses, correct, found) = on_device(&gpu, &logits, &ids, &weights, scale);
        for row in 0..rows {
            let what = format!("row {row} of {rows} x {vocab}");
            let mut expected = logits[row * vocab..][..vocab].to_vec();
            let (id, weight) = (&ids[row..=row], &weights[row..=row]);
            let result = reference::cross_entropy(&mut expected, id, weight, scale);
            // The logarithm of a sum of up to 128,256 terms in f32, beside logits of up to 11.
            assert_close(&what, &[losses[row]], &[result.loss_sum as f32], F32, F32);
            assert_eq!(correct[row] as usize, result.correct, "{what}");
            let found = &found[row * vocab..][..vocab];
            // Where the target's probability is near 1, its gradient is the error of f32 near 1.
            assert_close(&what, found, &expected, BF16, 1e-6);
        }
    }
}

#[test]
fn a_target_outside_the_vocabulary_gives_a_loss_of_nan() {
    let Some(gpu) = open() else { return };
    let (losses, correct, d_logits) = on_device(&gpu, &[1.0; 16], &[3, 8], &[1.0, 1.0], 1.0);
    assert!(losses[0].is_finite() && losses[1].is_nan());
    assert_eq!((correct, &d_logits[8..]), (vec![0, 0], &[0.0; 8][..]));
}

#[test]
fn sums_of_squares_are_in_double_precision() {
    let Some(gpu) = open() else { return };
    let x = noise(300_000, 2);
    let device_x = gpu.upload(&x).unwrap();
    let mut partial = gpu.upload(&vec![f64::NAN; SUM_PARTIAL_LEN]).unwrap();
    let mut sums = gpu.upload(&[f64::NAN; 3]).unwrap();
    for range in [0..300_000, 8..264, 3..40, 5..5, 7..8, 1..299_999] {
        sum_of_squares(&mut sums, 1, &device_x, range.clone(), &mut partial).unwrap();
        let found = sums.read(3).unwrap();
        let expected = reference::sum_of_squares(&x[range.clone()]);
        // f64 loses less than 2⁻⁵³ in each of 300,000 sums.
        let is_close = (found[1] - expected).abs() <= 1e-11 * expected;
        assert!(is_close, "{range:?}: {} instead of {expected}", found[1]);
        assert!(found[0].is_nan() && found[2].is_nan());
    }
}
