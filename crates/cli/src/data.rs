//! `cwm data`.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, Subcommand, ValueEnum};
use cwm_data::decontaminate::{Report, Summary};
use cwm_data::{
    Benchmarks, Coverage, Evaluator, Mix, Normaliser, Plan, Recipe, Record, Source, build,
    build_folder, fingerprint, normalise_program, read_records, read_shard, write_record,
};
use cwm_trace::columns::MAGIC;
use cwm_trace::live::Document;
use cwm_trace::{Entry, Trace};
use cwm_tracer::Interpreter;
use serde::Serialize;

use crate::program::default_threads;
use crate::progress;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// A folder of shards as a recipe says; stopped, it goes on where it was
    Build(BuildArgs),
    /// Random, terminating programs with their real runs
    Generate(GenerateArgs),
    /// Leave out programs that benchmarks contain
    Decontaminate(DecontaminateArgs),
    /// Write down what the parts of each line's expressions come to
    Work(WorkArgs),
}

#[derive(Args)]
pub(crate) struct WorkArgs {
    /// Recorded programs: JSON lines of `cwm data generate`, or shards of `cwm data build`
    #[arg(long, value_name = "FILE.jsonl")]
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
    /// Recorded programs: JSON lines of `cwm data generate`, or shards of `cwm data build`
    #[arg(long, value_name = "FILE.jsonl", num_args = 1.., required = true)]
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
    /// Python interpreter, 3.8 or later [default: python3 on the PATH]
    #[arg(long, value_name = "PATH")]
    python: Option<PathBuf>,
    /// Programs run at the same time [default: one per processor]
    #[arg(long)]
    threads: Option<usize>,
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
    /// Weights of the five levels of difficulty; four numbers leave the fifth out
    #[arg(long, value_name = "A,B,C,D,E", default_value = "20,25,20,15,20")]
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
        Command::Generate(args) => generate(args),
        Command::Decontaminate(args) => decontaminate(args),
        Command::Work(args) => work(args),
    }
}

fn work(args: &WorkArgs) -> Result<()> {
    let interpreter = Interpreter::find(args.python.as_deref())?;
    let mut evaluator = Evaluator::start(&interpreter)?;
    let mut out = Partial::create(&args.out)?;
    let shown = args.data.display();
    let bar = progress::spinner("work");
    let (mut programs, mut steps) = (0, 0);
    for record in records(&args.data)? {
        let mut record = record.with_context(|| format!("cannot use `{shown}`"))?;
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
        benchmarks
            .add(&shown.to_string(), open(path)?, &mut normaliser)
            .with_context(|| format!("cannot use the benchmark `{shown}`"))?;
    }
    let mut out = args.out.as_deref().map(Partial::create).transpose()?;
    let mut report = Report::default();
    let bar = progress::spinner("decontaminate");
    for path in &args.data {
        let shown = path.display();
        for record in records(path)? {
            let record = record.with_context(|| format!("cannot use `{shown}`"))?;
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

/// Opens a file, through gzip where its name ends in `.gz`.
/// The recorded programs of a file: a shard, or JSON lines.
pub(crate) fn records(path: &Path) -> Result<Box<dyn Iterator<Item = Result<Record>>>> {
    let mut file = File::open(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    let mut start = [0; MAGIC.len()];
    let is_shard = file.read_exact(&mut start).is_ok() && start == *MAGIC;
    if is_shard {
        let shown = path.display();
        let records = read_shard(file).with_context(|| format!("cannot use `{shown}`"))?;
        return Ok(Box::new(records.into_iter().map(Ok)));
    }
    let lines = read_records(open(path)?);
    Ok(Box::new(lines.map(|record| Ok(record?))))
}

fn open(path: &Path) -> Result<Box<dyn BufRead>> {
    let file = File::open(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    let reader = BufReader::with_capacity(1 << 20, file);
    Ok(match path.extension() {
        Some(extension) if extension == "gz" => {
            Box::new(BufReader::new(flate2::bufread::MultiGzDecoder::new(reader)))
        }
        _ => Box::new(reader),
    })
}

/// A file that has its name only once it is whole.
struct Partial {
    file: BufWriter<File>,
    partial: PathBuf,
    path: PathBuf,
}

impl Partial {
    fn create(path: &Path) -> Result<Self> {
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

    fn keep(mut self) -> Result<()> {
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
    let interpreter = Interpreter::find(args.python.as_deref())?;
    let threads = args.threads.unwrap_or_else(default_threads);
    let total: usize = recipe.sources.iter().map(Source::count).sum();
    let bar = progress::bar(total as u64, "build");
    let built = build_folder(&text, &interpreter, threads, &args.out, |n| {
        bar.set_position(n as u64)
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
        let report = made.report();
        println!(
            "{}: {} programs with {} frames in {} shards, out of {} candidates",
            made.name,
            report.kept,
            report.frames,
            made.shards.len(),
            report.candidates
        );
        for (reason, count) in &report.rejected {
            println!("  left out, {reason}: {count}");
        }
    }
    Ok(())
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
        for record in records(path)? {
            let record = record.with_context(|| format!("cannot use `{shown}`"))?;
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
    for record in records(data)? {
        let Trace { source, entry, .. } = record?.trace;
        coverage.add(&source, &entry);
    }
    std::fs::write(path, serde_json::to_string_pretty(&coverage)? + "\n")
        .with_context(|| format!("cannot write `{}`", path.display()))?;
    Ok(coverage)
}
