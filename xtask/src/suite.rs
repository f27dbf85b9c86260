//! The tests of the workspace, and what is to be read first where some fail.
//!
//! `cargo test` tells of a failure where it happens, thousands of lines before its end. Whoever is
//! shown the end alone, as by most places that run a CI, would not learn which test it was. So its
//! output passes through here unchanged, and the failures are gathered on the way.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::Stdio;
use std::thread;

use anyhow::{Context, Result, bail};

use crate::cargo;

/// How many lines of what failing tests printed are repeated, over all of them.
const REPEATED: usize = 120;

/// Every test of the workspace, also those after the first that fails.
pub(crate) const ARGUMENTS: &[&str] = &["test", "--workspace", "--no-fail-fast"];

/// Runs the tests.
///
/// # Errors
/// Where cargo cannot be run, and where a test fails: then with the names of the test programs, the
/// tests, and what these printed.
pub(crate) fn run(root: &Path) -> Result<()> {
    let mut child = cargo(root, ARGUMENTS)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run cargo")?;
    let (Some(out), Some(err)) = (child.stdout.take(), child.stderr.take()) else {
        bail!("cargo was started without its output");
    };
    let (out, err) = thread::scope(|scope| {
        let out = scope.spawn(|| pass_on(out, std::io::stdout(), Failures::default()));
        let err = pass_on(err, std::io::stderr(), Failures::default());
        (out.join(), err)
    });
    let status = child.wait().context("cannot wait for cargo")?;
    if status.success() {
        return Ok(());
    }
    let mut failures = match out {
        Ok(out) => out?,
        Err(panic) => std::panic::resume_unwind(panic),
    };
    failures.lines.extend(err?.lines);
    bail!("cargo ended with {status}\n{}", failures.told());
}

/// Copies every line of `from` to `to` as it comes, and hands each to `failures`.
fn pass_on(from: impl Read, mut to: impl Write, mut failures: Failures) -> Result<Failures> {
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    while from
        .read_until(b'\n', &mut line)
        .context("cannot read what cargo prints")?
        > 0
    {
        to.write_all(&line).context("cannot print")?;
        failures.read(String::from_utf8_lossy(&line).trim_end());
        line.clear();
    }
    Ok(failures)
}

/// The lines that tell of failures, out of what one stream of `cargo test` carries.
#[derive(Default)]
struct Failures {
    lines: Vec<String>,
    /// Within what a failing test had printed, or what cargo says of a failure.
    telling: bool,
}

impl Failures {
    fn read(&mut self, line: &str) {
        let begins = (line.starts_with("---- ") && line.ends_with(" ----"))
            || line.starts_with("error:")
            || line.starts_with("error[");
        let ends = line.starts_with("test result:")
            || line == "failures:"
            || line.trim_start().starts_with("Running ")
            || line.trim_start().starts_with("Compiling ");
        self.telling = (self.telling || begins) && !ends;
        let named = line.starts_with("test ") && line.ends_with(" FAILED");
        if named || (self.telling && !line.is_empty()) {
            self.lines.push(line.to_owned());
        }
    }

    /// What was gathered, the names before the rest, and not more of it than one reads.
    fn told(&self) -> String {
        let (names, rest): (Vec<_>, Vec<_>) = self
            .lines
            .iter()
            .partition(|line| line.starts_with("test "));
        let mut told: Vec<String> = names
            .into_iter()
            .chain(rest)
            .map(|line| format!("    {line}"))
            .collect();
        if told.len() > REPEATED {
            let more = told.len() - REPEATED;
            told.truncate(REPEATED);
            told.push(format!("    and {more} lines more, above"));
        }
        told.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told_of(output: &str) -> String {
        let mut printed = Vec::new();
        let failures = pass_on(output.as_bytes(), &mut printed, Failures::default())
            .expect("nothing here can fail to be read");
        assert_eq!(printed, output.as_bytes(), "the output passes unchanged");
        failures.told()
    }

    #[test]
    fn failing_tests_are_named_with_what_they_printed() {
        let told = told_of(
            "running 2 tests\ntest one ... ok\ntest two ... FAILED\n\nfailures:\n\n\
             ---- two stdout ----\nthread 'two' panicked at a.rs:1:1:\nleft: 1\n\n\
             failures:\n    two\n\ntest result: FAILED. 1 passed; 1 failed\n",
        );
        assert_eq!(
            told,
            "    test two ... FAILED\n    ---- two stdout ----\n    \
             thread 'two' panicked at a.rs:1:1:\n    left: 1"
        );
    }

    #[test]
    fn a_program_that_died_is_told() {
        let told = told_of(
            "     Running tests/a.rs\nerror: test failed, to rerun pass `-p a --test a`\n\n\
             Caused by:\n  process didn't exit successfully (signal: 11, SIGSEGV)\n\
             \x20    Running tests/b.rs\n",
        );
        assert_eq!(
            told,
            "    error: test failed, to rerun pass `-p a --test a`\n    Caused by:\n      \
             process didn't exit successfully (signal: 11, SIGSEGV)"
        );
    }

    #[test]
    fn nothing_is_told_of_what_passes() {
        assert_eq!(told_of("test one ... ok\ntest result: ok. 1 passed\n"), "");
    }
}
