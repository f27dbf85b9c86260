//! `cwm bench`: how fast this machine runs a model, or trains one.

mod engine;
mod speed;
mod trace;
mod train;

use anyhow::Result;

#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    speed: speed::SpeedArgs,
}

#[derive(clap::Subcommand)]
enum What {
    /// Generating a trace: plain decoding against drafts and the frame grammar
    Trace(trace::Args),
    /// Training steps of a named shape on random tokens
    Train(train::Args),
}

pub(crate) fn run(args: &Args) -> Result<()> {
    match &args.what {
        None => speed::run(&args.speed),
        Some(What::Trace(args)) => trace::run(args),
        Some(What::Train(args)) => train::run(args),
    }
}

/// The median of at least one number.
fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 {
        sorted[middle]
    } else {
        (sorted[middle - 1] + sorted[middle]) / 2.0
    }
}
