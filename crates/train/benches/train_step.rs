//! Training speed of two shapes, of 18.9M parameters with 8 sequences of 1,024 tokens per step, and of
//! 179.3M with 2: forward, backward and AdamW, through the public [`Trainer`]. The last line of the
//! output is JSON.
//!
//! `cargo bench -p cwm-train --bench train_step -- [--shape 20m|160m] [--precision bf16|f32] [--steps N] [--threads N]`
//!
//! The first step is not counted. `benches/peers/torch_train_step.py` measures the same work in
//! PyTorch, and `benches/train_step_pairs.py` runs the two in turn.

use std::process::ExitCode;

use cwm_model::{Config, LayerType, Model, Rope, causal_spans};
use cwm_train::{
    Example, Examples, Observer, Optimizer, Precision, StepReport, TrainConfig, Trainer,
};

const LENGTH: usize = 1_024;

struct Arguments {
    /// Whether the bench harness asked for a measurement (`cargo test` does not).
    bench: bool,
    steps: u64,
    threads: usize,
    shape: Shape,
    precision: Precision,
}

/// A model and the sequences of its batch.
#[derive(Clone, Copy)]
struct Shape {
    hidden_size: usize,
    intermediate_size: usize,
    n_layers: usize,
    n_heads: usize,
    n_kv_heads: usize,
    vocab_size: usize,
    batch: usize,
}

const SMALL: Shape = Shape {
    hidden_size: 384,
    intermediate_size: 1_024,
    n_layers: 8,
    n_heads: 6,
    n_kv_heads: 2,
    vocab_size: 8_192,
    batch: 8,
};

const LARGE: Shape = Shape {
    hidden_size: 768,
    intermediate_size: 2_816,
    n_layers: 16,
    n_heads: 12,
    n_kv_heads: 4,
    vocab_size: 32_768,
    batch: 2,
};

fn main() -> ExitCode {
    match parse().and_then(|arguments| {
        if arguments.bench {
            measure(&arguments)
        } else {
            Ok(())
        }
    }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("train_step: {message}");
            ExitCode::FAILURE
        }
    }
}

fn parse() -> Result<Arguments, String> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut parsed = Arguments {
        bench: false,
        steps: 5,
        threads: cores,
        shape: SMALL,
        precision: Precision::Bf16,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        if name == "--shape" {
            parsed.shape = match arguments.next().as_deref() {
                Some("20m") => SMALL,
                Some("160m") => LARGE,
                _ => return Err("`--shape` needs 20m or 160m".to_owned()),
            };
            continue;
        }
        if name == "--precision" {
            parsed.precision = match arguments.next().as_deref() {
                Some("bf16") => Precision::Bf16,
                Some("f32") => Precision::F32,
                _ => return Err("`--precision` needs bf16 or f32".to_owned()),
            };
            continue;
        }
        let mut number = || {
            let value = arguments.next().and_then(|value| value.parse::<u64>().ok());
            value
                .filter(|&n| n > 0)
                .ok_or(format!("`{name}` needs a positive number"))
        };
        match name.as_str() {
            "--bench" => parsed.bench = true,
            "--steps" => parsed.steps = number()?,
            "--threads" => parsed.threads = number()? as usize,
            _ => return Err(format!("unknown argument `{name}`")),
        }
    }
    Ok(parsed)
}

fn measure(arguments: &Arguments) -> Result<(), String> {
    let config = config(arguments.shape);
    let batch = arguments.shape.batch;
    let parameters = config.n_params();
    let vocabulary = config.vocab_size as u64;
    let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
    let mut trainer = Trainer::new(Model::init(config, 1), run_config(arguments), dir.path())
        .map_err(|error| error.to_string())?;
    let examples = (0..batch as u64)
        .map(|seed| random_example(seed, vocabulary))
        .collect();
    let mut observed = Speeds::default();
    trainer
        .run(&Examples::new(examples, "random"), None, &mut observed)
        .map_err(|error| error.to_string())?;

    // The first step touches its memory for the first time.
    let mut speeds = observed.speeds.split_off(1);
    let report = serde_json::json!({
        "stack": "cwm",
        "cpu": format!("{:?}", cwm_kernels::cpu()),
        "threads": arguments.threads,
        "parameters": parameters,
        "tokens_per_step": batch * LENGTH,
        "tok_per_s": speeds.clone(),
        "tok_per_s_median": median(&mut speeds),
        "loss": observed.losses,
        "peak_rss_mb": observed.peak_rss_mb,
    });
    println!("{report}");
    Ok(())
}

fn config(shape: Shape) -> Config {
    let n_layers = shape.n_layers;
    Config {
        vocab_size: shape.vocab_size,
        hidden_size: shape.hidden_size,
        intermediate_size: shape.intermediate_size,
        n_layers,
        n_heads: shape.n_heads,
        n_kv_heads: shape.n_kv_heads,
        head_dim: 64,
        layer_types: vec![LayerType::Full; n_layers],
        sliding_window: LENGTH,
        rms_norm_eps: 1e-5,
        rope: Rope {
            theta: 10_000.0,
            scaling: None,
        },
        max_position_embeddings: LENGTH,
        n_previous_embeddings: 0,
        run_embedding: None,
        tie_word_embeddings: false,
        bos_token_id: None,
        eos_token_id: Vec::new(),
    }
}

/// The settings of the peer: torch's defaults, no clipping.
fn run_config(arguments: &Arguments) -> TrainConfig {
    let optimizer = Optimizer {
        betas: [0.9, 0.999],
        weight_decay: 0.01,
        decay_all: true,
        clip: 0.0,
        ..Optimizer::adamw(3e-4)
    };
    TrainConfig {
        seed: 0,
        lanes: arguments.threads,
        threads: arguments.threads,
        precision: arguments.precision,
        checkpoint_every: 0,
        keep_last: 1,
        ..TrainConfig::new(
            arguments.steps + 1,
            LENGTH * arguments.shape.batch,
            optimizer,
        )
    }
}

/// Random tokens, each of which has to predict the next.
fn random_example(seed: u64, vocabulary: u64) -> Example {
    let mut state = seed;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) % vocabulary) as u32
    };
    let tokens = (0..=LENGTH).map(|_| next()).collect();
    let mut example = Example::causal(tokens);
    example.ids.truncate(LENGTH);
    example.positions.truncate(LENGTH);
    example.spans = causal_spans(LENGTH);
    example
}

#[derive(Default)]
struct Speeds {
    speeds: Vec<f64>,
    losses: Vec<f64>,
    peak_rss_mb: Option<u64>,
}

impl Observer for Speeds {
    fn step(&mut self, report: &StepReport) {
        self.speeds.push(report.tok_per_s);
        self.losses.push(report.loss);
        self.peak_rss_mb = peak_rss_mb();
    }
}

/// Largest resident memory so far, where the system tells it (Linux).
fn peak_rss_mb() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib / 1_024)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values[middle]
    } else {
        (values[middle - 1] + values[middle]) / 2.0
    }
}
