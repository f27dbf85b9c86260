//! Throughput of the matrix products on one thread, as JSON lines: median and best of repeated runs in
//! GFLOP/s of CPU time (the best is the fairer figure on a shared machine).
//!
//! `cargo bench -p cwm-kernels`. Each line names the shape and layout; `peak` is a loop of
//! independent FMAs in registers, the bound that the products are judged by.

mod timing;

use std::hint::black_box;

use cwm_kernels::{MatMut, MatRef, Precision, Store, cpu, gemm};
use timing::{seconds, values};

fn main() {
    println!("{{\"op\": \"cpu\", \"level\": \"{}\"}}", cpu().level);
    report("peak", [0; 3], peak());
    for [m, k, n] in [
        [600, 192, 192],
        [600, 192, 512],
        [600, 512, 192],
        [600, 384, 1024],
        [600, 1024, 384],
        [600, 1024, 1024],
        [64, 384, 4096],
        [8, 384, 1024],
        [16, 384, 384],
        [64, 64, 64],
        [128, 64, 128],
    ] {
        let (a, b) = (values(m * k), values(k * n));
        let mut c = vec![0.0; m * n];
        let flops = (2 * m * k * n) as f64;
        let (plain_a, plain_b) = (MatRef::new(&a, m, k), MatRef::new(&b, k, n));
        let (turned_a, turned_b) = (MatRef::new(&a, k, m).t(), MatRef::new(&b, n, k).t());
        for (unit, precision) in [("f32", Precision::F32), ("bf16", Precision::Bf16)] {
            let mut run = |what: &str, a: MatRef<'_>, b: MatRef<'_>| {
                let rates = rates(flops, || {
                    gemm(MatMut::new(&mut c, m, n), a, b, Store::Overwrite, precision)
                });
                report(&format!("{what} in {unit}"), [m, k, n], rates);
            };
            run("x * W^T", plain_a, turned_b);
            run("dy * W", plain_a, plain_b);
            run("dy^T * x", turned_a, plain_b);
        }
    }
}

fn report(what: &str, [m, k, n]: [usize; 3], [median, best]: [f64; 2]) {
    println!(
        "{{\"op\": \"{what}\", \"m\": {m}, \"k\": {k}, \"n\": {n}, \"median\": {median:.1}, \"best\": {best:.1}}}"
    );
}

/// The median and the best rate of `run` in GFLOP/s.
fn rates(flops: f64, run: impl FnMut()) -> [f64; 2] {
    seconds((2e7 / flops).ceil() as usize, run).map(|s| flops / s / 1e9)
}

#[cfg(target_arch = "x86_64")]
fn peak() -> [f64; 2] {
    use std::arch::x86_64::{_mm256_fmadd_ps, _mm256_set1_ps};

    #[target_feature(enable = "avx2,fma")]
    fn spin(steps: usize) -> f32 {
        let mut sums = [_mm256_set1_ps(0.5); 12];
        let (x, y) = (
            black_box(_mm256_set1_ps(0.999)),
            black_box(_mm256_set1_ps(0.001)),
        );
        for _ in 0..steps {
            for sum in &mut sums {
                *sum = _mm256_fmadd_ps(*sum, x, y);
            }
        }
        black_box(sums);
        0.0
    }
    if !(is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")) {
        return [0.0; 2];
    }
    let steps = 200_000;
    rates((steps * 12 * 16) as f64, || {
        // SAFETY: the features were just detected.
        black_box(unsafe { spin(steps) });
    })
}

#[cfg(not(target_arch = "x86_64"))]
fn peak() -> [f64; 2] {
    [0.0; 2]
}
