//! `cwm train watch` and `cwm train report`: how a training run goes, or went.
//!
//! Both read the log of a run and nothing else: they need neither its process nor its lock.

mod chart;
mod dashboard;
mod draw;
mod report;
mod summary;

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{ArgMatches, FromArgMatches, Subcommand};

use crate::train;

/// `cwm train`, or one of the two ways to look at what it does.
pub(crate) enum Train {
    Train(Box<train::Args>),
    Look(Look),
}

// By hand: the derived form cannot say that flags are required unless there is a subcommand.
impl clap::Args for Train {
    fn augment_args(command: clap::Command) -> clap::Command {
        Look::augment_subcommands(train::Args::augment_args(command))
            .subcommand_required(false)
            .arg_required_else_help(false)
            .subcommand_negates_reqs(true)
            .args_conflicts_with_subcommands(true)
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Train {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        match matches.subcommand() {
            Some(_) => Look::from_arg_matches(matches).map(Self::Look),
            None => train::Args::from_arg_matches(matches).map(|args| Self::Train(Box::new(args))),
        }
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[derive(Subcommand)]
pub(crate) enum Look {
    /// Show how a run goes, while it goes on
    Watch(dashboard::Args),
    /// Write one page about runs, or their numbers for other programs
    Report(report::Args),
}

/// What both ways to look take.
#[derive(clap::Args)]
struct Machine {
    /// Peak of the machine in 10¹² floating-point operations per second, to tell the share achieved
    #[arg(long, value_name = "TFLOPS", value_parser = positive, allow_negative_numbers = true)]
    peak_tflops: Option<f64>,
}

impl Machine {
    /// The peak in floating-point operations per second.
    fn peak_flops(&self) -> Option<f64> {
        self.peak_tflops.map(|tflops| tflops * 1e12)
    }
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && number > 0.0 => Ok(number),
        _ => Err("is not a positive number".to_owned()),
    }
}

pub(crate) fn run(args: &Train) -> Result<()> {
    match args {
        Train::Train(args) => train::run(args),
        Train::Look(Look::Watch(args)) => dashboard::run(args),
        Train::Look(Look::Report(args)) => report::run(args),
    }
}

/// Names to tell runs apart by: those of their folders, numbered where they are alike.
fn names_of(runs: &[PathBuf]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for run in runs {
        let name = name_of(run);
        let numbered = (2..).map(|number| format!("{name}-{number}"));
        let free = std::iter::once(name.clone())
            .chain(numbered)
            .find(|name| !names.contains(name));
        names.extend(free);
    }
    names
}

fn name_of(run: &Path) -> String {
    // `.` and `..` have names too.
    let path = run.canonicalize().unwrap_or_else(|_| run.to_path_buf());
    let folder = match path.is_file() {
        true => path.parent().unwrap_or(&path),
        false => &path,
    };
    let name = folder.file_name().unwrap_or(folder.as_os_str());
    printable(&name.to_string_lossy())
}

/// Text of a log or a path, without what would steer a terminal.
fn printable(text: &str) -> String {
    let escape = |c: char| match c.is_control() {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    };
    text.chars().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_one_name_are_told_apart() {
        let runs = ["a/run", "b/run", "c/run-2", "/"].map(PathBuf::from);
        assert_eq!(names_of(&runs), ["run", "run-2", "run-2-2", "/"]);
        assert_eq!(printable("a\u{1b}[2J"), "a\\u{1b}[2J");
    }

    #[test]
    fn a_peak_is_a_positive_number() {
        assert_eq!(positive("1.5"), Ok(1.5));
        for wrong in ["0", "-1", "inf", "NaN", "x"] {
            assert!(positive(wrong).is_err(), "{wrong}");
        }
    }
}
