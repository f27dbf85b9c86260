//! `cwm scale`: ladders of small models and the laws that follow from them.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::{Args, Subcommand};
use cwm_train::StepReport;
use cwm_train::scale::fit::{Question, fit, page, tables};
use cwm_train::scale::{
    Climb, Effort, Ladder, Run, State, TABLE_FILE, climb, read_table, write_plan,
};
use indicatif::ProgressBar;

use crate::interrupt::{interrupted, watch_interrupts};
use crate::program::default_threads;
use crate::progress;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Write the table of a ladder's runs; planning again adds runs and keeps results
    Plan(PlanArgs),
    /// Train the planned runs, cheapest first; stopped, it goes on where it was
    Run(RunArgs),
    /// Laws of the best learning rate, batch and size, and of the loss, from the finished runs
    Fit(FitArgs),
}

#[derive(Args)]
pub(crate) struct PlanArgs {
    /// What the ladder is made of: sizes, budgets, search and data
    #[arg(value_name = "LADDER.toml")]
    ladder: PathBuf,
    /// Folder of the ladder: runs.csv, and later its runs
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

#[derive(Args)]
pub(crate) struct RunArgs {
    /// Folder of a ladder
    #[arg(value_name = "DIR")]
    ladder: PathBuf,
    /// Threads [default: one per processor]
    #[arg(long)]
    threads: Option<usize>,
    /// Runs after which to stop [default: all]
    #[arg(long, value_name = "N")]
    max_runs: Option<usize>,
}

#[derive(Args)]
pub(crate) struct FitArgs {
    /// Folder of a ladder, or a table like its runs.csv
    #[arg(value_name = "DIR|FILE.csv")]
    table: PathBuf,
    /// Everything as JSON
    #[arg(long)]
    json: bool,
    /// Write a page with plots too
    #[arg(long, value_name = "PAGE.html")]
    html: Option<PathBuf>,
    /// Say what the laws give for this compute; may be repeated
    #[arg(long, value_name = "FLOP", value_parser = flops)]
    predict: Vec<f64>,
}

fn flops(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(flops) if flops.is_finite() && flops > 0.0 => Ok(flops),
        _ => Err("expected a positive number of operations, such as 1e18".into()),
    }
}

pub(crate) fn run(command: &Command) -> Result<()> {
    match command {
        Command::Plan(args) => plan(args),
        Command::Run(args) => train(args),
        Command::Fit(args) => laws(args),
    }
}

fn plan(args: &PlanArgs) -> Result<()> {
    let ladder = Ladder::load(&args.ladder)?;
    let planned = write_plan(&ladder, &args.out)?;
    for note in &planned.notes {
        eprintln!("note: {note}");
    }
    let left = planned
        .runs
        .iter()
        .filter(|run| run.state == State::Planned);
    let (runs, compute) = left.fold((0, 0.0), |(n, sum), run| (n + 1, sum + run.compute()));
    let table = args.out.join(TABLE_FILE);
    println!(
        "`{}` has {} runs, {} of them new; {runs} are to be trained, {compute:.2e} FLOP in all",
        table.display(),
        planned.runs.len(),
        planned.new
    );
    Ok(())
}

fn train(args: &RunArgs) -> Result<()> {
    let threads = args.threads.unwrap_or_else(default_threads);
    ensure!(threads > 0, "--threads must be at least 1");
    watch_interrupts();
    let effort = Effort {
        threads,
        max_runs: args.max_runs,
    };
    let mut watch = Watch {
        bar: progress::spinner("read data"),
        place: 0,
        runs: 0,
        whole: 0.0,
        before: 0.0,
    };
    let climbed = climb(&args.ladder, effort, &mut watch)?;
    watch.bar.finish_and_clear();
    let verb = if climbed.stopped { "stopped: " } else { "" };
    println!(
        "{verb}{} runs done, {} diverged, {} still planned",
        climbed.done, climbed.diverged, climbed.left
    );
    let folder = args.ladder.display();
    if climbed.left > 0 {
        eprintln!("hint: go on with `cwm scale run {folder}`");
    } else {
        eprintln!("hint: see what follows with `cwm scale fit {folder}`");
    }
    Ok(())
}

/// A bar over the compute of all runs, since runs differ by more than their steps.
struct Watch {
    bar: ProgressBar,
    /// Number of the run in hand, from 1.
    place: usize,
    runs: usize,
    /// FLOP of all runs.
    whole: f64,
    /// FLOP of the runs that have ended.
    before: f64,
}

/// Parts of the bar.
const PARTS: f64 = 1000.0;

impl Watch {
    fn show(&self, flops: f64) {
        self.bar.set_position((flops / self.whole * PARTS) as u64);
    }
}

impl Climb for Watch {
    fn note(&mut self, text: &str) {
        self.bar.suspend(|| eprintln!("note: {text}"));
    }

    fn begin(&mut self, runs: &[Run]) {
        self.bar.finish_and_clear();
        self.bar = progress::bar(PARTS as u64, "ladder, thousandths");
        self.runs = runs.len();
        self.whole = runs.iter().map(Run::compute).sum();
    }

    fn start(&mut self, run: &Run, done: u64) {
        self.place += 1;
        if done > 0 {
            let id = &run.id;
            self.note(&format!("`{id}` goes on after step {done}"));
        }
    }

    fn step(&mut self, run: &Run, report: &StepReport) {
        let share = report.step as f64 / report.steps as f64;
        self.show(self.before + share * run.compute());
        self.bar.set_message(format!(
            "run {} of {} `{}` step {} of {} loss {:.4}",
            self.place, self.runs, run.id, report.step, report.steps, report.loss
        ));
    }

    fn end(&mut self, run: &Run) {
        self.before += run.compute();
        self.show(self.before);
        let result = match run.loss {
            Some(loss) => format!("loss {loss:.4}"),
            None => run.state.name().to_owned(),
        };
        let (place, runs, id) = (self.place, self.runs, &run.id);
        let seconds = run.seconds.unwrap_or_default();
        self.bar.suspend(|| {
            eprintln!("run {place} of {runs} `{id}`: {result} after {seconds:.1} s");
        });
    }

    fn should_stop(&mut self) -> bool {
        interrupted()
    }
}

fn laws(args: &FitArgs) -> Result<()> {
    let table = match args.table.is_dir() {
        true => args.table.join(TABLE_FILE),
        false => args.table.clone(),
    };
    let runs = read_table(&table)?;
    ensure!(
        runs.iter().any(|run| run.state == State::Done),
        "no run of `{}` is done; train them with `cwm scale run`",
        table.display()
    );
    let question = Question {
        predict: args.predict.clone(),
        ..Question::default()
    };
    let found = fit(&runs, &question);
    if let Some(path) = &args.html {
        let title = format!("Scaling laws of {}", name(&args.table));
        std::fs::write(path, page(&title, &found))
            .with_context(|| format!("cannot write `{}`", path.display()))?;
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&found)?);
    } else {
        print!("{}", tables(&found));
    }
    Ok(())
}

fn name(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str());
    name.to_string_lossy().into_owned()
}
