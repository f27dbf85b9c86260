//! A Python interpreter that answers questions, one JSON line each.

use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use cwm_tracer::Interpreter;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PythonError {
    /// The interpreter cannot be reached.
    #[error("cannot talk to the Python interpreter that {task}: {source}")]
    Io {
        /// What it is for.
        task: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// It stopped answering.
    #[error("the Python interpreter that {task} died")]
    Died {
        /// What it is for.
        task: &'static str,
    },
    /// It answered something else.
    #[error("the Python interpreter that {task} answered `{answer}`")]
    Answer {
        /// What it is for.
        task: &'static str,
        /// What it said.
        answer: String,
    },
}

/// A running interpreter with a script of ours.
#[derive(Debug)]
pub(crate) struct Python {
    task: &'static str,
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Python {
    /// Starts one; `task` completes "the Python interpreter that".
    pub(crate) fn start(
        interpreter: &Interpreter,
        script: &str,
        task: &'static str,
    ) -> Result<Self, PythonError> {
        let mut command = Command::new(&interpreter.path);
        // Sets are in the same order each time. `-I` would ignore that; what it keeps out is kept out here.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PYTHON") {
                command.env_remove(name);
            }
        }
        let script =
            format!("import sys\nsys.path[:] = [path for path in sys.path if path]\n{script}");
        let mut child = command
            .args(["-s", "-B", "-c", &script])
            .env("PYTHONHASHSEED", "0")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|source| PythonError::Io { task, source })?;
        let input = child.stdin.take();
        let output = child.stdout.take().ok_or(PythonError::Died { task })?;
        Ok(Self {
            task,
            child,
            input,
            output: BufReader::new(output),
        })
    }

    /// Asks and waits for the answer.
    pub(crate) fn ask<A: DeserializeOwned>(
        &mut self,
        request: &impl Serialize,
    ) -> Result<A, PythonError> {
        let task = self.task;
        let failed = |source| PythonError::Io { task, source };
        let mut line = serde_json::to_vec(request).map_err(|e| failed(e.into()))?;
        line.push(b'\n');
        let input = self.input.as_mut().ok_or(PythonError::Died { task })?;
        let sent = input.write_all(&line).and_then(|()| input.flush());
        sent.map_err(failed)?;
        let mut reply = String::new();
        if self.output.read_line(&mut reply).map_err(failed)? == 0 {
            return Err(PythonError::Died { task });
        }
        serde_json::from_str(&reply).map_err(|_| PythonError::Answer {
            task,
            answer: reply.trim_end().to_owned(),
        })
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        // Without input it ends by itself; waiting leaves no zombie behind.
        self.input = None;
        let _ = self.child.wait();
    }
}
