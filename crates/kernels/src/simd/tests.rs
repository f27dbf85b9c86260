//! The vector units against plain definitions: exponentials, rounding and widening of every kind of
//! number; and NEON, which on most machines is a model, against the portable unit.

mod neon;

use std::cell::Cell;

use super::*;

thread_local! {
    /// What [`unit`] says on this thread instead of the truth.
    pub(super) static FORCED: Cell<Option<Unit>> = const { Cell::new(None) };
}

/// Runs something on a unit, if it stays on this thread.
fn with_unit<T>(unit: Unit, run: impl FnOnce() -> T) -> T {
    let before = FORCED.replace(Some(unit));
    let result = run();
    FORCED.set(before);
    result
}

/// Runs something on every unit that can be had here for sure.
fn on_units(run: impl Fn(Unit)) {
    for unit in [Unit::Portable, Unit::Neon, unit()] {
        with_unit(unit, || run(unit));
    }
}

/// Applies [`exp`] to a vector at a time.
#[inline(always)]
unsafe fn exp_all<S: Simd>(x: &mut [f32]) {
    for x in x.chunks_exact_mut(S::LANES) {
        // SAFETY: the chunk is one vector.
        unsafe { S::store(x.as_mut_ptr(), exp::<S>(S::load(x.as_ptr()))) }
    }
}

#[inline(always)]
unsafe fn round_trips<S: Simd>(x: &[f32], bf16: &mut [u16], back: &mut [f32]) {
    for at in (0..x.len()).step_by(S::LANES) {
        // SAFETY: the slices have the same length, a multiple of the lanes.
        unsafe {
            S::store_bf16(bf16[at..].as_mut_ptr(), S::load(x[at..].as_ptr()));
            S::store(back[at..].as_mut_ptr(), S::load_bf16(bf16[at..].as_ptr()));
        }
    }
}

#[inline(always)]
unsafe fn widen_halves<S: Simd>(halves: &[u16], wide: &mut [f32]) {
    for at in (0..halves.len()).step_by(S::LANES) {
        // SAFETY: the slices have the same length, a multiple of the lanes.
        unsafe { S::store(wide[at..].as_mut_ptr(), S::load_f16(halves[at..].as_ptr())) }
    }
}

/// Every 4,099th bit pattern, so that each sign, exponent and kind of fraction occurs.
fn patterns() -> Vec<f32> {
    let bits = (0..=u32::MAX).step_by(4_099);
    let mut x: Vec<f32> = bits.map(f32::from_bits).collect();
    x.truncate(x.len() / 16 * 16);
    x
}

#[test]
fn exp_is_right() {
    let inputs: Vec<f32> = (0..16_000).map(|i| i as f32 * 0.0125 - 110.0).collect();
    let want: Vec<f64> = inputs.iter().map(|&x| f64::from(x).exp()).collect();
    on_units(|unit| {
        let mut x = inputs.clone();
        // SAFETY: a multiple of any number of lanes.
        unsafe { on_unit!(exp_all(x: &mut [f32] = &mut x)) };
        for ((x, got), want) in inputs.iter().zip(&x).zip(&want) {
            if *x < -87.336_54 {
                assert_eq!(*got, 0.0, "exp({x}) on {unit:?}");
            } else if *x < 88.0 {
                let error = (f64::from(*got) - want).abs() / want;
                assert!(error < 3e-7, "exp({x}) = {got} on {unit:?}, wanted {want}");
            }
        }
    });
}

#[test]
fn bf16_rounds_to_nearest_even() {
    let x = patterns();
    on_units(|unit| {
        let (mut bf16, mut back) = (vec![0; x.len()], vec![0.0; x.len()]);
        // SAFETY: the same lengths, a multiple of any number of lanes.
        unsafe {
            on_unit!(round_trips(x: &[f32] = &x, bf16: &mut [u16] = &mut bf16, back: &mut [f32] = &mut back));
        }
        for ((x, bf16), back) in x.iter().zip(bf16).zip(back) {
            assert_eq!(bf16, to_bf16(*x), "{x:e} on {unit:?}");
            assert_eq!(
                back.to_bits(),
                from_bf16(bf16).to_bits(),
                "{x:e} on {unit:?}"
            );
        }
    });
}

#[test]
fn every_half_widens_exactly_and_comes_back() {
    let halves: Vec<u16> = (0..=u16::MAX).collect();
    on_units(|unit| {
        let mut wide = vec![0.0; halves.len()];
        // SAFETY: the same lengths, a multiple of any number of lanes.
        unsafe { on_unit!(widen_halves(halves: &[u16] = &halves, wide: &mut [f32] = &mut wide)) };
        for (&half, wide) in halves.iter().zip(wide) {
            if wide.is_nan() {
                assert!(from_f16(half).is_nan() && from_f16(to_f16(wide)).is_nan());
            } else {
                let want = from_f16(half).to_bits();
                assert_eq!(wide.to_bits(), want, "{half:#x} on {unit:?}");
                assert_eq!(to_f16(wide), half, "{wide:e}");
            }
        }
    });
}

#[test]
fn halves_round_to_nearest_even() {
    for (x, want) in [
        (1.0 + 1.0 / 2048.0, 0x3c00),
        (1.0 + 3.0 / 2048.0, 0x3c02),
        (65_519.9, 0x7bff),
        (65_520.0, 0x7c00),
        (-1e30, 0xfc00),
        (2f32.powi(-25), 0),
        (1.5 * 2f32.powi(-24), 2),
        (-(2f32.powi(-24)), 0x8001),
    ] {
        assert_eq!(to_f16(x), want, "{x:e}");
    }
}
