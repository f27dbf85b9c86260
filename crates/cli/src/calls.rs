//! `cwm trace FILE --calls CALLS`: many calls, a line of JSON for each.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use cwm_tracer::{Batch, BatchOptions, Call, Program, Run, Values};
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Value as Json, json};

use crate::dialect::{Dialect, Form};
use crate::many::ManyArgs;
use crate::program::{ProgramArgs, RunArgs, read};
use crate::progress;

/// What is to be done.
pub(crate) struct Job<'a> {
    pub(crate) program: &'a ProgramArgs,
    pub(crate) calls: &'a Path,
    pub(crate) arguments: &'a [String],
    pub(crate) run: &'a RunArgs,
    pub(crate) many: &'a ManyArgs,
    pub(crate) form: Form,
    pub(crate) out: Option<&'a Path>,
}

/// A line of the file of calls.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    function: String,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    kwargs: Pairs,
}

/// The members of a JSON object in the order in which they stand there.
#[derive(Default)]
struct Pairs(Vec<(String, String)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Pairs;
            fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
                to.write_str("an object of Python expressions as text")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs: Vec<(String, String)> = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, String>()? {
                    if pairs.iter().any(|(known, _)| *known == name) {
                        return Err(A::Error::custom(format!("`{name}` is given twice")));
                    }
                    pairs.push((name, value));
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

/// Calls made between two steps of the progress bar.
const STEP: usize = 500;

/// Makes the calls and writes their traces.
pub(crate) fn run(job: &Job<'_>) -> Result<()> {
    let (calls, bad_lines) = read_calls(job.calls)?;
    let source = job.program.source()?;
    let (stdin, interpreter, limits) = job.run.parts()?;
    let options = BatchOptions {
        limits,
        values: job.many.values.map_or(Values::Repr, Values::from),
        double_run: job.many.double_run,
        check_untraced: job.many.check_untraced,
        ..BatchOptions::default()
    };
    let mut batch = Batch::start(&interpreter, options)?;
    let program = Program {
        file: &job.program.file_text(),
        source: &source,
        stdin: &stdin,
        arguments: job.arguments,
    };
    let mut output = Output::open(job.out)?;
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut events = 0;
    let bar = progress::bar(calls.len() as u64, "call");
    for (at, chunk) in calls.chunks(STEP).enumerate() {
        let some: Vec<_> = chunk.iter().map(|(_, call)| call.clone()).collect();
        let runs = batch.calls(&program, &some)?;
        for (offset, ((line, call), run)) in chunk.iter().zip(&runs).enumerate() {
            *counts.entry(run.outcome.kind()).or_default() += 1;
            events += run.trace.as_ref().map_or(0, |trace| trace.events.len());
            let index = at * STEP + offset;
            output.line(&entry(index, *line, call, run, &job.form)?)?;
        }
        bar.inc(chunk.len() as u64);
    }
    bar.finish_and_clear();
    output.close()?;
    let summary = json!({
        "calls": calls.len(),
        "bad_lines": bad_lines,
        "events": events,
        "outcomes": counts,
    });
    if job.many.json {
        println!("{summary}");
    } else {
        eprintln!("{} calls, {events} events", calls.len());
        for (kind, count) in &counts {
            eprintln!("  {kind}: {count}");
        }
        if bad_lines > 0 {
            eprintln!("  lines left out: {bad_lines}");
        }
    }
    Ok(())
}

/// The calls with the numbers of their lines, and how many lines are none.
fn read_calls(path: &Path) -> Result<(Vec<(usize, Call)>, usize)> {
    let bytes = read(path)?;
    let mut calls = Vec::new();
    let mut bad_lines = 0;
    for (index, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
        if line.trim_ascii().is_empty() {
            continue;
        }
        match serde_json::from_slice::<Line>(line) {
            Ok(line) => calls.push((index + 1, call(line))),
            Err(error) => {
                bad_lines += 1;
                let (number, shown) = (index + 1, path.display());
                eprintln!("warning: line {number} of `{shown}` is no call and left out: {error}");
            }
        }
    }
    Ok((calls, bad_lines))
}

/// The call that a line asks for. An expression stands in parentheses if it could be read as anything
/// else than one argument; so a wrong one is an error of its own call.
fn call(line: Line) -> Call {
    let is_plain = |text: &&str| {
        let plain = |c: char| c.is_alphanumeric() || "_.'\" +-".contains(c);
        !text.is_empty() && text.chars().all(plain)
    };
    let one = |text: &str| match Some(text.trim()).filter(is_plain) {
        Some(text) => text.to_owned(),
        // A comment ends with its line.
        None if text.contains('#') => format!("({text}\n)"),
        None => format!("({text})"),
    };
    let mut args: Vec<_> = line.args.iter().map(|text| one(text)).collect();
    for (name, text) in &line.kwargs.0 {
        let is_name = name.chars().all(|c| c.is_alphanumeric() || c == '_') && !name.is_empty();
        args.push(match is_name {
            true => format!("{name}={}", one(text)),
            false => format!("**{{{}: {}}}", json!(name), one(text)),
        });
    }
    Call {
        function: line.function,
        args: args.join(", "),
    }
}

/// The line of output for a call.
fn entry(index: usize, line: usize, call: &Call, run: &Run, form: &Form) -> Result<Json> {
    let trace = match (&run.trace, form.dialect()) {
        (None, _) => Json::Null,
        (Some(trace), Dialect::Json) => serde_json::to_value(trace)?,
        (Some(trace), _) => String::from_utf8(form.render(trace, index as u64)?)?.into(),
    };
    Ok(json!({
        "index": index,
        "line": line,
        "function": call.function,
        "args": call.args,
        "outcome": run.outcome.kind(),
        "detail": run.outcome.detail(),
        "trace": trace,
    }))
}

/// Standard output, or a file that appears when it is whole.
enum Output {
    Standard(BufWriter<std::io::Stdout>),
    File {
        file: BufWriter<File>,
        partial: PathBuf,
        path: PathBuf,
    },
}

impl Output {
    fn open(path: Option<&Path>) -> Result<Self> {
        let Some(path) = path else {
            return Ok(Self::Standard(BufWriter::new(std::io::stdout())));
        };
        let mut partial = path.to_owned().into_os_string();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        let shown = partial.display();
        let file = File::create(&partial).with_context(|| format!("cannot write `{shown}`"))?;
        Ok(Self::File {
            file: BufWriter::with_capacity(1 << 20, file),
            partial,
            path: path.to_owned(),
        })
    }

    fn line(&mut self, line: &Json) -> Result<()> {
        let out: &mut dyn Write = match self {
            Self::Standard(out) => out,
            Self::File { file, .. } => file,
        };
        serde_json::to_writer(&mut *out, line)?;
        Ok(out.write_all(b"\n")?)
    }

    fn close(self) -> Result<()> {
        match self {
            Self::Standard(mut out) => out.flush()?,
            Self::File {
                mut file,
                partial,
                path,
            } => {
                file.flush()?;
                let shown = path.display();
                std::fs::rename(&partial, &path)
                    .with_context(|| format!("cannot write `{shown}`"))?;
            }
        }
        Ok(())
    }
}
