//! What tests on the emulated device share: the device, numbers, comparisons.

#![allow(dead_code, reason = "each test program uses a part of it")]

use cwm_cuda::{Emulator, Gpu};
use half::bf16;

/// `None`, and a line that says so, where there is no C++ compiler.
pub(crate) fn open() -> Option<Gpu> {
    match Emulator::open() {
        Ok(gpu) => Some(gpu),
        Err(error) => {
            eprintln!("skipped: {error}");
            None
        }
    }
}

/// Whole numbers in -128..128, whose sums are exact in every order, and whose sums of few products too.
pub(crate) fn numbers(n: usize, mut seed: u32) -> Vec<f32> {
    let mut next = || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 24) as f32 - 128.0
    };
    (0..n).map(|_| next()).collect()
}

/// To the nearest bf16.
pub(crate) fn halves(values: &[f32]) -> Vec<bf16> {
    values.iter().map(|&value| bf16::from_f32(value)).collect()
}

/// SplitMix64.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Within `-most..most`.
    pub(crate) fn float(&mut self, most: f32) -> f32 {
        ((self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0) * most
    }

    pub(crate) fn floats(&mut self, n: usize, most: f32) -> Vec<f32> {
        (0..n).map(|_| self.float(most)).collect()
    }

    pub(crate) fn rounded(&mut self, n: usize, most: f32) -> Vec<bf16> {
        (0..n).map(|_| bf16::from_f32(self.float(most))).collect()
    }
}

/// Whether two vectors agree within `tolerance` of the root mean square of what is wanted, number by number.
pub(crate) fn close(found: &[f32], wanted: &[f32], tolerance: f32, what: &str) {
    assert_eq!(found.len(), wanted.len(), "{what}: length");
    let squares: f64 = wanted.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
    let scale = (squares / wanted.len().max(1) as f64).sqrt().max(1e-6);
    for (index, (&found, &wanted)) in found.iter().zip(wanted).enumerate() {
        let size = scale.max(f64::from(wanted.abs()));
        let error = f64::from((found - wanted).abs()) / size;
        assert!(
            error <= f64::from(tolerance),
            "{what}: number {index} is {found}, wanted {wanted} (of {scale:.3} on average)"
        );
    }
}

/// The cosine of the angle between two vectors, and the ratio of their lengths.
pub(crate) fn alignment(found: &[f32], wanted: &[f32]) -> (f64, f64) {
    let product = |a: &[f32], b: &[f32]| -> f64 {
        a.iter()
            .zip(b)
            .map(|(&a, &b)| f64::from(a) * f64::from(b))
            .sum()
    };
    let (aa, bb) = (product(found, found), product(wanted, wanted));
    if bb == 0.0 {
        return (f64::from(u8::from(aa == 0.0)), 1.0);
    }
    (product(found, wanted) / (aa * bb).sqrt(), (aa / bb).sqrt())
}
