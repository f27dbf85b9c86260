//! Digests of Python code that do not depend on names or layout.
//!
//! The work is done by `python/normalise.py` in a real interpreter, whose parser is the only one that
//! is never wrong about Python. Code is parsed there, never run.

use cwm_tracer::Interpreter;
use serde::{Deserialize, Serialize};

use crate::python::{Python, PythonError};

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
pub struct Normaliser(Python);

impl Normaliser {
    /// Starts one.
    ///
    /// # Errors
    /// When the interpreter cannot be started.
    pub fn start(interpreter: &Interpreter) -> Result<Self, PythonError> {
        Python::start(interpreter, SCRIPT, "compares programs").map(Self)
    }

    /// The digests of `code` and of an argument list; `Ok(Err(_))` says why it is no Python.
    ///
    /// # Errors
    /// When the interpreter is gone.
    pub fn normalise(
        &mut self,
        code: &str,
        args: Option<&str>,
    ) -> Result<Result<Normalised, String>, PythonError> {
        Ok(match self.0.ask(&Request { code, args })? {
            Answer::Good(normalised) => Ok(normalised),
            Answer::Bad { error } => Err(error),
        })
    }
}
