//! Elementwise operations, normalisations and losses against the reference, at lengths that leave
//! every possible remainder, and in the extremes of their domains.

mod common;

use common::{Random, assert_close, poison};
use cwm_kernels::{AdamW, Direction, RopeTable, reference};
use proptest::prelude::*;

fn scaled(random: &mut Random, len: usize, by: f32) -> Vec<f32> {
    random.values(len).into_iter().map(|x| x * by).collect()
}

proptest! {
    #[test]
    fn rms_norm_and_its_gradients(seed: u64, rows in 0usize..5, d in 1usize..70) {
        let mut random = Random(seed);
        let (x, dout) = (scaled(&mut random, rows * d, 3.0), random.values(rows * d));
        let w = random.values(d);
        let (mut got, mut want) = (poison(rows * d), poison(rows * d));
        cwm_kernels::rms_norm(&mut got, &x, &w, 1e-5);
        reference::rms_norm(&mut want, &x, &w, 1e-5);
        assert_close("out", &got, &want, 1e-5);

        let (mut dx, mut dw) = (random.values(rows * d), random.values(d));
        let (mut want_dx, mut want_dw) = (dx.clone(), dw.clone());
        cwm_kernels::rms_norm_backward(&mut dx, &mut dw, &dout, &x, &w, 1e-5);
        reference::rms_norm_backward(&mut want_dx, &mut want_dw, &dout, &x, &w, 1e-5);
        assert_close("dx", &dx, &want_dx, 1e-4);
        assert_close("dw", &dw, &want_dw, 1e-4);
    }

    #[test]
    fn swiglu_and_its_gradients(seed: u64, len in 0usize..70, size in 0.1f32..60.0) {
        let mut random = Random(seed);
        let gate = scaled(&mut random, len, size);
        let (up, dout) = (random.values(len), random.values(len));
        let (mut got, mut want) = (poison(len), poison(len));
        cwm_kernels::swiglu(&mut got, &gate, &up);
        reference::swiglu(&mut want, &gate, &up);
        assert_close("out", &got, &want, 1e-6);

        let (mut dgate, mut dup) = (poison(len), poison(len));
        let (mut want_dgate, mut want_dup) = (poison(len), poison(len));
        cwm_kernels::swiglu_backward(&mut dgate, &mut dup, &dout, &gate, &up);
        reference::swiglu_backward(&mut want_dgate, &mut want_dup, &dout, &gate, &up);
        assert_close("dgate", &dgate, &want_dgate, 1e-5);
        assert_close("dup", &dup, &want_dup, 1e-6);
    }

    #[test]
    fn rope_matches_and_turns_back(seed: u64, t in 0usize..5, n_heads in 1usize..4, half in 1usize..40) {
        let mut random = Random(seed);
        let inv_freq: Vec<f32> = (0..half).map(|j| 1e4f32.powf(-(j as f32) / half as f32)).collect();
        let table = RopeTable::new(&inv_freq, 600);
        let positions: Vec<u32> = (0..t).map(|_| random.below(600) as u32).collect();
        let x = random.values(t * n_heads * 2 * half);
        for direction in [Direction::Forward, Direction::Backward] {
            let (mut got, mut want) = (x.clone(), x.clone());
            cwm_kernels::rope(&mut got, n_heads, 2 * half, &positions, &table, direction);
            reference::rope(&mut want, n_heads, 2 * half, &positions, &table, direction);
            assert_close("x", &got, &want, 1e-6);
        }
        let mut there_and_back = x.clone();
        for direction in [Direction::Forward, Direction::Backward] {
            cwm_kernels::rope(&mut there_and_back, n_heads, 2 * half, &positions, &table, direction);
        }
        assert_close("there and back", &there_and_back, &x, 1e-6);
    }

    #[test]
    fn softmax_matches(seed: u64, len in 0usize..70, size in 0.1f32..80.0) {
        let mut got = scaled(&mut Random(seed), len, size);
        let mut want = got.clone();
        cwm_kernels::softmax(&mut got);
        reference::softmax(&mut want);
        assert_close("p", &got, &want, 1e-6);
    }

    #[test]
    fn cross_entropy_matches(seed: u64, rows in 0usize..6, v in 1usize..70, size in 0.1f32..40.0) {
        let mut random = Random(seed);
        let mut got = scaled(&mut random, rows * v, size);
        let targets: Vec<u32> = (0..rows).map(|_| random.below(v) as u32).collect();
        let weights: Vec<f32> = (0..rows).map(|_| random.below(3) as f32 * 0.7).collect();
        let mut want = got.clone();
        let found = cwm_kernels::cross_entropy(&mut got, &targets, &weights, 0.3);
        let wanted = reference::cross_entropy(&mut want, &targets, &weights, 0.3);
        assert_close("dlogits", &got, &want, 1e-6);
        prop_assert_eq!(found.correct, wanted.correct);
        let error = (found.loss_sum - wanted.loss_sum).abs();
        prop_assert!(error <= 1e-5 * wanted.loss_sum.abs().max(1.0), "{found:?} {wanted:?}");
    }

    #[test]
    fn adamw_matches(seed: u64, len in 0usize..40, step in 1u32..2000) {
        let mut random = Random(seed);
        let settings = AdamW { lr: 3e-4, beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1 };
        let mut got = [random.values(len), random.values(len), random.values(len)];
        got[2].iter_mut().for_each(|v| *v = v.abs());
        let grads = random.values(len);
        let mut want = got.clone();
        let [p, m, v] = &mut got;
        cwm_kernels::adamw(p, m, v, &grads, &settings, step, 0.5);
        let [p, m, v] = &mut want;
        reference::adamw(p, m, v, &grads, &settings, step, 0.5);
        for (got, want) in got.iter().zip(&want) {
            assert_close("state", got, want, 1e-6);
        }
    }

    #[test]
    fn simple_reductions_match(seed: u64, len in 0usize..1200) {
        let mut random = Random(seed);
        let (a, b) = (random.values(len), random.values(len));
        assert_close("dot", &[cwm_kernels::dot(&a, &b)], &[reference::dot(&a, &b)], 1e-4);
        let (got, want) = (cwm_kernels::sum_of_squares(&a), reference::sum_of_squares(&a));
        prop_assert!((got - want).abs() <= 1e-5 * want.max(1.0));
        let (mut got, mut want) = (a.clone(), a.clone());
        cwm_kernels::add(&mut got, &b);
        reference::add(&mut want, &b);
        assert_close("add", &got, &want, 0.0);
        cwm_kernels::scale(&mut got, 0.37);
        reference::scale(&mut want, 0.37);
        assert_close("scale", &got, &want, 0.0);
    }
}

#[test]
fn masked_logits_get_no_probability_at_all() {
    let mut x = vec![0.5; 19];
    for i in [0, 7, 8, 18] {
        x[i] = f32::NEG_INFINITY;
    }
    cwm_kernels::softmax(&mut x);
    assert_eq!(x.iter().filter(|&&p| p == 0.0).count(), 4);
    assert_close("p", &[x[1]], &[1.0 / 15.0], 1e-6);
}

#[test]
fn extreme_gates_stay_finite_and_nan_is_not_hidden() {
    let gate = [1e4, -1e4, 90.0, -90.0, 0.0, f32::NAN, 1.0, -1.0, f32::MAX];
    let mut out = poison(gate.len());
    cwm_kernels::swiglu(&mut out, &gate, &[1.0; 9]);
    assert_close("saturated", &out[..5], &[1e4, 0.0, 90.0, 0.0, 0.0], 1e-6);
    assert!(out[5].is_nan() && out[8] == f32::MAX, "{out:?}");
}

#[test]
fn the_first_adamw_step_is_the_sign_of_the_gradient_and_decay() {
    // After one step the bias-corrected moments are g and g², so the update is
    // lr * g / (|g| + eps) on top of the decay p * (1 - lr * weight_decay).
    let settings = AdamW {
        lr: 0.01,
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        weight_decay: 0.1,
    };
    let (mut p, mut m, mut v) = ([1.0, -2.0], [0.0; 2], [0.0; 2]);
    cwm_kernels::adamw(&mut p, &mut m, &mut v, &[0.3, -4.0], &settings, 1, 1.0);
    assert_close("p", &p, &[0.999 - 0.01, -2.0 * 0.999 + 0.01], 1e-6);
}

#[test]
fn weightless_rows_are_skipped_whatever_their_target() {
    let mut logits = vec![1.0, 2.0, 3.0, 9.0, 0.0, 0.0];
    let found = cwm_kernels::cross_entropy(&mut logits, &[u32::MAX, 0], &[0.0, 1.0], 1.0);
    assert_eq!(logits[..3], [0.0; 3]);
    assert_eq!(found.correct, 1);
}
