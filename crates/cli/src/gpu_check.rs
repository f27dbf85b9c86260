//! `cwm gpu-check`: every kernel on this machine's GPU, beside its definition and beside its floor.

use std::io::{self, Write};

use anyhow::{Context, Result, ensure};
use cwm_cuda::check::{Check, Report, Size, run as check};
use serde_json::json;

use crate::device::Device;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Which GPU: cuda or cuda:NUMBER
    #[arg(long, value_name = "DEVICE", default_value = "cuda")]
    device: Device,
    /// Seed of the random numbers [default: the time]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Small shapes only: says what is right, and nothing of speed
    #[arg(long)]
    quick: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let gpu = args
        .device
        .open()?
        .context("the kernels are for GPUs: use --device cuda")?;
    let now = || {
        let since = std::time::SystemTime::UNIX_EPOCH
            .elapsed()
            .unwrap_or_default();
        since.as_secs()
    };
    let seed = args.seed.unwrap_or_else(now);
    let size = match args.quick {
        true => Size::Small,
        false => Size::Full,
    };
    eprintln!("checking {} with seed {seed}", gpu.device().name());
    let report = check(&gpu, size, seed)?;
    let mut out = io::stdout().lock();
    match args.json {
        true => writeln!(out, "{}", document(&report, seed))?,
        false => table(&mut out, &report, size)?,
    }
    let wrong: Vec<_> = report
        .checks
        .iter()
        .filter(|check| !check.is_right())
        .collect();
    let names: Vec<_> = wrong.iter().map(|check| check.kernel).collect();
    ensure!(
        wrong.is_empty(),
        "{} kernels compute something else on this device: {} (run again with --seed {seed} to see the same)",
        wrong.len(),
        names.join(", ")
    );
    Ok(())
}

fn document(report: &Report, seed: u64) -> serde_json::Value {
    let check = |check: &Check| {
        json!({
            "kernel": check.kernel,
            "right": check.is_right(),
            "error": check.error,
            "tolerance": check.tolerance,
            "shape": check.shape,
            "seconds": check.seconds,
            "floor_seconds": check.floor,
        })
    };
    json!({
        "device": report.device,
        "seed": seed,
        "bytes_per_second": report.rates.bandwidth,
        "product_flops": report.rates.products,
        "checks": report.checks.iter().map(check).collect::<Vec<_>>(),
    })
}

fn table(out: &mut impl Write, report: &Report, size: Size) -> io::Result<()> {
    writeln!(
        out,
        "{}: copies {:.2} TB/s, bf16 products {:.0} TFLOP/s",
        report.device,
        report.rates.bandwidth / 1e12,
        report.rates.products / 1e12
    )?;
    writeln!(
        out,
        "{:<20} {:<6} {:>9} {:>9} {:>11} {:>11} {:>6}  shape",
        "kernel", "result", "error", "allowed", "us", "floor us", "share"
    )?;
    for check in &report.checks {
        let result = if check.is_right() { "ok" } else { "WRONG" };
        let share = check.floor / check.seconds * 100.0;
        let Check {
            kernel,
            error,
            tolerance,
            shape,
            ..
        } = check;
        write!(
            out,
            "{kernel:<20} {result:<6} {error:>9.1e} {tolerance:>9.1e} "
        )?;
        match size {
            Size::Small => writeln!(out, "{:>11} {:>11} {:>6}  {shape}", "-", "-", "-")?,
            Size::Full => writeln!(
                out,
                "{:>11.1} {:>11.1} {share:>5.0}%  {shape}",
                check.seconds * 1e6,
                check.floor * 1e6
            )?,
        }
    }
    Ok(())
}
