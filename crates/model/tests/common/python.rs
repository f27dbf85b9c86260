//! Peers written in Python, for comparisons with `CWM_SLOW_TESTS=1`.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

/// The interpreter named by `CWM_TEST_PYTHON`, else `python3`, if it can import `packages`; none,
/// said aloud, where slow tests are not asked for or a package is missing.
pub(crate) fn python_with(packages: &str) -> Option<String> {
    if std::env::var_os("CWM_SLOW_TESTS").is_none() {
        eprintln!("SKIPPED: set CWM_SLOW_TESTS=1 to compare with the Python packages {packages}");
        return None;
    }
    let python = std::env::var("CWM_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let import = format!("import {packages}");
    let output = Command::new(&python).args(["-c", &import]).output();
    if output.is_ok_and(|output| output.status.success()) {
        return Some(python);
    }
    eprintln!("SKIPPED: `{python}` cannot import {packages}; name another in CWM_TEST_PYTHON");
    None
}

/// Runs a script of `tests/python` and returns what it printed.
pub(crate) fn run(python: &str, script: &str, arguments: &[&OsStr]) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python");
    let output = Command::new(python)
        .arg(folder.join(script))
        .args(arguments)
        .output()
        .expect("it starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The values in a file of raw f32.
pub(crate) fn floats(path: &Path) -> Vec<f32> {
    let bytes = std::fs::read(path).expect("the peer wrote it");
    let (values, _) = bytes.as_chunks();
    values
        .iter()
        .map(|bytes| f32::from_le_bytes(*bytes))
        .collect()
}
