//! `cwm data`.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, Subcommand, ValueEnum};
use cwm_data::decontaminate::{Report, Summary};
use cwm_data::{
    Benchmarks, Coverage, Evaluator, Made, Mix, Normaliser, Plan, Progress, Recipe, Setup, Source,
    build, build_folder, fingerprint, normalise_program, open_records, open_text, write_record,
};
use cwm_trace::live::Document;
use cwm_trace::{Entry, Trace};
use cwm_tracer::Interpreter;
use serde::Serialize;

use crate::program::default_threads;
use crate::progress;

mod look;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// A folder of shards as a recipe says; stopped, it goes on where it was
    Build(BuildArgs),
    /// What recorded programs hold, in numbers; as a page too
    Stats(look::StatsArgs),
    /// A recorded program and its run
    Show(look::ShowArgs),
    /// Some recorded programs, drawn by chance
    Sample(look::SampleArgs),
    /// Where two sets of recorded programs differ
    Diff(look::DiffArgs),
    /// Texts of a folder: runs in a dialect, prose, changes and so on
    Texts(look::TextsArgs),
    /// Random, terminating programs with their real runs
    Generate(GenerateArgs),
    /// Leave out programs that benchmarks contain
    Decontaminate(DecontaminateArgs),
    /// Write down what the parts of each line's expressions come to
    Work(WorkArgs),
}

#[derive(Args)]
pub(crate) struct WorkArgs {
    /// Recorded programs: JSON lines of `cwm data generate`, a shard, or a folder of `cwm data build`
    #[arg(long, value_name = "PATH")]
    data: PathBuf,
    /// Where to write them with the working of their lines
    #[arg(long, value_name = "FILE.jsonl")]
    out: PathBuf,
    /// Python interpreter, 3.8 or later [default: python3 on the PATH]
    #[arg(long, value_name = "PATH")]
    python: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct DecontaminateArgs {
    /// Recorded programs: JSON lines of `cwm data generate`, shards, or folders of `cwm data build`
    #[arg(long, value_name = "PATH", num_args = 1.., required = true)]
    data: Vec<PathBuf>,
    /// Benchmarks: JSON lines whose fields hold texts and code, also with gzip (.gz)
    #[arg(long, value_name = "FILE.jsonl", num_args = 1.., required = true)]
    against: Vec<PathBuf>,
    /// Where to write the programs that are kept [default: only report]
    #[arg(long, value_name = "FILE.jsonl")]
    out: Option<PathBuf>,
    /// Where to write the report as JSON, with the ids of what was left out
    #[arg(long, value_name = "FILE.json")]
    report: Option<PathBuf>,
    /// Python interpreter, 3.8 or later [default: python3 on the PATH]
    #[arg(long, value_name = "PATH")]
    python: Option<PathBuf>,
    /// The report as JSON on standard output
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(crate) struct BuildArgs {
    /// What to build, as TOML: a seed and sources
    recipe: PathBuf,
    /// Folder for shards and manifest; one that was begun is gone on with
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// Benchmarks besides those of the recipe, whose items are left out: JSON lines, also with gzip (.gz)
    #[arg(long, value_name = "FILE.jsonl", num_args = 1..)]
    against: Vec<PathBuf>,
    /// Python interpreter, 3.8 or later [default: python3 on the PATH]
    #[arg(long, value_name = "PATH")]
    python: Option<PathBuf>,
    /// Programs run at the same time [default: one per processor]
    #[arg(long)]
    threads: Option<usize>,
    /// Folder that keeps fetched packages for the next time [default: `cwm` in the user's cache folder]
    #[arg(long, value_name = "FOLDER")]
    cache: Option<PathBuf>,
    /// Package index, by the simple repository API [default: the one that pip asks]
    #[arg(long, value_name = "URL")]
    index: Option<String>,
    /// The manifest as JSON on standard output
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Distinct {
    /// Among programs of level 5
    Wide,
    /// Among all
    All,
}

impl From<Distinct> for cwm_data::Distinct {
    fn from(distinct: Distinct) -> Self {
        match distinct {
            Distinct::Wide => Self::Wide,
            Distinct::All => Self::All,
        }
    }
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
    /// Weights of the six levels of difficulty, the sixth of long runs; four or five numbers leave the last out
    #[arg(long, value_name = "A,B,C,D,E,F", default_value = "20,25,20,15,20")]
    levels: Mix,
    /// Weight of drills beside the levels: single operations in a row, for training only
    #[arg(long, value_name = "N", default_value_t = 0)]
    drills: u32,
    /// Leave out what is nearly the same as an earlier program: at level 5, or everywhere
    #[arg(long, value_enum, default_value_t = Distinct::Wide)]
    distinct: Distinct,
    /// Scripts that must not be generated, whatever their names are called
    #[arg(long, value_name = "FILE", num_args = 1..)]
    exclude: Vec<PathBuf>,
    /// Recorded programs that must not be generated again, whatever their names are called
    #[arg(long, value_name = "FILE.jsonl", num_args = 1..)]
    exclude_data: Vec<PathBuf>,
    /// Where to write, as JSON, how many of them use each construct, builtin and method
    #[arg(long, value_name = "FILE.json")]
    coverage: Option<PathBuf>,
    /// Python interpreter, 3.8 or later [default: python3 on the PATH]
    #[arg(long, value_name = "PATH")]
    python: Option<PathBuf>,
    /// Programs run at the same time [default: one per processor]
    #[arg(long)]
    threads: Option<usize>,
}

pub(crate) fn run(command: &Command) -> Result<()> {
    match command {
        Command::Build(args) => build_shards(args),
        Command::Stats(args) => look::stats(args),
        Command::Show(args) => look::show(args),
        Command::Sample(args) => look::sample(args),
        Command::Diff(args) => look::diff(args),
        Command::Texts(args) => look::texts(args),
        Command::Generate(args) => generate(args),
        Command::Decontaminate(args) => decontaminate(args),
        Command::Work(args) => work(args),
    }
}

fn work(args: &WorkArgs) -> Result<()> {
    let interpreter = Interpreter::find(args.python.as_deref())?;
    let mut evaluator = Evaluator::start(&interpreter)?;
    let mut out = Partial::create(&args.out)?;
    let bar = progress::spinner("work");
    let (mut programs, mut steps) = (0, 0);
    for record in open_records(&args.data)? {
        let mut record = record?;
        let workings = evaluator.workings(&Document::from_trace(&record.trace));
        record.workings = workings.with_context(|| format!("cannot work out `{}`", record.id))?;
        write_record(&mut out.file, &record)?;
        programs += 1;
        steps += record.workings.values().map(Vec::len).sum::<usize>();
        bar.inc(1);
    }
    bar.finish_and_clear();
    out.keep()?;
    eprintln!("{steps} steps in {programs} programs");
    Ok(())
}

/// What `cwm data decontaminate` reports.
#[derive(Serialize)]
struct Cleaning<'a> {
    benchmarks: BTreeMap<&'a str, &'a Summary>,
    #[serde(flatten)]
    report: &'a Report,
}

fn decontaminate(args: &DecontaminateArgs) -> Result<()> {
    let interpreter = Interpreter::find(args.python.as_deref())?;
    let mut normaliser = Normaliser::start(&interpreter)?;
    let mut benchmarks = Benchmarks::default();
    for path in &args.against {
        let shown = path.display();
        let text = open_text(path).with_context(|| format!("cannot read `{shown}`"))?;
        benchmarks
            .add(&shown.to_string(), text, &mut normaliser)
            .with_context(|| format!("cannot use the benchmark `{shown}`"))?;
    }
    let mut out = args.out.as_deref().map(Partial::create).transpose()?;
    let mut report = Report::default();
    let bar = progress::spinner("decontaminate");
    for path in &args.data {
        for record in open_records(path)? {
            let record = record?;
            let Trace { source, entry, .. } = &record.trace;
            let program = normalise_program(source, entry, &mut normaliser)?;
            let overlap = benchmarks.judge(source, program.as_ref());
            report.count(&record.id, overlap);
            if let (None, Some(out)) = (overlap, &mut out) {
                write_record(&mut out.file, &record)?;
            }
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    if let Some(out) = out {
        out.keep()?;
    }
    let cleaning = Cleaning {
        benchmarks: benchmarks.summaries().collect(),
        report: &report,
    };
    if let Some(path) = &args.report {
        std::fs::write(path, serde_json::to_string_pretty(&cleaning)? + "\n")
            .with_context(|| format!("cannot write `{}`", path.display()))?;
    }
    if args.json {
        println!("{}", serde_json::to_string(&cleaning)?);
        return Ok(());
    }
    for (name, summary) in &cleaning.benchmarks {
        println!(
            "{name}: {} items, {} functions, {} fields of code that are not this Python",
            summary.items, summary.functions, summary.unparsed
        );
    }
    println!("{} of {} programs kept", report.kept, report.programs);
    for (file, overlaps) in &report.left_out {
        for (overlap, ids) in overlaps {
            println!("  left out, {overlap} as in {file}: {}", ids.len());
        }
    }
    Ok(())
}

/// A file that has its name only once it is whole.
pub(crate) struct Partial {
    pub(crate) file: BufWriter<File>,
    partial: PathBuf,
    path: PathBuf,
}

impl Partial {
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let mut partial = path.as_os_str().to_owned();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        let file = File::create(&partial)
            .with_context(|| format!("cannot write `{}`", partial.display()))?;
        Ok(Self {
            file: BufWriter::with_capacity(1 << 20, file),
            partial,
            path: path.to_owned(),
        })
    }

    pub(crate) fn keep(mut self) -> Result<()> {
        let shown = self.path.display();
        self.file
            .flush()
            .and_then(|()| std::fs::rename(&self.partial, &self.path))
            .with_context(|| format!("cannot write `{shown}`"))
    }
}

fn build_shards(args: &BuildArgs) -> Result<()> {
    let shown = args.recipe.display();
    let text = std::fs::read_to_string(&args.recipe)
        .with_context(|| format!("cannot read the recipe `{shown}`"))?;
    let recipe =
        Recipe::parse(&text).with_context(|| format!("cannot use the recipe `{shown}`"))?;
    let setup = Setup {
        interpreter: Interpreter::find(args.python.as_deref())?,
        threads: args.threads.unwrap_or_else(default_threads),
        base: args
            .recipe
            .parent()
            .map_or_else(PathBuf::new, Path::to_owned),
        against: args.against.clone(),
        cache: args.cache.clone().unwrap_or_else(user_cache),
        index: args.index.clone(),
    };
    let counts = recipe.sources.iter().map(Source::count);
    let bar = match counts.sum::<Option<usize>>() {
        Some(total) => progress::bar(total as u64, "build"),
        None => progress::spinner("build"),
    };
    let built = build_folder(&text, &setup, &args.out, |now| {
        bar.set_position(now.records as u64);
        bar.set_message(describe(now));
    })?;
    bar.finish_and_clear();
    for name in &built.damaged {
        eprintln!(
            "note: `{name}` was missing or damaged; it and what depends on it were made anew"
        );
    }
    if args.json {
        serde_json::to_writer_pretty(std::io::stdout().lock(), &built.manifest)?;
        println!();
        return Ok(());
    }
    for made in &built.manifest.sources {
        summarise(made);
    }
    Ok(())
}

fn describe(now: &Progress<'_>) -> String {
    match now.corpora {
        (_, 0) => now.source.to_owned(),
        (begun, all) => format!("{}, package {begun} of {all}", now.source),
    }
}

/// The folder `cwm` where programs keep what they can make again.
fn user_cache() -> PathBuf {
    let from = |name: &str| {
        std::env::var_os(name)
            .filter(|path| !path.is_empty())
            .map(PathBuf::from)
    };
    let home = || from("HOME").map(|home| home.join(".cache"));
    let base = from("XDG_CACHE_HOME")
        .filter(|path| path.is_absolute())
        .or_else(home);
    base.unwrap_or_else(std::env::temp_dir).join("cwm")
}

fn summarise(made: &Made) {
    let report = &made.report;
    let (kept, frames, shards) = (report.kept, report.frames, made.shards.len());
    let (name, candidates) = (&made.name, report.candidates);
    let what = match (report.functions, report.frames) {
        (0, 0) => "texts".to_owned(),
        (0, _) => format!("programs with {frames} frames"),
        (functions, _) => format!("runs of {functions} functions with {frames} frames"),
    };
    println!("{name}: {kept} {what} in {shards} shards, out of {candidates} candidates");
    for (reason, count) in &report.rejected {
        println!("  left out, {reason}: {count}");
    }
    for (reason, count) in &report.skipped {
        println!("  left out, {reason}: {count}");
    }
    let used = made
        .corpora
        .iter()
        .filter(|corpus| corpus.refused.is_none())
        .count();
    if !made.corpora.is_empty() {
        println!(
            "  packages: {used} used, {} refused",
            made.corpora.len() - used
        );
    }
    for corpus in made.corpora.iter() {
        if let Some(refusal) = corpus.refused {
            println!(
                "    {} {}: {refusal} ({})",
                corpus.name, corpus.version, corpus.licence
            );
        }
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
        for record in open_records(path)? {
            let record = record?;
            excluded.insert(fingerprint(&record.trace.source, &record.trace.entry));
        }
    }
    let plan = Plan {
        seed: args.seed,
        count: args.count,
        mix: args.levels,
        drills: args.drills,
        distinct: args.distinct.into(),
        threads: args.threads.unwrap_or_else(default_threads),
        excluded,
    };
    let interpreter = Interpreter::find(args.python.as_deref())?;
    let mut out = Partial::create(&args.out)?;
    let bar = progress::bar(args.count as u64, "generate");
    let report = build(&plan, &interpreter, &mut out.file, |n| {
        bar.set_position(n as u64)
    })?;
    bar.finish_and_clear();
    out.keep()?;
    eprintln!(
        "{} programs with {} frames out of {} candidates",
        report.kept, report.frames, report.candidates
    );
    for (reason, count) in &report.rejected {
        eprintln!("  left out, {reason}: {count}");
    }
    eprintln!("sha256 {}", report.sha256);
    if let Some(path) = &args.coverage {
        let coverage = write_coverage(&args.out, path)?;
        eprintln!(
            "{} builtins and methods, {} kinds of statements, {} of expressions",
            coverage.operations(),
            coverage.statements.len(),
            coverage.expressions.len()
        );
    }
    Ok(())
}

/// Writes what the programs of a file exercise.
fn write_coverage(data: &Path, path: &Path) -> Result<Coverage> {
    let mut coverage = Coverage::default();
    for record in open_records(data)? {
        let Trace { source, entry, .. } = record?.trace;
        coverage.add(&source, &entry);
    }
    std::fs::write(path, serde_json::to_string_pretty(&coverage)? + "\n")
        .with_context(|| format!("cannot write `{}`", path.display()))?;
    Ok(coverage)
}
