//! `cwm eval cruxeval`: what does `f(INPUT)` return?
//!
//! In [`Mode::Trace`] the model steps through the call and its return value is
//! the answer; the teacher-forced figures come from real runs of the items. In
//! [`Mode::Direct`] the model must name the value at once.

use std::sync::Arc;

use cwm_engine::live::{Landing, Predictor, literal_repr};
use cwm_engine::{BackendError, Engine};
use cwm_tokenizer::nano::Vocabulary;
use cwm_trace::live::{Ahead, Document};
use cwm_trace::{Entry, Trace};
use cwm_tracer::{Interpreter, Limits, Request, Worker};
use serde::Deserialize;

use crate::score::answer;
use crate::traces::evaluate_document;
use crate::{Report, parallel};

/// One item of the benchmark.
#[derive(Clone, Debug, Deserialize)]
pub struct Item {
    /// Source that defines `f`.
    pub code: String,
    /// Arguments of the call, as Python source.
    pub input: String,
    /// What it returns, as Python source.
    pub output: String,
    /// Name of the item.
    pub id: String,
}

impl Item {
    /// The call the benchmark asks about: its functions are all called `f`.
    fn entry(&self) -> Entry {
        Entry::Call {
            function: "f".to_owned(),
            args: self.input.clone(),
        }
    }
}

/// How the model answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// By a predicted run, frame by frame.
    Trace,
    /// By the return value alone.
    Direct,
}

/// Why an evaluation could not begin, or not be ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A line of the file is no item.
    #[error("line {line} is not a CruxEval item (keys code, input, output, id): {reason}")]
    Item {
        /// 1-based line.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// The items could not be run for real.
    #[error("cannot record the items' real runs: {0}")]
    Tracer(#[from] cwm_tracer::Error),
    /// The engine's back end failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

/// Reads items, one JSON object a line.
///
/// # Errors
/// [`Error::Item`] at the first line that is none.
pub fn read(text: &str) -> Result<Vec<Item>, Error> {
    let lines = text
        .lines()
        .enumerate()
        .filter(|(_, l)| !l.trim().is_empty());
    lines
        .map(|(i, line)| {
            serde_json::from_str(line).map_err(|e| Error::Item {
                line: i + 1,
                reason: e.to_string(),
            })
        })
        .collect()
}

/// Evaluates a model.
///
/// # Errors
/// [`Error::Tracer`] when, in trace mode, the interpreter cannot be started or is lost, and
/// [`Error::Backend`].
pub fn evaluate(
    engine: &Arc<Engine>,
    vocabulary: &Arc<Vocabulary>,
    items: &[Item],
    mode: Mode,
    interpreter: impl Fn() -> Result<Interpreter, cwm_tracer::Error>,
    threads: usize,
    done: impl Fn(usize) + Sync,
) -> Result<Report, Error> {
    let documents = match mode {
        Mode::Trace => {
            let runs = record(items, &interpreter()?)?.into_iter();
            runs.map(|run| Some(Document::from_trace(&run?))).collect()
        }
        Mode::Direct => vec![None; items.len()],
    };
    let one = |index: usize| match &documents[index] {
        Some(document) => evaluate_document(engine, vocabulary, document),
        None if mode == Mode::Direct => direct(engine, vocabulary, &items[index]),
        None => Ok(wrong(&items[index])),
    };
    let mut total = Report::default();
    for report in parallel::map(items.len(), threads, one, done) {
        total.merge(&report?);
    }
    Ok(total)
}

/// The real run of each item; `None` for one that cannot be run.
///
/// # Errors
/// [`Error::Tracer`] when the interpreter cannot be started or is lost.
pub fn record(items: &[Item], interpreter: &Interpreter) -> Result<Vec<Option<Trace>>, Error> {
    let mut worker = Worker::start(interpreter, &Limits::default())?;
    let one = |item: &Item| {
        let request = Request {
            file: "item.py",
            source: &item.code,
            entry: item.entry(),
            stdin: b"",
            arguments: &[],
        };
        match worker.trace(&request) {
            Ok(trace) => Ok(Some(trace)),
            Err(
                cwm_tracer::Error::NotPython { .. }
                | cwm_tracer::Error::MissingEntry { .. }
                | cwm_tracer::Error::BadArguments { .. },
            ) => Ok(None),
            Err(error) => Err(Error::Tracer(error)),
        }
    };
    items.iter().map(one).collect()
}

fn wrong(item: &Item) -> Report {
    let mut report = Report {
        items: 1,
        unreadable: 1,
        ..Report::default()
    };
    report.output_exact.add(false);
    report.trace_exact.add(false);
    report.valid_format.add(false);
    if !is_echo(item) {
        report.output_exact_non_echo.add(false);
    }
    report
}

fn direct(
    engine: &Arc<Engine>,
    vocabulary: &Arc<Vocabulary>,
    item: &Item,
) -> Result<Report, BackendError> {
    let mut report = Report {
        items: 1,
        ..Report::default()
    };
    let told = Predictor::new(engine.clone(), vocabulary.clone(), &item.code).and_then(|p| {
        let (point, _) = p.start(&item.entry())?;
        if !p.can_jump() {
            return p.answer(&point);
        }
        let landing = p.jump(&point, Ahead::Leave)?.landing;
        let value = match landing {
            Landing::State(event) => event.value,
            Landing::Exit(_) => None,
        };
        Ok(value.map_or(String::new(), |value| value.repr.to_string()))
    });
    let told = answer(told)?;
    let expected = literal_repr(&item.output).unwrap_or_else(|_| item.output.clone());
    let is_right = told.as_ref() == Some(&expected);
    report.valid_format.add(told.is_some());
    report.output_exact.add(is_right);
    if !is_echo(item) {
        report.output_exact_non_echo.add(is_right);
    }
    Ok(report)
}

/// Whether the answer is the first argument as written.
fn is_echo(item: &Item) -> bool {
    let first = literal_repr(&item.input).or_else(|_| {
        // More than one argument: they read as the items of a tuple.
        literal_repr(&format!("({},)", item.input))
    });
    let expected = literal_repr(&item.output).unwrap_or_else(|_| item.output.clone());
    first.is_ok_and(|f| f == expected || f.starts_with(&format!("({expected},")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(input: &str, output: &str) -> Item {
        Item {
            code: String::new(),
            input: input.into(),
            output: output.into(),
            id: "x".into(),
        }
    }

    #[test]
    fn echo_is_the_first_argument() {
        assert!(is_echo(&item("'a'", "\"a\"")));
        assert!(is_echo(&item("[1,2], 3", "[1, 2]")));
        assert!(!is_echo(&item("[1,2], 3", "3")));
        assert!(!is_echo(&item("'ab'", "'a'")));
    }

    #[test]
    fn bad_lines_are_named() {
        let error = read("{\"code\":\"\",\"input\":\"\",\"output\":\"\",\"id\":\"a\"}\n\n{}\n");
        assert!(error.unwrap_err().to_string().starts_with("line 3 is not"));
    }
}
