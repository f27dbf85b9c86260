//! The event log `train.jsonl`: one JSON object a line, appended and never rewritten.
//!
//! Events: `start`, `resume`, `step`, `evaluation`, `checkpoint`, `end`. A run that is killed
//! and resumed repeats the steps after its last checkpoint, so the file may hold a step twice:
//! the `resume` line says from which step on the lines above it no longer count, and [`history`]
//! applies that rule.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use crate::Error;
use crate::config::TrainConfig;
use crate::report::{Evaluation, StepReport};

/// Name of the log inside the folder of a run.
pub const LOG_FILE: &str = "train.jsonl";

#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Event<'a> {
    Start(Chapter<'a>),
    Resume(Chapter<'a>),
    Step(&'a StepReport),
    Evaluation(&'a Evaluation),
    Checkpoint { step: u64, name: &'a str },
    End { step: u64, stopped: bool },
}

/// What is true of a run until it is interrupted.
#[derive(Debug, Serialize)]
pub(crate) struct Chapter<'a> {
    /// Steps done before.
    pub(crate) step: u64,
    /// Steps of the whole run.
    pub(crate) steps: u64,
    pub(crate) parameters: usize,
    /// Of training, by the formula of [`cwm_model::Config::train_flops_per_token`].
    pub(crate) flops_per_token: f64,
    pub(crate) ranks: usize,
    /// Of each rank.
    pub(crate) threads: usize,
    /// Fingerprint.
    pub(crate) data: &'a str,
    pub(crate) config: &'a TrainConfig,
    /// Of the program.
    pub(crate) version: &'static str,
}

/// The open log.
#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
    file: File,
}

impl Log {
    /// Opens the log of the run in `dir`, and ends a line that a kill left unfinished.
    pub(crate) fn open(dir: &Path) -> Result<Self, Error> {
        let path = dir.join(LOG_FILE);
        let mut options = File::options();
        let mut file = options
            .create(true)
            .read(true)
            .append(true)
            .open(&path)
            .map_err(Error::io("open", &path))?;
        if torn(&mut file).map_err(Error::io("read", &path))? {
            file.write_all(b"\n").map_err(Error::io("write", &path))?;
        }
        Ok(Self { path, file })
    }

    /// Appends one line, straight to the system: a killed process loses no line it has written.
    pub(crate) fn write(&mut self, event: &Event<'_>) -> Result<(), Error> {
        let mut line = serde_json::to_vec(event)
            .map_err(|error| Error::io("write", &self.path)(error.into()))?;
        line.push(b'\n');
        self.file
            .write_all(&line)
            .map_err(Error::io("write", &self.path))
    }
}

/// Whether the file ends in the middle of a line.
fn torn(file: &mut File) -> std::io::Result<bool> {
    if file.seek(SeekFrom::End(0))? == 0 {
        return Ok(false);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

/// The events that count, in order: what was redone after a resumption is dropped, and so are
/// lines a kill left unfinished.
///
/// # Errors
/// When the log cannot be read.
pub fn history(dir: &Path) -> Result<Vec<Value>, Error> {
    let path = dir.join(LOG_FILE);
    let text = std::fs::read(&path).map_err(Error::io("read", &path))?;
    let mut events: Vec<Value> = Vec::new();
    for line in text.split(|&byte| byte == b'\n') {
        let Ok(event) = serde_json::from_slice::<Value>(line) else {
            continue;
        };
        match event["event"].as_str() {
            Some("start") => events.clear(),
            Some("resume") => {
                let resumed = event["step"].as_u64();
                events.retain(|earlier| earlier["step"].as_u64() <= resumed);
            }
            _ => {}
        }
        events.push(event);
    }
    Ok(events)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_forgets_what_was_redone() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let lines = [
            r#"{"event":"start","steps":9}"#,
            r#"{"event":"step","step":1,"loss":3.0}"#,
            r#"{"event":"step","step":2,"loss":2.0}"#,
            r#"{"event":"step","st"#,
        ];
        std::fs::write(dir.path().join(LOG_FILE), lines.join("\n")).expect("writes");
        let mut log = Log::open(dir.path()).expect("opens");
        let config = TrainConfig::new(9, 1, crate::Optimizer::adamw(1e-3));
        log.write(&Event::Resume(Chapter {
            step: 1,
            steps: 9,
            parameters: 1,
            flops_per_token: 6.0,
            ranks: 1,
            threads: 1,
            data: "d",
            config: &config,
            version: "0",
        }))
        .expect("writes");
        log.write(&Event::End {
            step: 2,
            stopped: true,
        })
        .expect("writes");

        let kept: Vec<_> = history(dir.path())
            .expect("reads")
            .iter()
            .map(|event| format!("{} {}", event["event"], event["step"]))
            .collect();
        let expected = [
            r#""start" null"#,
            r#""step" 1"#,
            r#""resume" 1"#,
            r#""end" 2"#,
        ];
        assert_eq!(kept, expected);
    }
}
