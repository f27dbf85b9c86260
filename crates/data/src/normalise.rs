//! Digests of Python code that do not depend on names or layout.
//!
//! The work is done by `python/normalise.py` in a real interpreter, whose parser is the only one that
//! is never wrong about Python. Code is parsed there, never run.

use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use cwm_tracer::Interpreter;
use serde::{Deserialize, Serialize};

const SCRIPT: &str = include_str!("../python/normalise.py");

/// What a piece of code is, whatever it calls its names.
///
/// Equal digests mean: the same but for names of its own, comments, docstrings, annotations, layout
/// and the order of keyword arguments.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Normalised {
    /// Of each function definition, nested ones included, in the order of the text.
    pub functions: Vec<String>,
    /// Of the whole.
    pub module: String,
    /// Of the argument list that was given with the code.
    pub args: Option<String>,
}

/// Why there are no digests.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NormaliseError {
    /// The interpreter cannot be reached.
    #[error("cannot talk to the Python interpreter that compares programs: {0}")]
    Io(#[from] io::Error),
    /// It stopped answering.
    #[error("the Python interpreter that compares programs died")]
    Died,
    /// It answered something else.
    #[error("the Python interpreter that compares programs answered `{0}`")]
    Answer(String),
}

#[derive(Serialize)]
struct Request<'a> {
    code: &'a str,
    args: Option<&'a str>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Answer {
    Good(Normalised),
    Bad { error: String },
}

/// A running interpreter that normalises code.
#[derive(Debug)]
pub struct Normaliser {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Normaliser {
    /// Starts one.
    ///
    /// # Errors
    /// When the interpreter cannot be started.
    pub fn start(interpreter: &Interpreter) -> Result<Self, NormaliseError> {
        let mut child = Command::new(&interpreter.path)
            .args(["-I", "-c", SCRIPT])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let input = child.stdin.take();
        let output = child.stdout.take().ok_or(NormaliseError::Died)?;
        Ok(Self {
            child,
            input,
            output: BufReader::new(output),
        })
    }

    /// The digests of `code` and of an argument list; `Ok(Err(_))` says why it is no Python.
    ///
    /// # Errors
    /// When the interpreter is gone.
    pub fn normalise(
        &mut self,
        code: &str,
        args: Option<&str>,
    ) -> Result<Result<Normalised, String>, NormaliseError> {
        let input = self.input.as_mut().ok_or(NormaliseError::Died)?;
        let mut line = serde_json::to_vec(&Request { code, args }).map_err(io::Error::from)?;
        line.push(b'\n');
        input.write_all(&line)?;
        input.flush()?;
        let mut reply = String::new();
        if self.output.read_line(&mut reply)? == 0 {
            return Err(NormaliseError::Died);
        }
        match serde_json::from_str(&reply) {
            Ok(Answer::Good(normalised)) => Ok(Ok(normalised)),
            Ok(Answer::Bad { error }) => Ok(Err(error)),
            Err(_) => Err(NormaliseError::Answer(reply.trim_end().to_owned())),
        }
    }
}

impl Drop for Normaliser {
    fn drop(&mut self) {
        // Without input it ends by itself; waiting leaves no zombie behind.
        self.input = None;
        let _ = self.child.wait();
    }
}
