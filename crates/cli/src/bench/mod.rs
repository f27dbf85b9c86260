//! `cwm bench`: how fast this machine runs a model.

mod speed;

use anyhow::Result;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    speed: speed::Args,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    speed::run(&args.speed)
}
