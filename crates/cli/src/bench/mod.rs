//! `cwm bench`: how fast the engine is.

mod trace;

use anyhow::Result;

/// What to measure.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Generating a trace: plain decoding against drafts and the frame grammar
    Trace(trace::Args),
}

pub(crate) fn run(command: &Command) -> Result<()> {
    match command {
        Command::Trace(args) => trace::run(args),
    }
}
