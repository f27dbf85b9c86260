//! Kernels on the emulated device against the definitions in `cwm_kernels::reference`, over odd shapes.
//!
//! Outputs that are overwritten hold NaN before. Inputs in bf16 are rounded before the reference sees
//! them, so that only the kernel's own arithmetic is compared.

mod loss;
mod optimizer;
mod rows;
mod transformer;

#[path = "../support/mod.rs"]
mod support;

use cwm_cuda::{Buffer, Gpu};
use half::bf16;

use support::{halves, numbers, open};

/// Rounding to the nearest bf16 is off by 2⁻⁹ of a number; twice that leaves room for the f32 before it.
const BF16: f32 = 1.0 / 256.0;
/// Sums of a few hundred f32 terms of one size are off by less.
const F32: f32 = 1e-5;

const ROWS: [usize; 3] = [1, 3, 37];
const WIDTHS: [usize; 5] = [8, 40, 96, 264, 33];

/// Numbers in -1..1.
fn noise(n: usize, seed: u32) -> Vec<f32> {
    let coarse = numbers(n, seed);
    let fine = numbers(n, seed + 1000);
    let pairs = coarse.iter().zip(&fine);
    pairs.map(|(a, b)| (a + b / 256.0) / 128.0).collect()
}

/// Numbers in -1..1 that are exact in bf16.
fn half_noise(n: usize, seed: u32) -> Vec<f32> {
    widen(&halves(&noise(n, seed)))
}

fn widen(values: &[bf16]) -> Vec<f32> {
    values.iter().map(|value| value.to_f32()).collect()
}

fn poison(gpu: &Gpu, n: usize) -> Buffer<f32> {
    gpu.upload(&vec![f32::NAN; n]).unwrap()
}

fn half_poison(gpu: &Gpu, n: usize) -> Buffer<bf16> {
    gpu.upload(&vec![bf16::NAN; n]).unwrap()
}

fn floats(buffer: &Buffer<f32>) -> Vec<f32> {
    buffer.read(buffer.len()).unwrap()
}

fn half_floats(buffer: &Buffer<bf16>) -> Vec<f32> {
    widen(&buffer.read(buffer.len()).unwrap())
}

/// Panics unless all numbers are as expected, up to a part of themselves and an absolute error.
fn assert_close(what: &str, found: &[f32], expected: &[f32], relative: f32, absolute: f32) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (at, (&found, &expected)) in found.iter().zip(expected).enumerate() {
        let allowed = relative * expected.abs() + absolute;
        assert!(
            (found - expected).abs() <= allowed,
            "{what}: number {at} is {found}, expected {expected}"
        );
    }
}
