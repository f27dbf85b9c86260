//! The real binary, run in a folder.

#![allow(dead_code, reason = "each test file uses a part of this")]

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

pub(crate) fn cwm(folder: &Path, args: &[&str]) -> Output {
    let command = Command::new(env!("CARGO_BIN_EXE_cwm"))
        .args(args)
        .current_dir(folder)
        .output();
    command.expect("it runs")
}

/// The same, with something to read on standard input.
pub(crate) fn run_in(folder: &Path, args: &[&str], stdin: &[u8]) -> Run {
    let mut child = Command::new(env!("CARGO_BIN_EXE_cwm"))
        .args(args)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    // The program may end without having read everything.
    let _ = child.stdin.take().expect("it is piped").write_all(stdin);
    Run {
        output: child.wait_with_output().expect("it ends"),
    }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What the binary did.
pub(crate) struct Run {
    pub(crate) output: Output,
}

impl Run {
    pub(crate) fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.output.stdout).into_owned()
    }

    pub(crate) fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }

    #[track_caller]
    pub(crate) fn succeeds(self) -> Self {
        let code = self.output.status.code();
        assert_eq!(
            code,
            Some(0),
            "stdout:\n{}\nstderr:\n{}",
            self.stdout(),
            self.stderr()
        );
        self
    }

    #[track_caller]
    pub(crate) fn fails_with(self, parts: &[&str]) -> Self {
        let stderr = self.stderr();
        assert_eq!(self.output.status.code(), Some(1), "stderr:\n{stderr}");
        assert!(!stderr.contains("panicked"), "{stderr}");
        for part in parts {
            assert!(stderr.contains(part), "`{part}` is not in:\n{stderr}");
        }
        self
    }
}
