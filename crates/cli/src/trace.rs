//! `cwm trace`.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::{ArgMatches, Command, ValueEnum};
use cwm_trace::{End, Trace};

use crate::dialect::{Dialect, Direction, Form};
use crate::many::ManyArgs;
use crate::program::{ProgramArgs, RunArgs};
use crate::{calls, pytest, view};

/// `cwm trace FILE` records, `cwm trace view TRACE` shows. Put together by
/// hand: derived, a subcommand beside a required argument is not possible.
pub(crate) enum Args {
    Record(Box<RecordArgs>),
    View(view::Args),
}

impl clap::FromArgMatches for Args {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(match matches.subcommand() {
            Some((_, matches)) => Self::View(view::Args::from_arg_matches(matches)?),
            None => Self::Record(Box::new(RecordArgs::from_arg_matches(matches)?)),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl clap::Args for Args {
    fn augment_args(command: Command) -> Command {
        let about = "Show a recorded run, or count what a folder of them holds";
        let view = view::Args::augment_args(Command::new("view").about(about));
        RecordArgs::augment_args(command)
            .subcommand(view)
            .args_conflicts_with_subcommands(true)
            .subcommand_negates_reqs(true)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

#[derive(clap::Args)]
pub(crate) struct RecordArgs {
    /// Python file
    #[arg(required_unless_present_any = ["module", "pytest"])]
    file: Option<PathBuf>,
    /// Run a module as `python -m` does; all files of its package are recorded
    #[arg(short, long, value_name = "MODULE", conflicts_with_all = ["file", "entry"])]
    module: Option<String>,
    /// Function to enter; without it the file runs as a script
    #[arg(long, value_name = "FUNC")]
    entry: Option<String>,
    /// Its arguments as Python source, such as "3, sep=','"
    #[arg(
        long,
        value_name = "ARGS",
        requires = "entry",
        allow_hyphen_values = true
    )]
    args: Option<String>,
    /// Arguments of the program itself, in its `sys.argv`; or those of pytest
    #[arg(last = true, value_name = "ARGUMENTS")]
    arguments: Vec<String>,
    #[command(flatten)]
    run: RunArgs,
    /// Make many calls of the file's functions: a JSON object a line with `function`, `args` (a list
    /// of Python expressions as text) and `kwargs`
    #[arg(
        long,
        value_name = "CALLS",
        group = "many",
        requires = "file",
        conflicts_with_all = ["entry", "module"]
    )]
    calls: Option<PathBuf>,
    /// Run pytest and write a trace of each test into the folder `--out`, with an index
    #[arg(
        long,
        group = "many",
        requires = "out",
        conflicts_with_all = ["entry", "module", "calls", "stdin", "timeout"]
    )]
    pytest: bool,
    #[command(flatten)]
    many: ManyArgs,
    /// Form of the output [default: cwm; json for many traces]
    #[arg(long, value_enum)]
    dialect: Option<Dialect>,
    /// Which way the dialect nd goes through a run [default: forward]
    #[arg(long, value_enum)]
    direction: Option<Direction>,
    /// Where to write it [default: standard output]
    #[arg(long, value_name = "PATH")]
    out: Option<PathBuf>,
    /// Threads to record; those that the program starts go beside the main one, as `run.thread-1.json`
    /// beside `run.json`, and need --out
    #[arg(long, value_enum, default_value_t = Threads::Main, conflicts_with_all = ["calls", "pytest"])]
    threads: Threads,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Threads {
    /// The main thread only
    Main,
    /// Every thread, each for itself
    All,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    match args {
        Args::Record(args) => record(args),
        Args::View(args) => view::run(args),
    }
}

fn record(args: &RecordArgs) -> Result<()> {
    if args.dialect == Some(Dialect::Parquet) {
        if args.calls.is_some() {
            bail!("calls are written as lines: choose the dialect cwm, live, nd or json for them");
        }
        if args.out.is_none() {
            bail!("a Parquet table is not text: say where to write it with --out");
        }
    }
    if let Some(calls) = &args.calls {
        return calls::run(&calls::Job {
            program: &program(args)?,
            calls,
            arguments: &args.arguments,
            run: &args.run,
            many: &args.many,
            form: form(args, Dialect::Json)?,
            out: args.out.as_deref(),
        });
    }
    if args.pytest {
        let first = args.file.iter().map(|file| file.display().to_string());
        let arguments: Vec<_> = first.chain(args.arguments.iter().cloned()).collect();
        let out = args.out.as_deref().context("tests need `--out FOLDER`")?;
        return pytest::run(&pytest::Job {
            arguments: &arguments,
            run: &args.run,
            many: &args.many,
            form: form(args, Dialect::Json)?,
            out,
        });
    }
    let is_alone = args.threads == Threads::Main;
    ensure!(
        is_alone || args.out.is_some(),
        "--threads all needs --out: each thread is a file of its own"
    );
    let form = form(args, Dialect::Cwm)?;
    let traces = recorded(args)?;
    for trace in &traces {
        write(trace, &form, args.out.as_deref())?;
    }
    report_end(&traces[0]);
    if traces.len() > 1 {
        let count = traces.len() - 1;
        let name = args.out.as_deref().map(|out| beside(out, 1));
        let name = name.unwrap_or_default();
        eprintln!(
            "note: threads besides the main one: {count}, the first in `{}`",
            name.display()
        );
    }
    Ok(())
}

/// The wanted form, or that of a dialect if none is named.
fn form(args: &RecordArgs, otherwise: Dialect) -> Result<Form> {
    let dialect = args.dialect.unwrap_or(otherwise);
    let seed = args.many.seed;
    ensure!(
        seed.is_none() || dialect == Dialect::Nd || args.many.step_in.is_some(),
        "--seed decides nothing here: it is for --step-in and `--dialect nd`"
    );
    Form::new(dialect, args.direction, seed.unwrap_or(0))
}

/// Writes one trace in the wanted form to where it belongs.
fn write(trace: &Trace, form: &Form, out: Option<&Path>) -> Result<()> {
    let number = trace.thread.as_ref().map_or(0, |thread| thread.number);
    let text = form.render(trace, number.into())?;
    match out {
        Some(path) => {
            let path = beside(path, number);
            std::fs::write(&path, &text)
                .with_context(|| format!("cannot write `{}`", path.display()))?;
        }
        None => {
            let mut out = BufWriter::new(std::io::stdout().lock());
            out.write_all(&text)?;
            if !text.ends_with(b"\n") {
                out.write_all(b"\n")?;
            }
            out.flush()?;
        }
    }
    Ok(())
}

/// The file of a thread: the path itself for the main one, else with the number before its extension.
fn beside(path: &Path, thread: u32) -> PathBuf {
    if thread == 0 {
        return path.to_owned();
    }
    let mut name = path.file_stem().unwrap_or_default().to_owned();
    name.push(format!(".thread-{thread}"));
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}

/// Runs what the flags name.
fn recorded(args: &RecordArgs) -> Result<Vec<Trace>> {
    if let Some(module) = &args.module {
        return match args.threads {
            Threads::Main => Ok(vec![args.run.trace_module(module, &args.arguments)?]),
            Threads::All => args.run.trace_module_threads(module, &args.arguments),
        };
    }
    let program = program(args)?;
    let source = program.source()?;
    let file = program.file_text();
    let (entry, arguments) = (program.entry(), &args.arguments);
    match args.threads {
        Threads::Main => {
            let trace = args.run.trace_with(&file, &source, entry, arguments)?;
            Ok(vec![trace])
        }
        Threads::All => args.run.trace_threads(&file, &source, entry, arguments),
    }
}

fn program(args: &RecordArgs) -> Result<ProgramArgs> {
    Ok(ProgramArgs {
        file: args.file.clone().context("there is no file to record")?,
        entry: args.entry.clone(),
        args: args.args.clone(),
    })
}

/// Says on standard error how the run ended, where that is not plain.
fn report_end(trace: &Trace) {
    let events = trace.events.len();
    match &trace.end {
        End::Finished => {}
        End::Raised(what) => eprintln!("note: the program raised {what}"),
        End::Exited(status) => eprintln!("note: the program exited with status {status}"),
        End::MaxEvents(n) => {
            eprintln!("warning: stopped after {n} events (--max-events); the trace is partial")
        }
        End::Timeout(seconds) => eprintln!(
            "warning: stopped after {seconds} s (--timeout); the trace is partial, {events} events"
        ),
        End::OutOfMemory => eprintln!(
            "warning: the program ran out of its memory limit; the trace is partial, {events} events"
        ),
        End::Crashed(why) => eprintln!(
            "warning: the recording broke off ({why}); the trace is partial, {events} events"
        ),
    }
}
