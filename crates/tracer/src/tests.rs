//! A test suite run by pytest, with a trace of each test.
//!
//! Pytest runs in the user's own environment and as the user's own act, without limits on its process; a
//! plugin of ours records each test while it runs. The log is cut into traces afterwards.
//!
//! Promises: tests come out as they would without us (objects are shown without running their code, unless
//! that is asked for); each test that began is told of, however the run ended.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use cwm_trace::{End, Entry, Trace};

use crate::log;
use crate::process::native_file;
use crate::segment::Segment;
use crate::{Error, Interpreter, Mode, Values};

/// What runs in the interpreter.
const PLUGIN: &str = concat!(
    include_str!("../python/values.py"),
    include_str!("../python/safe.py"),
    include_str!("../python/recorder.py"),
    include_str!("../python/events.py"),
    include_str!("../python/layout.py"),
    include_str!("../python/files.py"),
    include_str!("../python/tests.py"),
);

/// How tests are recorded.
#[derive(Clone, Debug)]
pub struct TestOptions {
    /// Files and folders whose code is recorded; of folders, all but installed packages.
    pub roots: Vec<PathBuf>,
    /// How the collector gets at variables; only a wish.
    pub mode: Mode,
    /// How objects become text. Other than [`Values::Safe`] may change what tests do.
    pub values: Values,
    /// Events of one test; what comes after is not recorded.
    pub max_events: u64,
    /// Characters of one value; what is longer is cut and ends in `...`.
    pub max_value_chars: usize,
    /// Where pytest's own output goes.
    pub output: TestOutput,
}

/// Where the output of pytest goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TestOutput {
    /// To our standard output and standard error.
    AsOurs,
    /// All of it to standard error.
    Errors,
    /// Nowhere.
    Nowhere,
}

/// One test that began.
#[derive(Debug)]
pub struct Test {
    /// Its id, as pytest names it.
    pub id: String,
    /// How pytest counts it: `passed`, `failed`, `skipped`, `error` and so on, or several of these;
    /// empty where the process ended before that.
    pub outcome: String,
    /// What was recorded: the test's own call with what it calls; without events where nothing of the
    /// chosen files ran.
    pub trace: Trace,
}

/// What is known of a whole run.
#[derive(Debug)]
pub struct TestsReport {
    /// The version of pytest.
    pub pytest: String,
    /// The exit status that pytest gave; `None` where the process ended otherwise.
    pub status: Option<i32>,
    /// How the process ended.
    pub process: ExitStatus,
}

/// Why tests could not be recorded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TestsError {
    /// The interpreter has no pytest.
    #[error("the interpreter {} cannot import pytest ({said}); install it there with `{} -m pip install pytest`, or name another interpreter", path.display(), path.display())]
    NoPytest {
        /// The interpreter.
        path: PathBuf,
        /// What it says.
        said: String,
    },
    /// The interpreter ended before pytest began.
    #[error("the interpreter {} ended before pytest began ({status}); it said why above", path.display())]
    DiedAtStart {
        /// The interpreter.
        path: PathBuf,
        /// How it ended.
        status: ExitStatus,
    },
    /// A file could not be made or read, or a trace not be taken.
    #[error("cannot record tests: {0}")]
    Io(#[from] io::Error),
    /// The interpreter could not be started.
    #[error(transparent)]
    Tracer(#[from] Error),
}

/// Runs pytest with these arguments and hands over its tests one by one, in order, once it is done.
///
/// # Errors
/// When there is no pytest to run, or `each` fails.
pub fn trace_tests(
    py: &Interpreter,
    options: &TestOptions,
    arguments: &[String],
    mut each: impl FnMut(Test) -> io::Result<()>,
) -> Result<TestsReport, TestsError> {
    let folder = tempfile::Builder::new().prefix("cwm-tests-").tempdir()?;
    let log = folder.path().join("log");
    File::create(&log)?;
    let process = run(py, options, arguments, folder.path(), &log)?;
    let bytes = read_log(&log)?;
    drop(folder);
    let mut begun = None;
    let mut status = None;
    let mut failure = None;
    log::decode_segments(&bytes, |segment| {
        let result = segment.result.clone().unwrap_or_default();
        match segment.label.as_deref() {
            None => {}
            Some("pytest") => begun = Some(result),
            Some("exit") => status = result.parse().ok(),
            Some(_) if failure.is_none() => failure = each(test(py, segment, process)).err(),
            Some(_) => {}
        }
    });
    if let Some(error) = failure {
        return Err(error.into());
    }
    let path = py.path.clone();
    let Some(pytest) = begun else {
        let status = process;
        return Err(TestsError::DiedAtStart { path, status });
    };
    if let Some(said) = pytest.strip_prefix("missing ") {
        let said = said.to_owned();
        return Err(TestsError::NoPytest { path, said });
    }
    Ok(TestsReport {
        pytest,
        status,
        process,
    })
}

fn run(
    py: &Interpreter,
    options: &TestOptions,
    arguments: &[String],
    folder: &Path,
    log: &Path,
) -> Result<ExitStatus, TestsError> {
    let script = folder.join("cwm_tests.py");
    File::create(&script)?.write_all(PLUGIN.as_bytes())?;
    let native = native_file(options.mode);
    let native_path = native.as_ref().map_or(Path::new(""), |file| file.path());
    let mut command = Command::new(&py.path);
    command.arg(&script).arg(log).arg(native_path);
    command.arg(match options.mode {
        Mode::Direct => "direct",
        Mode::Api | Mode::Python => "api",
    });
    command.arg(match options.values {
        Values::Repr => "repr",
        Values::Safe => "safe",
    });
    command.arg(options.max_events.to_string());
    command.arg(options.max_value_chars.max(1).to_string());
    command.arg(options.roots.len().to_string());
    command.args(&options.roots).args(arguments);
    if std::env::var_os("PYTHONHASHSEED").is_none() {
        command.env("PYTHONHASHSEED", "0");
    }
    match options.output {
        TestOutput::AsOurs => {}
        TestOutput::Errors => {
            command.stdout(Stdio::from(io::stderr()));
        }
        TestOutput::Nowhere => {
            command.stdout(Stdio::null()).stderr(Stdio::null());
        }
    }
    let status = command.status().map_err(|source| Error::CannotStart {
        path: py.path.clone(),
        source,
    })?;
    Ok(status)
}

/// What the log holds; its first eight bytes say how much of it is whole.
fn read_log(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = std::fs::read(path)?;
    let Some(head) = bytes.first_chunk::<8>() else {
        return Ok(Vec::new());
    };
    let length = usize::try_from(u64::from_le_bytes(*head)).unwrap_or(usize::MAX);
    bytes.drain(..8);
    bytes.truncate(length);
    Ok(bytes)
}

fn test(py: &Interpreter, segment: Segment, process: ExitStatus) -> Test {
    let mut files = segment.files;
    let (file, source) = match files.is_empty() {
        true => (String::new(), String::new()),
        false => {
            let main = files.remove(0);
            (main.path, main.text)
        }
    };
    let entry = match segment.functions.first() {
        None => Entry::Module,
        Some(function) => Entry::Call {
            function: function.qualname.clone(),
            args: String::new(),
        },
    };
    // A test that was skipped before its call has not begun either.
    let ended = segment.result.is_some();
    let end = segment.end.unwrap_or_else(|| match ended {
        true => End::Finished,
        false => End::Crashed(format!("the interpreter ended during the test ({process})")),
    });
    Test {
        id: segment.label.unwrap_or_default(),
        outcome: segment.result.unwrap_or_default(),
        trace: Trace {
            python: py.version_text(),
            file,
            source,
            other_files: files,
            thread: None,
            entry,
            functions: segment.functions,
            events: segment.events,
            end,
            stdout: String::new(),
            stderr: String::new(),
        },
    }
}
