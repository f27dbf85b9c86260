//! `cwm trace --pytest`: a trace for each test, and for each call if asked.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use cwm_trace::Trace;
use cwm_trace::cut::{Cut, calls, cut};
use cwm_trace::listing::ending;
use cwm_tracer::{
    Interpreter, Limits, Mode, Test, TestOptions, TestOutput, TestsReport, Values, trace_tests,
};
use serde_json::json;

use crate::dialect::Form;
use crate::many::ManyArgs;
use crate::program::RunArgs;

/// What is to be done.
pub(crate) struct Job<'a> {
    pub(crate) arguments: &'a [String],
    pub(crate) run: &'a RunArgs,
    pub(crate) many: &'a ManyArgs,
    pub(crate) form: Form,
    pub(crate) out: &'a Path,
}

/// The list of traces in a folder of them.
const INDEX: &str = "index.jsonl";

/// Runs the tests and writes the folder.
pub(crate) fn run(job: &Job<'_>) -> Result<()> {
    let many = job.many;
    let step_in = many.step_in.unwrap_or(1.0);
    ensure!(
        (0.0..=1.0).contains(&step_in),
        "--step-in is a probability between 0 and 1, not {step_in}"
    );
    let interpreter = Interpreter::find(job.run.python.as_deref())?;
    let options = TestOptions {
        roots: roots(&many.include)?,
        mode: Mode::Direct,
        values: many.values.map_or(Values::Safe, Values::from),
        max_events: job.run.max_events,
        max_value_chars: Limits::default().max_value_chars,
        output: if many.json {
            TestOutput::Errors
        } else {
            TestOutput::AsOurs
        },
    };
    let mut folder = Folder {
        path: job.out,
        index: index(job.out)?,
        form: job.form,
        cut: Cut {
            depth: many.stack_depth,
            step_in,
            seed: many.seed.unwrap_or(0),
        },
        per_call: many.per_call.unwrap_or(0),
        files: 0,
        events: 0,
        outcomes: BTreeMap::new(),
    };
    // An interrupt is for pytest to handle: what it has recorded by then is written.
    ctrlc::set_handler(|| {}).context("cannot handle interrupts")?;
    let report = trace_tests(&interpreter, &options, job.arguments, |test| {
        folder.add(test)
    })?;
    folder.index.flush()?;
    check(&report, &folder)?;
    let summary = json!({
        "pytest": report.pytest,
        "status": report.status,
        "traces": folder.files,
        "events": folder.events,
        "outcomes": folder.outcomes,
    });
    if many.json {
        println!("{summary}");
    } else {
        let shown = job.out.display();
        eprintln!(
            "{} traces with {} events in `{shown}`",
            folder.files, folder.events
        );
    }
    Ok(())
}

/// What is not as it should be after a run.
fn check(report: &TestsReport, folder: &Folder<'_>) -> Result<()> {
    match report.status {
        Some(0 | 1) => {}
        Some(2) => eprintln!("warning: pytest was interrupted, or could not collect all tests"),
        Some(5) => bail!("pytest found no tests"),
        Some(status) => bail!("pytest ended with status {status}; it said why above"),
        None => {
            let process = report.process;
            eprintln!(
                "warning: the interpreter died during the tests ({process}); what was recorded is kept"
            );
        }
    }
    if folder.events == 0 {
        eprintln!(
            "warning: nothing was recorded; tests that run in other processes are not, nor is code outside \
             of `--include` (the current folder)"
        );
    }
    Ok(())
}

/// The files and folders to record, which must exist.
fn roots(include: &[PathBuf]) -> Result<Vec<PathBuf>> {
    if include.is_empty() {
        let current = std::env::current_dir().context("cannot find the current folder")?;
        return Ok(vec![current]);
    }
    let absolute = |path: &PathBuf| {
        let shown = path.display();
        ensure!(path.exists(), "there is no `{shown}` to include");
        std::path::absolute(path).with_context(|| format!("cannot find `{shown}`"))
    };
    include.iter().map(absolute).collect()
}

/// A new folder with an empty index; one that holds an index already is not touched.
fn index(out: &Path) -> Result<BufWriter<File>> {
    let shown = out.display();
    std::fs::create_dir_all(out).with_context(|| format!("cannot make the folder `{shown}`"))?;
    let path = out.join(INDEX);
    let file = File::create_new(&path).with_context(|| {
        format!(
            "cannot write `{}`; choose a folder that holds no traces",
            path.display()
        )
    })?;
    Ok(BufWriter::new(file))
}

/// The folder that is being written.
struct Folder<'a> {
    path: &'a Path,
    index: BufWriter<File>,
    form: Form,
    cut: Cut,
    per_call: usize,
    files: usize,
    events: usize,
    outcomes: BTreeMap<String, usize>,
}

impl Folder<'_> {
    fn add(&mut self, test: Test) -> io::Result<()> {
        *self.outcomes.entry(test.outcome.clone()).or_default() += 1;
        let calls = calls(&test.trace, self.per_call);
        self.write(&test, None, &test.trace)?;
        for (number, call) in calls.iter().enumerate() {
            self.write(&test, Some(number), call)?;
        }
        Ok(())
    }

    /// Writes a trace, unless it is empty, and its line of the index.
    fn write(&mut self, test: &Test, call: Option<usize>, whole: &Trace) -> io::Result<()> {
        let part;
        let trace = match self.cut.is_whole() {
            true => whole,
            false => {
                part = cut(whole, &self.cut);
                &part
            }
        };
        let mut file = None;
        if !trace.events.is_empty() {
            let name = format!("{:06}.{}", self.files, self.form.extension());
            let text = self
                .form
                .render(trace, self.files as u64)
                .map_err(io::Error::other)?;
            std::fs::write(self.path.join(&name), text)?;
            self.files += 1;
            self.events += trace.events.len();
            file = Some(name);
        }
        let mut line = json!({
            "test": test.id,
            "outcome": test.outcome,
            "end": ending(&trace.end),
            "file": file,
            "frames": trace.events.len(),
        });
        if let Some(number) = call {
            let first = trace.functions.first();
            line["call"] = number.into();
            line["function"] = first.map_or("", |function| &function.qualname).into();
        }
        serde_json::to_writer(&mut self.index, &line)?;
        self.index.write_all(b"\n")
    }
}
