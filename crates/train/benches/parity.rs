//! 200 steps of training for others to repeat: writes the initial weights, the tokens of every
//! step, the settings and our losses to a folder. `benches/train_parity.py` repeats them in
//! PyTorch and compares.
//!
//! `cargo bench -p cwm-train --bench parity -- --out DIR [--steps N]`
//!
//! The data are sequences with something to learn at every distance: noisy counting, of which each
//! has its own stride, and copies of what stood 32 tokens before.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use cwm_model::{Config, Dtype, LayerType, Model, Rope};
use cwm_train::{
    Example, Examples, Observer, Optimizer, Schedule, StepReport, TrainConfig, Trainer, permutation,
};

const LENGTH: usize = 128;
const BATCH: usize = 8;
const VOCABULARY: u32 = 512;
const SEED: u64 = 3;

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (mut out, mut steps) = (None, 200);
    while let Some(name) = arguments.next() {
        match name.as_str() {
            "--bench" => {}
            "--out" => out = arguments.next().map(PathBuf::from),
            "--steps" => steps = arguments.next().and_then(|n| n.parse().ok()).unwrap_or(0),
            _ => return refuse(&format!("unknown argument `{name}`")),
        }
    }
    // `cargo test` runs benches too, without a folder to write to.
    let Some(out) = out else {
        return ExitCode::SUCCESS;
    };
    if steps == 0 {
        return refuse("`--steps` needs a positive number");
    }
    match train(&out, steps) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => refuse(&failure.to_string()),
    }
}

fn refuse(message: &str) -> ExitCode {
    eprintln!("parity: {message}");
    ExitCode::FAILURE
}

fn train(out: &Path, steps: u64) -> Result<(), Failure> {
    let n_rows = steps as usize * BATCH;
    let rows: Vec<Vec<u32>> = (0..n_rows as u64).map(row).collect();
    let model = Model::init(shape(), 11);
    fs::create_dir_all(out)?;
    model.save(&out.join("initial"), Dtype::F32)?;
    // In the order in which the trainer draws them.
    let tokens: Vec<u8> = permutation(n_rows, SEED, 0)
        .into_iter()
        .flat_map(|index| rows[index].iter().flat_map(|id| id.to_le_bytes()))
        .collect();
    fs::write(out.join("tokens.bin"), tokens)?;

    let config = settings(steps);
    let examples = rows.into_iter().map(Example::causal).collect();
    let folder = tempfile::tempdir()?;
    let mut trainer = Trainer::new(model, config.clone(), folder.path())?;
    let mut losses = Losses::default();
    trainer.run(&Examples::new(examples, "parity-v1"), None, &mut losses)?;
    let multipliers: Vec<f64> = (0..steps)
        .map(|step| config.schedule.multiplier(step, steps))
        .collect();
    let report = serde_json::json!({
        "steps": steps,
        "batch": BATCH,
        "length": LENGTH,
        "optimizer": config.optimizer,
        "multipliers": multipliers,
        "loss": losses.loss,
        "grad_norm": losses.grad_norm,
    });
    fs::write(out.join("cwm.json"), report.to_string())?;
    println!("{}", serde_json::json!({ "last_loss": losses.loss.last() }));
    Ok(())
}

fn settings(steps: u64) -> TrainConfig {
    TrainConfig {
        schedule: Schedule::Cosine {
            warmup: steps / 10,
            final_ratio: 0.1,
        },
        seed: SEED,
        checkpoint_every: 0,
        ..TrainConfig::new(steps, LENGTH * BATCH, Optimizer::adamw(3e-3))
    }
}

fn shape() -> Config {
    let n_layers = 4;
    Config {
        vocab_size: VOCABULARY as usize,
        hidden_size: 128,
        intermediate_size: 256,
        n_layers,
        n_heads: 4,
        n_kv_heads: 2,
        head_dim: 32,
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
        eos_token_id: vec![0],
    }
}

/// The tokens of one sequence.
fn row(seed: u64) -> Vec<u32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut below = |bound: u32| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 33) as u32 % bound
    };
    let (stride, copies) = (1 + below(7), below(2) == 0);
    let mut ids: Vec<u32> = vec![below(VOCABULARY)];
    while ids.len() < LENGTH {
        let last = ids[ids.len() - 1];
        ids.push(match ids.len().checked_sub(32) {
            Some(before) if copies => ids[before],
            _ if below(10) == 0 => below(VOCABULARY),
            _ => (last + stride) % VOCABULARY,
        });
    }
    ids
}

#[derive(Default)]
struct Losses {
    loss: Vec<f64>,
    grad_norm: Vec<f64>,
}

impl Observer for Losses {
    fn step(&mut self, report: &StepReport) {
        self.loss.push(report.loss);
        self.grad_norm.push(report.grad_norm);
    }
}
