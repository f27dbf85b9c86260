//! `cwm bench`, in the manner of llama-bench: reading a prompt (`pp`) and generating (`tg`).

use std::hint::black_box;
use std::io::{self, Write};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use cwm_engine::{Engine, Session, Want};
use serde_json::json;

use super::engine::{EngineArgs, Opened, tell};
use super::median;
use crate::progress;

#[derive(clap::Args)]
pub(crate) struct SpeedArgs {
    #[command(flatten)]
    engine: EngineArgs,
    /// Tokens of the prompt that is read; 0 leaves this out
    #[arg(long, value_name = "N", default_value_t = 512)]
    pp: usize,
    /// Tokens that are generated, one by one; 0 leaves this out
    #[arg(long, value_name = "N", default_value_t = 128)]
    tg: usize,
    /// Tokens that are in the context before
    #[arg(long, value_name = "N", default_value_t = 0)]
    depth: usize,
    /// Measured runs, after one that is not
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    repetitions: u32,
    /// Print JSON, an object a line
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &SpeedArgs) -> Result<()> {
    let start = Instant::now();
    let loading = progress::spinner("loading the weights");
    let Opened { engine, cache } = args.engine.open(args.depth + args.pp.max(args.tg), 0)?;
    loading.finish_and_clear();
    let load_seconds = start.elapsed().as_secs_f64();
    let packed_cache = cache.as_ref().map(tell);
    let limit = engine.max_positions();
    if args.depth + args.pp.max(args.tg) > limit {
        bail!("the model has room for {limit} tokens; ask for fewer with --depth, --pp and --tg");
    }
    let mut out = io::stdout().lock();
    if !args.json {
        writeln!(
            out,
            "{}: {:.1}M parameters, {} weights, {:.1} MB, {} in {load_seconds:.1} s; {} threads, {}",
            args.engine.model,
            engine.config().n_params() as f64 / 1e6,
            engine.options().weights,
            engine.n_weight_bytes() as f64 / 1e6,
            if packed_cache == Some("read") {
                "read"
            } else {
                "packed"
            },
            engine.options().threads,
            cwm_kernels::cpu().level,
        )?;
    }
    let before = prefix(&engine, args.depth)?;
    for (name, n) in [("pp", args.pp), ("tg", args.tg)] {
        if n == 0 {
            continue;
        }
        let mut samples = Vec::new();
        for repetition in 0..=args.repetitions {
            let seconds = match name {
                "pp" => read(&engine, &before, n)?,
                _ => generate(&engine, &before, n)?,
            };
            if repetition > 0 {
                samples.push(n as f64 / seconds);
            }
        }
        let median = median(&samples);
        if args.json {
            let mut line = json!({
                "test": name, "tokens": n, "depth": args.depth, "model": args.engine.model,
                "n_params": engine.config().n_params(),
                "quant": engine.options().weights.name(),
                "weight_bytes": engine.n_weight_bytes(),
                "bytes_per_token": engine.bytes_per_token(),
                "kv_bytes": before.bytes(),
                "threads": engine.options().threads,
                "kernels": cwm_kernels::cpu().level.name(),
                "load_seconds": load_seconds,
                "tokens_per_second": median, "samples": samples,
            });
            if let Some(packed_cache) = packed_cache {
                line["packed_cache"] = packed_cache.into();
            }
            writeln!(out, "{line}")?;
        } else {
            let depth = if args.depth > 0 {
                format!(" @ {}", args.depth)
            } else {
                String::new()
            };
            writeln!(out, "{name} {n}{depth}  {median:.1} tokens/s")?;
        }
        out.flush()?;
    }
    Ok(())
}

/// A session of `n` tokens.
fn prefix(engine: &Engine, n: usize) -> Result<Session> {
    let mut session = Session::new(engine);
    session.extend(engine, &tokens(engine, n), Want::None)?;
    Ok(session)
}

/// Any tokens.
fn tokens(engine: &Engine, n: usize) -> Vec<u32> {
    let vocab_size = engine.config().vocab_size as u32;
    (0..n as u32)
        .map(|i| i.wrapping_mul(7_919) % vocab_size)
        .collect()
}

/// Seconds to read `n` tokens behind `before`.
fn read(engine: &Engine, before: &Session, n: usize) -> Result<f64> {
    let (mut session, ids) = (before.fork(), tokens(engine, n));
    let start = Instant::now();
    black_box(session.extend(engine, &ids, Want::Last)?);
    Ok(start.elapsed().as_secs_f64())
}

/// Seconds to generate `n` tokens behind `before`. What is generated is of no interest, but each
/// token is the most likely one after the last, so that nothing is left out.
fn generate(engine: &Engine, before: &Session, n: usize) -> Result<f64> {
    let mut session = before.fork();
    let mut id = 1;
    let start = Instant::now();
    for _ in 0..n {
        let logits = session.extend(engine, &[id], Want::Last)?;
        let row = logits.last().context("one row of logits was asked for")?;
        let largest = row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
        id = largest.map_or(0, |(id, _)| id as u32);
    }
    Ok(start.elapsed().as_secs_f64())
}
