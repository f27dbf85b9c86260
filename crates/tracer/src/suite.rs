//! Runs a package's own tests, to see with what its functions are called.
//!
//! The tests run in a process of their own, guarded, with limits on time and memory, without the network and
//! without leave to write or to start others. Nothing is installed: tests that need more than the package and
//! what the interpreter has fail, and the others are run. Tests are those of `pytest` if the interpreter has it,
//! or else what `unittest` finds and functions called `test…` that take nothing; and docstrings' examples.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Interpreter;
use crate::process::KEPT_VARIABLES;

const SCRIPT: &str = concat!(
    include_str!("../python/guard.py"),
    include_str!("../python/suite.py"),
);

/// How long the process may take beyond its time to notice that it is over.
const GRACE: Duration = Duration::from_secs(10);

/// Tests to be run.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct SuiteRequest<'a> {
    /// The folder that the files are in.
    pub root: &'a Path,
    /// Files whose functions are watched and whose docstrings are tried.
    pub modules: &'a [&'a str],
    /// Files of tests.
    pub tests: &'a [&'a str],
    /// The most seconds.
    pub seconds: u32,
    /// The most bytes of address space.
    pub memory: u64,
}

/// Argument lists as Python source, by file and function, in the order in which they came first.
pub type WrittenCalls = BTreeMap<String, BTreeMap<String, Vec<String>>>;

/// What came of the tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Suite {
    /// They ran to their end; that does not mean that they passed.
    Ran,
    /// They took longer than they may; nothing of them is used, since it would be something else each time.
    OverTime,
    /// The process ended without an answer.
    Died,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Answer {
    Done {
        calls: WrittenCalls,
    },
    OverTime {
        #[serde(rename = "over_time")]
        _is: bool,
    },
}

/// Runs tests and gives the calls of functions at the top level of the modules whose arguments are literals.
///
/// # Errors
/// When no process can be started.
pub fn calls_in_tests(
    py: &Interpreter,
    request: &SuiteRequest<'_>,
) -> io::Result<(Suite, WrittenCalls)> {
    let mut child = Command::new(&py.path)
        // Not isolated by `-I`: that would ignore the seed of hashes, and sets be in another order each time.
        .args(["-s", "-B", "-c", SCRIPT])
        .env_clear()
        .envs(
            KEPT_VARIABLES
                .iter()
                .filter_map(|name| Some((name, std::env::var_os(name)?))),
        )
        .env("PYTHONHASHSEED", "0")
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()?;
    let line = serde_json::to_string(request)? + "\n";
    if let Some(mut input) = child.stdin.take() {
        // Where it is gone already there will be no answer either.
        let _ = input.write_all(line.as_bytes());
    }
    let (sender, receiver) = channel();
    let mut output = child.stdout.take();
    let reader = std::thread::spawn(move || {
        let mut text = Vec::new();
        // What cannot be read is no answer.
        let _ = output.as_mut().map(|output| output.read_to_end(&mut text));
        let _ = sender.send(text);
    });
    let time = Duration::from_secs(request.seconds.into()) + GRACE;
    let text = receiver.recv_timeout(time).ok();
    // SAFETY: a plain system call. The child leads a group of its own and was not waited for, so the number is
    // that of this group still.
    unsafe { libc::killpg(child.id() as libc::pid_t, libc::SIGKILL) };
    let _ = child.wait();
    let _ = reader.join();
    Ok(match text.as_deref().map(serde_json::from_slice) {
        Some(Ok(Answer::Done { calls })) => (Suite::Ran, calls),
        Some(Ok(Answer::OverTime { .. })) | None => (Suite::OverTime, WrittenCalls::new()),
        Some(Err(_)) => (Suite::Died, WrittenCalls::new()),
    })
}
