//! `cwm data`.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use cwm_data::{Plan, build, fingerprint, read_records};
use cwm_trace::Entry;
use cwm_tracer::Interpreter;

use crate::program::default_threads;
use crate::progress;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Random, terminating programs with their real runs
    Generate(GenerateArgs),
}

#[derive(Args)]
pub(crate) struct GenerateArgs {
    /// Seed: the same seed and count give the same file
    #[arg(long, value_name = "N")]
    seed: u64,
    /// Programs to write
    #[arg(long, value_name = "N")]
    count: usize,
    /// Where to write them, one JSON object a line
    #[arg(long, value_name = "FILE.jsonl")]
    out: PathBuf,
    /// Weights of the four levels of difficulty
    #[arg(long, value_name = "A,B,C,D", default_value = "25,35,25,15", value_parser = parse_mix)]
    levels: [u32; 4],
    /// Weight of drills beside the levels: single operations in a row, for training only
    #[arg(long, value_name = "N", default_value_t = 0)]
    drills: u32,
    /// Scripts that must not be generated, whatever their names are called
    #[arg(long, value_name = "FILE", num_args = 1..)]
    exclude: Vec<PathBuf>,
    /// Recorded programs that must not be generated again, whatever their names are called
    #[arg(long, value_name = "FILE.jsonl", num_args = 1..)]
    exclude_data: Vec<PathBuf>,
    /// Python interpreter, 3.8 or later [default: python3 on the PATH]
    #[arg(long, value_name = "PATH")]
    python: Option<PathBuf>,
    /// Programs run at the same time [default: one per processor]
    #[arg(long)]
    threads: Option<usize>,
}

fn parse_mix(text: &str) -> Result<[u32; 4], String> {
    let weights: Result<Vec<u32>, _> = text.split(',').map(|w| w.trim().parse()).collect();
    weights
        .ok()
        .and_then(|w| w.try_into().ok())
        .ok_or_else(|| format!("`{text}` is not four whole numbers such as 25,35,25,15"))
}

pub(crate) fn run(command: &Command) -> Result<()> {
    match command {
        Command::Generate(args) => generate(args),
    }
}

fn generate(args: &GenerateArgs) -> Result<()> {
    let mut excluded = HashSet::new();
    for path in &args.exclude {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read `{}`", path.display()))?;
        excluded.insert(fingerprint(&text, &Entry::Module));
    }
    for path in &args.exclude_data {
        let shown = path.display();
        let file = File::open(path).with_context(|| format!("cannot read `{shown}`"))?;
        for record in read_records(BufReader::new(file)) {
            let record = record.with_context(|| format!("cannot use `{shown}`"))?;
            excluded.insert(fingerprint(&record.trace.source, &record.trace.entry));
        }
    }
    let plan = Plan {
        seed: args.seed,
        count: args.count,
        mix: args.levels,
        drills: args.drills,
        threads: args.threads.unwrap_or_else(default_threads),
        excluded,
    };
    let interpreter = Interpreter::find(args.python.as_deref())?;
    let mut partial = args.out.clone().into_os_string();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let file =
        File::create(&partial).with_context(|| format!("cannot write `{}`", partial.display()))?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    let bar = progress::bar(args.count as u64, "generate");
    let report = build(&plan, &interpreter, &mut out, |n| {
        bar.set_position(n as u64)
    })?;
    bar.finish_and_clear();
    drop(out);
    std::fs::rename(&partial, &args.out)
        .with_context(|| format!("cannot write `{}`", args.out.display()))?;
    eprintln!(
        "{} programs with {} frames out of {} candidates",
        report.kept, report.frames, report.candidates
    );
    for (reason, count) in &report.rejected {
        eprintln!("  left out, {reason}: {count}");
    }
    eprintln!("sha256 {}", report.sha256);
    Ok(())
}
