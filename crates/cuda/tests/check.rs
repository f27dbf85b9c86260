//! What `cwm gpu-check` does on a card, on the emulated one.

mod support;

use cwm_cuda::check::{Size, run};
use cwm_cuda::kernel::SOURCES;
use support::open;

#[test]
fn every_kernel_passes_its_own_check() {
    let Some(gpu) = open() else { return };
    let report = run(&gpu, Size::Small, 5).expect("the device works");
    for check in &report.checks {
        assert!(check.is_right(), "{check:?}");
        assert!(check.seconds > 0.0 && check.floor > 0.0, "{check:?}");
    }
    // Conversion is part of every product's way; all other sources have a check of their own.
    assert!(
        report.checks.len() >= SOURCES.len(),
        "{} checks",
        report.checks.len()
    );
}
