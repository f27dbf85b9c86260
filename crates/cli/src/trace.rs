//! `cwm trace`.

use std::io::{BufWriter, Write};
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{ArgMatches, Command, ValueEnum};
use cwm_trace::{End, Trace, cwm, jsonl, live};

use crate::program::{ProgramArgs, RunArgs};
use crate::{calls, view};

/// `cwm trace FILE` records, `cwm trace view TRACE` shows. Put together by
/// hand: derived, a subcommand beside a required argument is not possible.
pub(crate) enum Args {
    Record(RecordArgs),
    View(view::Args),
}

impl clap::FromArgMatches for Args {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(match matches.subcommand() {
            Some((_, matches)) => Self::View(view::Args::from_arg_matches(matches)?),
            None => Self::Record(RecordArgs::from_arg_matches(matches)?),
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
    #[arg(required_unless_present = "module")]
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
    /// Arguments of the program itself, in its `sys.argv`
    #[arg(last = true, value_name = "ARGUMENTS")]
    arguments: Vec<String>,
    #[command(flatten)]
    run: RunArgs,
    /// Make many calls of the file's functions: a JSON object a line with `function`, `args` (a list
    /// of Python expressions as text) and `kwargs`
    #[arg(long, value_name = "CALLS", requires = "file", conflicts_with_all = ["entry", "module"])]
    calls: Option<PathBuf>,
    #[command(flatten)]
    checks: ChecksArgs,
    /// Form of the output [default: cwm; json for many traces]
    #[arg(long, value_enum)]
    dialect: Option<Dialect>,
    /// Where to write it [default: standard output]
    #[arg(long, value_name = "PATH")]
    out: Option<PathBuf>,
}

/// What is done with many runs.
#[derive(clap::Args)]
pub(crate) struct ChecksArgs {
    /// Make every call twice; one whose traces differ says so
    #[arg(long, requires = "calls")]
    pub(crate) double_run: bool,
    /// Make every call without tracing too; one that comes out differently says so
    #[arg(long, requires = "calls")]
    pub(crate) check_untraced: bool,
    /// Show objects without running code of the program, by what they are made of
    #[arg(long, requires = "calls")]
    pub(crate) safe: bool,
    /// Print the summary as JSON, on standard output; traces go to `--out`
    #[arg(long, requires_all = ["calls", "out"])]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Dialect {
    /// Meta's format, special tokens as their strings
    Cwm,
    /// Numbered lines and changes only
    Live,
    /// JSON lines with everything
    Json,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    match args {
        Args::Record(args) => record(args),
        Args::View(args) => view::run(args),
    }
}

impl Dialect {
    /// A trace as a file of its own.
    pub(crate) fn render(self, trace: &Trace) -> Result<Vec<u8>> {
        Ok(match self {
            Self::Cwm => cwm::render(&cwm::Document::from_trace(trace)).into_bytes(),
            Self::Live => live::render(&live::Document::from_trace(trace)).into_bytes(),
            Self::Json => {
                let mut text = Vec::new();
                jsonl::write(trace, &mut text)?;
                text
            }
        })
    }
}

fn record(args: &RecordArgs) -> Result<()> {
    if let Some(calls) = &args.calls {
        return calls::run(&calls::Job {
            program: &program(args)?,
            calls,
            arguments: &args.arguments,
            run: &args.run,
            checks: &args.checks,
            dialect: args.dialect.unwrap_or(Dialect::Json),
            out: args.out.as_deref(),
        });
    }
    let trace = recorded(args)?;
    let text = args.dialect.unwrap_or(Dialect::Cwm).render(&trace)?;
    match &args.out {
        Some(path) => std::fs::write(path, &text)
            .with_context(|| format!("cannot write `{}`", path.display()))?,
        None => {
            let mut out = BufWriter::new(std::io::stdout().lock());
            out.write_all(&text)?;
            if !text.ends_with(b"\n") {
                out.write_all(b"\n")?;
            }
            out.flush()?;
        }
    }
    report_end(&trace);
    Ok(())
}

/// Runs what the flags name.
fn recorded(args: &RecordArgs) -> Result<Trace> {
    if let Some(module) = &args.module {
        return args.run.trace_module(module, &args.arguments);
    }
    let program = program(args)?;
    let source = program.source()?;
    let file = program.file_text();
    args.run
        .trace_with(&file, &source, program.entry(), &args.arguments)
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
            "warning: the interpreter died ({why}); the trace is partial, {events} events"
        ),
    }
}
