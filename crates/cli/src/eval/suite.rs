//! `cwm eval suite`.

use std::collections::HashSet;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, ensure};
use clap::Args;
use cwm_data::{Level, Mix, Plan, build, fingerprint, open_records, open_text};
use cwm_eval::suite::{Measured, Set, Suite, evaluate};
use cwm_eval::{page::page, problems};
use cwm_trace::{Entry, Trace};
use cwm_tracer::{Interpreter, Limits, Request, Worker};

use crate::eval::Common;
use crate::program::default_threads;
use crate::progress;

#[derive(Args)]
pub(crate) struct SuiteArgs {
    /// Programs to generate anew of each level
    #[arg(long, value_name = "N", default_value_t = 100)]
    generated: usize,
    /// Levels to generate, 1 to 6
    #[arg(
        long,
        value_name = "LEVELS",
        value_delimiter = ',',
        default_value = "1,2,3,4,5"
    )]
    levels: Vec<u8>,
    /// Seed of the generated programs: take one that no training data were made with
    #[arg(long, value_name = "N", default_value_t = 777_000)]
    seed: u64,
    /// Recorded programs that the generated ones must differ from by more than names: the training data
    #[arg(long, value_name = "FILE.jsonl", num_args = 1..)]
    exclude_data: Vec<PathBuf>,
    /// Problems with tests, in MBPP's form
    #[arg(long, value_name = "FILE.jsonl")]
    mbpp: Option<PathBuf>,
    /// Problems with tests, in HumanEval's form (.gz too)
    #[arg(long, value_name = "FILE.jsonl")]
    humaneval: Option<PathBuf>,
    /// Items of CruxEval
    #[arg(long, value_name = "FILE.jsonl")]
    cruxeval: Option<PathBuf>,
    /// Folder of scripts
    #[arg(long, value_name = "DIR")]
    scripts: Option<PathBuf>,
    /// Recorded runs, as a set of their own
    #[arg(long, value_name = "FILE.jsonl")]
    traces: Option<PathBuf>,
    /// Calls of a problem at most
    #[arg(long, value_name = "N", default_value_t = 1)]
    calls: usize,
    /// Events of a problem's or an item's run at most; longer ones are left out, and counted
    #[arg(long, value_name = "N", default_value_t = 256)]
    max_events: usize,
    /// Python interpreter for the real runs [default: python3 on the PATH]
    #[arg(long, value_name = "PATH")]
    python: Option<PathBuf>,
    /// Where to write all figures as a page
    #[arg(long, value_name = "FILE.html")]
    page: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

pub(crate) fn run(args: &SuiteArgs) -> Result<()> {
    let interpreter = Interpreter::find(args.python.as_deref())?;
    let loaded = args.common.load()?;
    let mut worker = Worker::start(&interpreter, &Limits::default())?;
    let mut sets = Vec::new();
    for set in args.sets(&interpreter)? {
        let bar = progress::bar(set.runs.len() as u64, &set.name);
        let done = |n: usize| bar.set_position(n as u64);
        let threads = args.common.threads();
        let mut measured = evaluate(&loaded.engine, &loaded.vocabulary, &set, threads, done)?;
        measured.jumps.run_inputs(&mut worker)?;
        sets.push(measured);
        bar.finish_and_clear();
    }
    loaded.tell_notes();
    let suite = Suite {
        model: loaded.folder,
        sets,
    };
    if let Some(path) = &args.page {
        std::fs::write(path, page(&suite))
            .with_context(|| format!("cannot write `{}`", path.display()))?;
    }
    print(&suite, args.common.json)?;
    Ok(())
}

impl SuiteArgs {
    fn sets(&self, interpreter: &Interpreter) -> Result<Vec<Set>> {
        let mut sets = Vec::new();
        if self.generated > 0 {
            sets.extend(self.generated(interpreter)?);
        }
        for (name, path) in [("mbpp", &self.mbpp), ("humaneval", &self.humaneval)] {
            if let Some(path) = path {
                sets.push(self.problems(name, path, interpreter)?);
            }
        }
        if let Some(path) = &self.cruxeval {
            sets.push(self.cruxeval(path, interpreter)?);
        }
        if let Some(folder) = &self.scripts {
            sets.push(scripts(folder, interpreter)?);
        }
        if let Some(path) = &self.traces {
            let runs = open_records(path)?.map(|record| Ok(record?.trace));
            let runs = runs.collect::<Result<Vec<_>>>()?;
            sets.push(Set {
                name: "traces".to_owned(),
                about: format!("Runs of {}.", path.display()),
                runs,
                left_out: Vec::new(),
            });
        }
        if let Some(limit) = self.common.limit {
            sets.iter_mut().for_each(|set| set.runs.truncate(limit));
        }
        sets.retain(|set| !set.runs.is_empty());
        ensure!(
            !sets.is_empty(),
            "there is nothing to evaluate: name a set, or give --generated a number"
        );
        Ok(sets)
    }

    /// Programs that are made now, a set for each level.
    fn generated(&self, interpreter: &Interpreter) -> Result<Vec<Set>> {
        let mut excluded = HashSet::new();
        for path in &self.exclude_data {
            for record in open_records(path)? {
                let trace = record?.trace;
                excluded.insert(fingerprint(&trace.source, &trace.entry));
            }
        }
        let one = |&number: &u8| {
            let level = Level::try_from(number)?;
            let weights: Vec<_> = Level::ALL
                .iter()
                .map(|l| u8::from(*l == level).to_string())
                .collect();
            let plan = Plan {
                seed: self.seed,
                count: self.generated,
                mix: Mix::from_str(&weights.join(","))?,
                drills: 0,
                distinct: cwm_data::Distinct::default(),
                threads: default_threads(),
                excluded: excluded.clone(),
            };
            let mut lines = Vec::new();
            build(&plan, interpreter, &mut lines, |_| ())?;
            let runs = lines
                .split(|byte| *byte == b'\n')
                .filter(|line| !line.is_empty())
                .map(|line| {
                    let record: cwm_data::Record = serde_json::from_slice(line)?;
                    Ok(record.trace)
                });
            Ok(Set {
                name: format!("level {level}"),
                about: format!(
                    "{} generated programs of level {level}, seed {}.",
                    self.generated, self.seed
                ),
                runs: runs.collect::<Result<Vec<_>>>()?,
                left_out: Vec::new(),
            })
        };
        self.levels.iter().map(one).collect()
    }

    fn problems(&self, name: &str, path: &Path, interpreter: &Interpreter) -> Result<Set> {
        let shown = path.display();
        let text = text_of(path)?;
        let problems = problems::read(&text).with_context(|| format!("cannot use `{shown}`"))?;
        let recorded = problems::record(&problems, self.calls, self.max_events, interpreter)?;
        Ok(Set {
            name: name.to_owned(),
            about: format!(
                "Functions of {shown}, {} calls of each at most, as their tests make them.",
                self.calls
            ),
            runs: recorded.runs,
            left_out: self.left_out(recorded.refused, recorded.long),
        })
    }

    fn cruxeval(&self, path: &Path, interpreter: &Interpreter) -> Result<Set> {
        let shown = path.display();
        let text = text_of(path)?;
        let items =
            cwm_eval::cruxeval::read(&text).with_context(|| format!("cannot use `{shown}`"))?;
        let recorded = cwm_eval::cruxeval::record(&items, interpreter)?;
        let refused = recorded.iter().filter(|run| run.is_none()).count();
        let mut runs: Vec<_> = recorded.into_iter().flatten().collect();
        let all = runs.len();
        runs.retain(|run| run.events.len() <= self.max_events);
        let long = all - runs.len();
        Ok(Set {
            name: "cruxeval".to_owned(),
            about: format!("Items of {shown}."),
            runs,
            left_out: self.left_out(refused, long),
        })
    }

    fn left_out(&self, refused: usize, long: usize) -> Vec<(String, usize)> {
        let reasons = [
            ("no call that can be run".to_owned(), refused),
            (format!("more than {} events", self.max_events), long),
        ];
        reasons.into_iter().filter(|(_, n)| *n > 0).collect()
    }
}

fn text_of(path: &Path) -> Result<String> {
    let text = open_text(path).and_then(io::read_to_string);
    text.with_context(|| format!("cannot read `{}`", path.display()))
}

/// Scripts of a folder, run as they are.
fn scripts(folder: &Path, interpreter: &Interpreter) -> Result<Set> {
    let shown = folder.display();
    let entries =
        std::fs::read_dir(folder).with_context(|| format!("cannot read the folder `{shown}`"))?;
    let mut paths = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<io::Result<Vec<_>>>()?;
    paths.retain(|path| path.extension().is_some_and(|e| e == "py"));
    paths.sort();
    let mut worker = Worker::start(interpreter, &Limits::default())?;
    let one = |path: &PathBuf| -> Result<Trace> {
        let context = || format!("cannot run `{}`", path.display());
        let source = std::fs::read_to_string(path).with_context(context)?;
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        let request = Request {
            file: &file,
            source: &source,
            entry: Entry::Module,
            stdin: b"",
            arguments: &[],
        };
        worker.trace(&request).with_context(context)
    };
    Ok(Set {
        name: "scripts".to_owned(),
        about: format!("Scripts of {shown}."),
        runs: paths.iter().map(one).collect::<Result<_>>()?,
        left_out: Vec::new(),
    })
}

fn print(suite: &Suite, json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if json {
        return writeln!(out, "{}", suite.to_json());
    }
    writeln!(
        out,
        "{:<12} {:>5} {:>7} {:>7} {:>7} {:>7} {:>7} {:>7} {:>7} {:>7}  longest",
        "set", "runs", "frames", "state", "run", "<= 32", "output", "no echo", "(echo)", "ECE"
    )?;
    for set in &suite.sets {
        let shares = columns(set).map(|value| match value {
            Some(value) => format!("{value:>7.3}"),
            None => format!("{:>7}", "-"),
        });
        let (items, longest) = (set.report.items, set.detail.longest_exact);
        writeln!(
            out,
            "{:<12} {items:>5} {}  {longest}",
            set.name,
            shares.join(" ")
        )?;
        let jumps = set.jumps.rates();
        let jumps =
            jumps.filter_map(|(action, rate)| Some(format!("{action} {:.3}", rate.value()?)));
        let jumps: Vec<String> = jumps.collect();
        if !jumps.is_empty() {
            writeln!(out, "  jumps: {}", jumps.join(", "))?;
        }
        for (why, n) in &set.left_out {
            writeln!(out, "  left out, {why}: {n}")?;
        }
    }
    writeln!(
        out,
        "\nframes and states are given the real ones before; runs and outputs are free. (echo): the output is the \
         first argument, which needs no model. ECE: calibration error. --json and --page have everything."
    )
}

fn columns(set: &Measured) -> [Option<f64>; 8] {
    let (report, detail) = (&set.report, &set.detail);
    [
        report.frame_exact.value(),
        report.state_exact.value(),
        report.trace_exact.value(),
        detail.short_exact.value(),
        report.output_exact.value(),
        report.output_exact_non_echo.value(),
        detail.baselines.echo_output.value(),
        detail.calibration.error(),
    ]
}
