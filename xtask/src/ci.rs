//! `cargo xtask ci`: format, lints, tests, quick start.
//!
//! Every step runs even where one before it failed, so that one run tells
//! everything, and what the steps print is theirs, untouched.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::{cargo, quick_start};

/// The steps that are one call of cargo. The order builds for `clippy` first,
/// which finds in minutes what the tests would find later; the release build
/// comes last, since only the quick start needs it.
const STEPS: &[&[&str]] = &[
    &["fmt", "--all", "--check"],
    &[
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ],
    &["test", "--workspace"],
    &["build", "--release"],
];

struct Outcome {
    name: String,
    took: Duration,
    result: Result<()>,
}

pub(crate) fn run(root: &Path) -> Result<()> {
    let mut outcomes = Vec::new();
    for step in STEPS {
        outcomes.push(timed(format!("cargo {}", step.join(" ")), || {
            call(root, step)
        }));
    }
    outcomes.push(timed(quick_start::name(), || quick_start::run(root)));

    let mut failed = 0;
    eprintln!();
    for Outcome { name, took, result } in &outcomes {
        let seconds = took.as_secs_f64();
        match result {
            Ok(()) => eprintln!("ok      {seconds:7.1} s  {name}"),
            Err(error) => {
                failed += 1;
                eprintln!("FAILED  {seconds:7.1} s  {name}: {error:#}");
            }
        }
    }
    ensure!(failed == 0, "{failed} of {} steps failed", outcomes.len());
    Ok(())
}

fn timed(name: String, step: impl FnOnce() -> Result<()>) -> Outcome {
    eprintln!("\nci: {name}");
    let start = Instant::now();
    let result = step();
    Outcome {
        name,
        took: start.elapsed(),
        result,
    }
}

fn call(root: &Path, arguments: &[&str]) -> Result<()> {
    let status = cargo(root, arguments)
        .status()
        .context("cannot run cargo")?;
    ensure!(status.success(), "cargo ended with {status}");
    Ok(())
}
