//! `cwm`: see what Python code will do before it runs.
//!
//! A thin shell over the workspace's libraries: flags, messages, progress
//! bars and exit codes live here, nothing else. Exit codes: 0 success, 1 the
//! work could not be done, 2 the command line is wrong.

mod bench;
mod bridge;
mod calls;
mod card;
mod convert;
mod data;
mod debug;
mod device;
mod dialect;
mod doctor;
mod eval;
mod gpu_check;
mod interrupt;
mod logits;
mod many;
mod mirror;
mod model;
mod predict;
mod program;
mod progress;
mod pytest;
mod quantize;
mod reproduce;
mod scale;
mod store;
mod trace;
mod train;
mod view;
mod watch;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Record, predict and debug Python executions.
#[derive(Parser)]
#[command(name = "cwm", version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a program with real Python and record what it does
    Trace(trace::Args),
    /// Predict what a program does, without running it
    Predict(predict::Args),
    /// Step through a predicted run
    Debug(debug::Args),
    /// Make training and evaluation data
    #[command(subcommand)]
    Data(data::Command),
    /// Train a model on recorded runs, and watch it
    Train(watch::Train),
    /// Train ladders of small models, and fit scaling laws to them
    #[command(subcommand)]
    Scale(scale::Command),
    /// Write a trained model as a folder to ship
    Export(train::ExportArgs),
    /// Make a model anew from its recipe: data, training, figures, card
    Reproduce(reproduce::Args),
    /// Write a model's card out of what other commands wrote
    Card(card::Args),
    /// Measure how fast this machine runs a model
    Bench(bench::Args),
    /// Write a model in another file format or type of numbers
    Convert(convert::Args),
    /// Write a model in 8 or 4 bits, and say what that loses
    Quantize(quantize::Args),
    /// Look into a store of checkpoints, and fetch from it
    #[command(subcommand)]
    Store(store::Command),
    /// Measure a model
    #[command(subcommand)]
    Eval(eval::Command),
    /// Write the logits of a list of token ids
    Logits(logits::Args),
    /// Show what this machine offers and what is used
    Doctor(doctor::Args),
    /// Compare every kernel on this machine's GPU with its definition, and time it
    GpuCheck(gpu_check::Args),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Trace(args) => trace::run(&args),
        Command::Predict(args) => predict::run(&args),
        Command::Debug(args) => debug::run(&args),
        Command::Data(command) => data::run(&command),
        Command::Train(args) => watch::run(&args),
        Command::Reproduce(args) => reproduce::run(&args),
        Command::Card(args) => card::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Scale(command) => scale::run(&command),
        Command::Export(args) => train::export(&args),
        Command::Convert(args) => convert::run(&args),
        Command::Quantize(args) => quantize::run(&args),
        Command::Store(command) => store::run(&command),
        Command::Eval(command) => eval::run(&command),
        Command::Logits(args) => logits::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::GpuCheck(args) => gpu_check::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // A reader such as `head` that has seen enough is no failure.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether it is standard output that nobody reads any more: errors of other pipes say what for.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let outermost = error.chain().next();
    outermost
        .and_then(|cause| cause.downcast_ref::<std::io::Error>())
        .is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
}
