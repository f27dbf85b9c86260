//! `cwm trace view`.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use cwm_trace::statistics::{Report, Statistics, Summary};
use cwm_trace::{End, Entry, Trace, columns, jsonl, listing, live, parquet, perfetto};

use crate::progress;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A trace (dialects json, live and parquet), a file of generated programs or of calls, or a
    /// folder of such files
    #[arg(value_name = "TRACE")]
    path: PathBuf,
    /// Of a file of generated programs or of calls, show the one with this number, from 0
    #[arg(long, value_name = "N")]
    record: Option<usize>,
    /// Write a timeline for ui.perfetto.dev or about:tracing instead of a listing
    #[arg(long, value_name = "PATH")]
    perfetto: Option<PathBuf>,
    /// Cut values at this many characters
    #[arg(long, value_name = "N", default_value_t = listing::DEFAULT_VALUE_WIDTH)]
    value_width: usize,
    /// Statistics as JSON
    #[arg(long)]
    json: bool,
}

/// What a file holds.
enum Content {
    Trace(Box<Trace>),
    /// Generated programs, or calls, with their runs, a line each.
    Records,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    if args.path.is_dir() {
        return statistics(&folder(&args.path)?, args);
    }
    match content(&args.path)? {
        Content::Trace(trace) => show(&trace, args),
        Content::Records => match args.record {
            Some(number) => show(&record(&args.path, number)?, args),
            None => statistics(std::slice::from_ref(&args.path), args),
        },
    }
}

fn show(trace: &Trace, args: &Args) -> Result<()> {
    match &args.perfetto {
        Some(path) => {
            let shown = path.display();
            let text = serde_json::to_vec(&perfetto::perfetto(trace))?;
            std::fs::write(path, text).with_context(|| format!("cannot write `{shown}`"))?;
            eprintln!("wrote `{shown}`; open it at https://ui.perfetto.dev");
        }
        None => {
            let text = listing::listing(trace, args.value_width);
            std::io::stdout().lock().write_all(text.as_bytes())?;
        }
    }
    Ok(())
}

/// The `.json`, `.jsonl`, `.live`, `.parquet` and `.txt` files of a folder, sorted.
fn folder(dir: &Path) -> Result<Vec<PathBuf>> {
    let shown = dir.display();
    let entries = std::fs::read_dir(dir).with_context(|| format!("cannot read `{shown}`"))?;
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let known = ["json", "jsonl", "live", "parquet", "txt"];
        let extension = path.extension().and_then(|e| e.to_str());
        // The list that `cwm trace --pytest` writes is no trace.
        let is_index = path.file_name().is_some_and(|name| name == "index.jsonl");
        if path.is_file() && !is_index && extension.is_some_and(|e| known.contains(&e)) {
            paths.push(path);
        }
    }
    if paths.is_empty() {
        bail!(
            "there are no traces in `{shown}` (files that end in .json, .jsonl, .live, .parquet or .txt)"
        );
    }
    paths.sort();
    Ok(paths)
}

fn open(path: &Path) -> Result<BufReader<File>> {
    let file = File::open(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    Ok(BufReader::with_capacity(1 << 20, file))
}

/// Tells what a file is by its first line and reads it if it is a trace. A
/// trace that is cut off is taken as far as it goes, with a warning.
fn content(path: &Path) -> Result<Content> {
    let shown = path.display();
    let mut first = Vec::new();
    open(path)?.read_until(b'\n', &mut first)?;
    if first.starts_with(columns::MAGIC) {
        let trace = parquet::read(File::open(path)?);
        let trace = trace.with_context(|| format!("cannot use `{shown}`"))?;
        return Ok(Content::Trace(Box::new(trace)));
    }
    if first.starts_with(b"<|live|>") {
        let text = std::fs::read_to_string(path)?;
        let parsed = live::parse(&text);
        if let Some(broken) = parsed.broken {
            eprintln!("warning: `{shown}`: {broken}; showing what is good");
        }
        return Ok(Content::Trace(Box::new(from_live(path, parsed.document))));
    }
    if first.starts_with(b"<|begin_of_text|>") {
        bail!(
            "`{shown}` is in the dialect cwm or nd, which do not say enough to be shown; \
             record it again with `--dialect json` or `--dialect live`"
        );
    }
    let stamp: serde_json::Value = serde_json::from_slice(&first).unwrap_or_default();
    if stamp.get("trace").is_some() {
        return Ok(Content::Records);
    }
    match jsonl::read(open(path)?) {
        Ok(trace) => Ok(Content::Trace(Box::new(trace))),
        Err(mut error) => match error.partial.take() {
            Some(partial) => {
                eprintln!("warning: `{shown}`: {error}; showing what is good");
                Ok(Content::Trace(partial))
            }
            None => Err(error).with_context(|| format!("cannot use `{shown}`")),
        },
    }
}

/// The `live` text does not say which interpreter ran the program.
fn from_live(path: &Path, document: live::Document) -> Trace {
    let name = path.file_name().unwrap_or_default();
    Trace {
        python: String::new(),
        file: name.to_string_lossy().into_owned(),
        source: document.source,
        other_files: Vec::new(),
        entry: Entry::Module,
        thread: None,
        functions: document.functions,
        events: document.events,
        end: match document.complete {
            true => End::Finished,
            false => End::Crashed("the recording has no end".to_owned()),
        },
        stdout: String::new(),
        stderr: String::new(),
    }
}

fn record(path: &Path, number: usize) -> Result<Trace> {
    match records(path)?.nth(number) {
        Some(record) => match record? {
            Some(trace) => Ok(trace),
            None => bail!("run number {number} of `{}` has no trace", path.display()),
        },
        None => bail!("`{}` has no program number {number}", path.display()),
    }
}

/// Programs and calls with their runs: of each line the trace, whatever else the line says.
fn records(path: &Path) -> Result<impl Iterator<Item = Result<Option<Trace>>>> {
    #[derive(serde::Deserialize)]
    struct Record {
        trace: Option<Trace>,
    }
    let shown = path.display().to_string();
    Ok(open(path)?.lines().enumerate().map(move |(index, line)| {
        let context = || format!("line {} of `{shown}` is no recorded run", index + 1);
        let record: Record = serde_json::from_str(&line?).with_context(context)?;
        Ok(record.trace)
    }))
}

fn statistics(paths: &[PathBuf], args: &Args) -> Result<()> {
    if args.perfetto.is_some() {
        bail!("--perfetto needs one trace; choose one, or a program with --record");
    }
    let mut statistics = Statistics::default();
    let bar = progress::bar(paths.len() as u64, "read");
    for path in bar.wrap_iter(paths.iter()) {
        match content(path)? {
            Content::Trace(trace) => statistics.add(&trace),
            Content::Records => {
                for record in records(path)? {
                    if let Some(trace) = record? {
                        statistics.add(&trace);
                    }
                }
            }
        }
    }
    bar.finish_and_clear();
    let report = statistics.report();
    let text = match args.json {
        true => serde_json::to_string(&report)? + "\n",
        false => table(&report),
    };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(())
}

fn table(report: &Report) -> String {
    let mut out = format!(
        "{} traces, {} events, {} functions, {} values cut\n",
        report.traces, report.events, report.functions, report.truncated_values
    );
    let mut counts = |title: &str, counts: Vec<(&str, u64)>| {
        out.push_str(&format!("\n{title}\n"));
        for (name, n) in counts {
            out.push_str(&format!("  {name:<16} {n:>12}\n"));
        }
    };
    let named = |map: &std::collections::BTreeMap<&'static str, u64>| {
        map.iter().map(|(&name, &n)| (name, n)).collect()
    };
    counts("events by kind", named(&report.kinds));
    counts("traces by end", named(&report.ends));
    let pythons = report.pythons.iter().map(|(name, &n)| (name.as_str(), n));
    counts("traces by Python", pythons.collect());
    out.push_str("\n                      min   median     mean      p90      max\n");
    for (name, s) in [
        ("events a trace", report.events_per_trace),
        ("deepest stack", report.depth_per_trace),
        ("variables a line", report.locals_per_line),
        ("bytes a value", report.value_bytes),
    ] {
        let Summary {
            min,
            median,
            mean,
            p90,
            max,
        } = s;
        out.push_str(&format!(
            "{name:<16} {min:>8} {median:>8} {mean:>8.1} {p90:>8} {max:>8}\n"
        ));
    }
    out
}
