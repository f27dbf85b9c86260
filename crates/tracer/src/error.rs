//! Why nothing could be traced.

use std::io;
use std::path::PathBuf;

/// Reasons that no trace came about. A program that fails while it runs is not among them: that is a
/// trace with the matching end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No interpreter was named and none is on the `PATH`.
    #[error(
        "no Python interpreter found: neither python3 nor python is on the PATH; install CPython 3.8 or later, or name one"
    )]
    NoPython,
    /// The interpreter could not be started.
    #[error("cannot start the interpreter {}: {source}", path.display())]
    CannotStart {
        /// The interpreter.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is a program, but does not answer as CPython does.
    #[error("{} is not a CPython interpreter: {said}", path.display())]
    NotCPython {
        /// The program that was tried.
        path: PathBuf,
        /// What it answered instead.
        said: String,
    },
    /// The interpreter is older than 3.8.
    #[error("{} is Python {}.{}.{}; tracing needs 3.8 or later", path.display(), version.0, version.1, version.2)]
    OldPython {
        /// The interpreter.
        path: PathBuf,
        /// Its version.
        version: (u8, u8, u8),
    },
    /// The file is not Python of this interpreter's version.
    #[error("{file}{}: {message}{}", at_line(*line), quoted(text))]
    NotPython {
        /// Name of the file.
        file: String,
        /// 1-based line of the error, 0 where the interpreter names none.
        line: u32,
        /// What the interpreter says.
        message: String,
        /// The offending line, where the interpreter shows it.
        text: String,
    },
    /// The file has no function of the wanted name.
    #[error("{file} has no function `{name}`; {}", choices(available))]
    MissingEntry {
        /// Name of the file.
        file: String,
        /// The function that was asked for.
        name: String,
        /// Functions (and methods) that the file defines.
        available: Vec<String>,
    },
    /// The arguments are no Python expressions, fail to evaluate, or do not fit the function.
    #[error("cannot call {function}({args}): {message}")]
    BadArguments {
        /// The function.
        function: String,
        /// The arguments as given.
        args: String,
        /// What the interpreter says.
        message: String,
    },
    /// The interpreter does not find the module, or it cannot be run.
    #[error(
        "cannot run module `{module}`: {message}; it is looked for in the current folder, then where this interpreter has its packages"
    )]
    NoModule {
        /// Its name.
        module: String,
        /// What the interpreter says.
        message: String,
    },
    /// The channel to the interpreter, or the file that carries the events, failed.
    #[error("lost contact with the interpreter while {doing}: {source}")]
    Channel {
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The interpreter ended before it could take a request.
    #[error("the interpreter {} ended while starting: {said}", path.display())]
    DiedAtStart {
        /// The interpreter.
        path: PathBuf,
        /// Its last words on standard error.
        said: String,
    },
}

fn at_line(line: u32) -> String {
    if line == 0 {
        String::new()
    } else {
        format!(":{line}")
    }
}

fn quoted(text: &str) -> String {
    let text = text.trim();
    if text.is_empty() {
        String::new()
    } else {
        format!("\n    {text}")
    }
}

fn choices(available: &[String]) -> String {
    if available.is_empty() {
        return "it defines no function at all".to_owned();
    }
    format!("it has {}", available.join(", "))
}
