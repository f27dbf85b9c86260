//! `cwm eval`.

mod suite;

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::{Args, Subcommand, ValueEnum};
use cwm_data::open_records;
use cwm_eval::{Report, cruxeval, traces};
use cwm_tracer::Interpreter;

use crate::device::Device;
use crate::model::{Loaded, ModelArgs};
use crate::program::{default_threads, read};
use crate::progress;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Recorded runs: teacher-forced and free-running
    Traces(TracesArgs),
    /// CruxEval output prediction
    Cruxeval(CruxevalArgs),
    /// One model on many sets, every figure broken down
    Suite(suite::SuiteArgs),
}

#[derive(Args)]
pub(crate) struct Common {
    #[command(flatten)]
    model: ModelArgs,
    /// Items to evaluate at most, from the start of the file
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Where the model is computed: cpu, cuda, or cuda:NUMBER for one of several GPUs
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: Device,
    /// Threads, each with a program of its own [default: one per processor; with a GPU, which takes their
    /// tokens together, at least 32]
    #[arg(long)]
    threads: Option<usize>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Programs at a time on a GPU, where nothing else is said: a pass costs about the same for one as for so
/// many, since the weights are read once.
const PROGRAMS_OF_A_GPU: usize = 32;

#[derive(Args)]
pub(crate) struct TracesArgs {
    /// Recorded runs (JSON lines of `cwm data generate`, or a shard of `cwm data build`)
    #[arg(long, value_name = "FILE.jsonl")]
    data: PathBuf,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
pub(crate) struct CruxevalArgs {
    /// Items: JSON lines with code, input, output, id
    #[arg(long, value_name = "FILE.jsonl")]
    data: PathBuf,
    /// How the model answers
    #[arg(long, value_enum, default_value_t = Mode::Trace)]
    mode: Mode,
    /// Python interpreter for the items' real runs [default: python3 on the PATH]
    #[arg(long, value_name = "PATH")]
    python: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

#[derive(Clone, Copy, ValueEnum)]
enum Mode {
    /// Frame by frame
    Trace,
    /// The return value at once
    Direct,
}

pub(crate) fn run(command: &Command) -> Result<()> {
    match command {
        Command::Traces(args) => run_traces(args),
        Command::Cruxeval(args) => run_cruxeval(args),
        Command::Suite(args) => suite::run(args),
    }
}

fn run_traces(args: &TracesArgs) -> Result<()> {
    let shown = args.data.display();
    let mut recorded = Vec::new();
    let limit = args.common.limit.unwrap_or(usize::MAX);
    for record in open_records(&args.data)?.take(limit) {
        recorded.push(record?.trace);
    }
    ensure!(!recorded.is_empty(), "`{shown}` holds no recorded programs");
    let loaded = args.common.load()?;
    let bar = progress::bar(recorded.len() as u64, "eval");
    let done = |n: usize| bar.set_position(n as u64);
    let threads = args.common.threads();
    let report = traces::evaluate(&loaded.engine, &loaded.vocabulary, &recorded, threads, done)?;
    bar.finish_and_clear();
    loaded.tell_notes();
    print(&report, args.common.json)?;
    Ok(())
}

fn run_cruxeval(args: &CruxevalArgs) -> Result<()> {
    let shown = args.data.display();
    let text = String::from_utf8(read(&args.data)?)
        .with_context(|| format!("`{shown}` is not UTF-8 text"))?;
    let mut items = cruxeval::read(&text).with_context(|| format!("cannot use `{shown}`"))?;
    items.truncate(args.common.limit.unwrap_or(usize::MAX));
    ensure!(!items.is_empty(), "`{shown}` holds no items");
    let loaded = args.common.load()?;
    let bar = progress::bar(items.len() as u64, "eval");
    let mode = match args.mode {
        Mode::Trace => cruxeval::Mode::Trace,
        Mode::Direct => cruxeval::Mode::Direct,
    };
    let report = cruxeval::evaluate(
        &loaded.engine,
        &loaded.vocabulary,
        &items,
        mode,
        || Interpreter::find(args.python.as_deref()),
        args.common.threads(),
        |n| bar.set_position(n as u64),
    )?;
    bar.finish_and_clear();
    loaded.tell_notes();
    print(&report, args.common.json)?;
    Ok(())
}

impl Common {
    fn load(&self) -> Result<Loaded> {
        self.model.load_on(self.device)
    }

    fn threads(&self) -> usize {
        self.threads.unwrap_or_else(|| match self.device {
            Device::Cpu => default_threads(),
            Device::Cuda(_) => default_threads().max(PROGRAMS_OF_A_GPU),
        })
    }
}

fn print(report: &Report, json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if json {
        return writeln!(out, "{}", report.to_json());
    }
    writeln!(out, "{:<24} {}", "items", report.items)?;
    for (name, rate) in report.rates() {
        match (rate.value(), rate.wilson()) {
            (Some(value), Some((low, high))) => writeln!(
                out,
                "{name:<24} {value:.4}  ({} of {}; 95% {low:.4} to {high:.4})",
                rate.hits, rate.count
            )?,
            _ => writeln!(out, "{name:<24} not measured")?,
        }
    }
    if let Some(mean) = report.mean_frames_before_divergence() {
        writeln!(out, "{:<24} {mean:.1}", "frames before divergence")?;
    }
    if report.unreadable > 0 {
        writeln!(
            out,
            "{:<24} {} (counted as wrong)",
            "unreadable items", report.unreadable
        )?;
    }
    Ok(())
}
