//! `cwm bench train`: how fast a model of a shape is trained, on random tokens.

use std::path::Path;

use anyhow::{Context, Result, bail};
use cwm_model::{Config, Model};
use cwm_train::{
    Example, Examples, Observer, Optimizer, Precision, StepReport, TrainConfig, Trainer,
};
use serde_json::json;

use super::median;
use crate::device::Device;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A named shape, such as p20, p60 or p160
    #[arg(long, value_name = "NAME", default_value = "p20")]
    preset: String,
    /// Where to train: cpu, cuda or cuda:NUMBER
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: Device,
    /// What products may run in
    #[arg(long, value_enum, default_value = "bf16")]
    precision: PrecisionName,
    /// Sequences of a step
    #[arg(long, value_name = "N", default_value = "8", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    batch: u32,
    /// Tokens of a sequence
    #[arg(long, value_name = "N", default_value = "1024", value_parser = clap::value_parser!(u32).range(2..=32_768))]
    length: u32,
    /// Steps to measure; one more is made before
    #[arg(long, value_name = "N", default_value = "5", value_parser = clap::value_parser!(u32).range(1..))]
    steps: u32,
    /// Threads on the CPU [default: all cores]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// What the device can do at most, in 10^12 operations a second, for the share of it that was used
    #[arg(long, value_name = "TFLOPS")]
    peak: Option<f64>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum PrecisionName {
    F32,
    Bf16,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let gpu = args.device.open()?;
    let length = args.length as usize;
    let Some(config) = Config::preset(&args.preset) else {
        let known: Vec<_> = Config::presets().collect();
        bail!(
            "no shape is called `{}`; there are {}",
            args.preset,
            known.join(", ")
        );
    };
    let flops_per_token = config.train_flops_per_token(length);
    let (parameters, vocab_size) = (config.n_params(), config.vocab_size as u64);
    let dir = std::env::temp_dir().join(format!("cwm-bench-train-{}", std::process::id()));
    let (device, observed) = {
        let _removed = Removed(&dir);
        let mut trainer = Trainer::new(Model::init(config, 1), settings(args), &dir)?;
        let mut device = "cpu".to_owned();
        if let Some(gpu) = &gpu {
            device = gpu.device().name();
            trainer = trainer.on_gpu(gpu)?;
        }
        let example = |seed| random_example(seed, vocab_size, length);
        let examples = (0..u64::from(args.batch)).map(example).collect();
        let mut observed = Observed::default();
        trainer.run(&Examples::new(examples, "random"), None, &mut observed)?;
        (device, observed)
    };
    // The first step compiles kernels, and touches memory for the first time.
    let speeds = observed.speeds.get(1..).context("no step was measured")?;
    let speed = median(speeds);
    let used = args
        .peak
        .map(|peak| speed * flops_per_token / (peak * 1e12));
    if args.json {
        let report = json!({
            "stack": "cwm",
            "device": device,
            "cpu": format!("{:?}", cwm_kernels::cpu()),
            "threads": threads(args),
            "parameters": parameters,
            "tokens_per_step": args.batch as usize * length,
            "tok_per_s": speeds,
            "tok_per_s_median": speed,
            "flops_per_token": flops_per_token,
            "mfu": used,
            "loss": observed.losses,
            "peak_rss_mb": observed.peak_rss_mb,
        });
        println!("{report}");
        return Ok(());
    }
    println!(
        "{} ({:.1}M parameters) on {device}: {speed:.0} tokens/s, {:.1} TFLOP/s{}",
        args.preset,
        parameters as f64 / 1e6,
        speed * flops_per_token / 1e12,
        used.map_or(String::new(), |used| format!(
            ", {:.1}% of the peak",
            used * 100.0
        )),
    );
    Ok(())
}

fn threads(args: &Args) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    args.threads.unwrap_or_else(cores).max(1)
}

/// Those of the peer, `benches/peers/torch_train_step.py`: torch's defaults, no clipping.
fn settings(args: &Args) -> TrainConfig {
    let optimizer = Optimizer {
        betas: [0.9, 0.999],
        weight_decay: 0.01,
        decay_all: true,
        clip: 0.0,
        ..Optimizer::adamw(3e-4)
    };
    let tokens = args.batch as usize * args.length as usize;
    TrainConfig {
        seed: 0,
        lanes: threads(args),
        threads: threads(args),
        precision: match args.precision {
            PrecisionName::F32 => Precision::F32,
            PrecisionName::Bf16 => Precision::Bf16,
        },
        checkpoint_every: 0,
        keep_last: 1,
        ..TrainConfig::new(u64::from(args.steps) + 1, tokens, optimizer)
    }
}

/// Random tokens, each of which has to predict the next.
fn random_example(seed: u64, vocab_size: u64, length: usize) -> Example {
    let mut state = seed;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) % vocab_size) as u32
    };
    let mut example = Example::causal((0..=length).map(|_| next()).collect());
    example.ids.truncate(length);
    example.positions.truncate(length);
    example.spans.truncate(length);
    example
}

#[derive(Default)]
struct Observed {
    speeds: Vec<f64>,
    losses: Vec<f64>,
    peak_rss_mb: Option<u64>,
}

impl Observer for Observed {
    fn step(&mut self, report: &StepReport) {
        self.speeds.push(report.tok_per_s);
        self.losses.push(report.loss);
        self.peak_rss_mb = peak_rss_mb();
    }
}

/// Largest resident memory so far, where the system tells it (Linux).
fn peak_rss_mb() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let mut lines = status.lines();
    let line = lines.find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib / 1_024)
}

/// A folder of a run that nobody wants, removed in the end.
struct Removed<'a>(&'a Path);

impl Drop for Removed<'_> {
    fn drop(&mut self) {
        // What is left in a folder for temporary files harms nobody.
        let _ = std::fs::remove_dir_all(self.0);
    }
}
