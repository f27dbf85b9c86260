//! The real binary, run in a folder.

use std::path::Path;
use std::process::{Command, Output};

pub(crate) fn cwm(folder: &Path, args: &[&str]) -> Output {
    let command = Command::new(env!("CARGO_BIN_EXE_cwm"))
        .args(args)
        .current_dir(folder)
        .output();
    command.expect("it runs")
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
