//! Builds the native collector (`native/`), a Python extension, as a shared library that `src/worker.rs`
//! embeds.
//!
//! It is built by `rustc` itself and not as a crate: cargo has no way to embed one crate's `cdylib` in
//! another. Where the target cannot have shared libraries the file is left empty, with a warning, and
//! the collector in Python does the work.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=native");
    println!("cargo::rerun-if-changed=build.rs");
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("cwm_native.so");
    if let Err(reason) = build(&out) {
        println!("cargo::warning=no native collector, tracing will be slower: {reason}");
        if let Err(error) = std::fs::write(&out, []) {
            println!("cargo::error=cannot write {}: {error}", out.display());
        }
    }
}

fn build(out: &Path) -> Result<(), String> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| OsString::from("rustc"));
    let target = env::var("TARGET").map_err(|error| format!("TARGET: {error}"))?;
    let mut command = Command::new(rustc);
    command.args([
        "--edition",
        "2024",
        "--crate-type",
        "cdylib",
        "--crate-name",
        "cwm_native",
    ]);
    command.args([
        "-C",
        "opt-level=3",
        "-C",
        "panic=abort",
        "-C",
        "strip=symbols",
    ]);
    command.args(["-C", "codegen-units=1", "--target", &target]);
    if target.contains("apple") {
        // The C API is found in the interpreter that loads the library.
        command.args(["-C", "link-arg=-undefined", "-C", "link-arg=dynamic_lookup"]);
    }
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        let mut option = OsString::from("linker=");
        option.push(linker);
        command.arg("-C").arg(option);
    }
    command.arg("native/lib.rs").arg("-o").arg(out);
    let output = command
        .output()
        .map_err(|error| format!("cannot run rustc: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(said
        .lines()
        .find(|line| line.starts_with("error"))
        .unwrap_or("rustc failed")
        .to_owned())
}
