//! `cargo xtask ci`: format, lints, tests, quick start.
//!
//! Every step runs even where one before it failed, so that one run tells
//! everything, and what the steps print is theirs, untouched. Which tests failed, and what they
//! printed, is told again at the end. A step that this machine cannot run is skipped and says why.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::{cargo, quick_start, suite};

/// The target whose kernels are checked besides the machine's own; nothing is linked or run for it.
const ARM: &str = "aarch64-unknown-linux-gnu";

/// The lints come before the tests: they find in minutes what these would find later.
const LINTS: &[&[&str]] = &[
    &["fmt", "--all", "--check"],
    &[
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ],
];

/// After the tests, since only the quick start needs it.
const RELEASE: &[&str] = &["build", "--release"];

/// Whether a step that did not fail ran at all.
enum Ran {
    Yes,
    Skipped(String),
}

struct Outcome {
    name: String,
    took: Duration,
    result: Result<Ran>,
}

pub(crate) fn run(root: &Path) -> Result<()> {
    let mut outcomes = Vec::new();
    for lint in LINTS {
        outcomes.push(timed(named(lint), || call(root, lint).map(|()| Ran::Yes)));
    }
    outcomes.push(timed(named(suite::ARGUMENTS), || {
        suite::run(root).map(|()| Ran::Yes)
    }));
    outcomes.push(timed(named(RELEASE), || {
        call(root, RELEASE).map(|()| Ran::Yes)
    }));
    outcomes.push(timed(format!("kernels for {ARM}"), || arm(root)));
    outcomes.push(timed(quick_start::name(), || {
        quick_start::run(root).map(|()| Ran::Yes)
    }));

    let mut failed = 0;
    eprintln!();
    for Outcome { name, took, result } in &outcomes {
        let seconds = took.as_secs_f64();
        match result {
            Ok(Ran::Yes) => eprintln!("ok      {seconds:7.1} s  {name}"),
            Ok(Ran::Skipped(why)) => eprintln!("skipped {seconds:7.1} s  {name}: {why}"),
            Err(error) => {
                failed += 1;
                eprintln!("FAILED  {seconds:7.1} s  {name}: {error:#}");
            }
        }
    }
    ensure!(failed == 0, "{failed} of {} steps failed", outcomes.len());
    Ok(())
}

fn named(arguments: &[&str]) -> String {
    format!("cargo {}", arguments.join(" "))
}

fn timed(name: String, step: impl FnOnce() -> Result<Ran>) -> Outcome {
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

/// Lints the kernels for another kind of processor, so that what only it compiles keeps compiling.
fn arm(root: &Path) -> Result<Ran> {
    if let Err(error) = ensure_target(root) {
        return Ok(Ran::Skipped(format!("{error:#}")));
    }
    let lint = ["clippy", "-p", "cwm-kernels", "--lib", "--target", ARM];
    call(root, &[&lint[..], &["--", "-D", "warnings"]].concat())?;
    Ok(Ran::Yes)
}

/// Sees to it that the toolchain has the standard library of [`ARM`].
fn ensure_target(root: &Path) -> Result<()> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let printed = Command::new(rustc)
        .args(["--print", "target-libdir", "--target", ARM])
        .current_dir(root)
        .output()
        .context("cannot ask rustc for its targets")?;
    let folder = PathBuf::from(String::from_utf8_lossy(&printed.stdout).trim());
    if printed.status.success() && folder.is_dir() {
        return Ok(());
    }
    let status = Command::new("rustup")
        .args(["target", "add", ARM])
        .current_dir(root)
        .status()
        .context("the target is not installed and there is no rustup to add it")?;
    ensure!(status.success(), "rustup could not add the target");
    Ok(())
}
