//! A tiny model, a toy data set with structure to learn, and a configuration that suits both.

#![allow(
    dead_code,
    reason = "each test program uses its own part of this module"
)]

use std::path::Path;

use cwm_model::{Config, LayerType, Model, Rope};
use cwm_train::{
    Example, Examples, Observer, Optimizer, Schedule, StepReport, TrainConfig, Trainer,
};

pub(crate) const VOCABULARY: u32 = 24;

pub(crate) fn model() -> Model {
    model_with_heads_of(8)
}

pub(crate) fn model_with_heads_of(head_dim: usize) -> Model {
    let config = Config {
        vocab_size: VOCABULARY as usize,
        hidden_size: 32,
        intermediate_size: 48,
        n_layers: 2,
        n_heads: 4,
        n_kv_heads: 2,
        head_dim,
        layer_types: vec![LayerType::Sliding, LayerType::Full],
        sliding_window: 6,
        rms_norm_eps: 1e-5,
        rope: Rope {
            theta: 10_000.0,
            scaling: None,
        },
        max_position_embeddings: 64,
        n_previous_embeddings: 0,
        run_embedding: None,
        tie_word_embeddings: false,
        bos_token_id: Some(0),
        eos_token_id: vec![1],
    };
    Model::init(config, 5)
}

/// Sequences `first, first + stride, ...` modulo the vocabulary, of different lengths: after two
/// tokens the rest follows.
pub(crate) fn data() -> Examples {
    let counting = |i: u32| {
        let (first, stride, length) = (i * 7 % VOCABULARY, i % 5 + 1, 8 + i % 6);
        (0..length)
            .map(|t| (first + t * stride) % VOCABULARY)
            .collect()
    };
    let examples = (0..20).map(|i| {
        let mut example = Example::causal(counting(i));
        // The first continuation cannot be known: the stride is still hidden.
        example.targets[0].weight = 0.0;
        example
    });
    Examples::new(examples.collect(), "counting-v1")
}

pub(crate) fn config(steps: u64, optimizer: Optimizer) -> TrainConfig {
    TrainConfig {
        schedule: Schedule::Wsd {
            warmup: 2,
            decay_steps: steps / 3,
            final_ratio: 0.1,
        },
        seed: 17,
        threads: 2,
        checkpoint_every: 0,
        ..TrainConfig::new(steps, 60, optimizer)
    }
}

/// Asks to stop after step `.0`, and remembers the loss of each step.
#[derive(Default)]
pub(crate) struct StopAfter(pub(crate) u64, pub(crate) Vec<f64>);

impl Observer for StopAfter {
    fn step(&mut self, report: &StepReport) {
        self.1.push(report.loss);
    }

    fn should_stop(&mut self) -> bool {
        self.1.len() as u64 == self.0
    }
}

/// A run from the start to `stop_after` steps, or to its end.
pub(crate) fn run(dir: &Path, config: TrainConfig, stop_after: u64) -> Trainer {
    let mut trainer = Trainer::new(model(), config, dir).expect("starts");
    let mut observer = StopAfter(stop_after, Vec::new());
    trainer.run(&data(), None, &mut observer).expect("runs");
    trainer
}

/// Bits of all parameters, so that NaN or a sign of zero cannot hide a difference.
pub(crate) fn bits(trainer: &Trainer) -> Vec<u32> {
    trainer
        .model()
        .params
        .iter()
        .map(|value| value.to_bits())
        .collect()
}

/// How often to kill a run: often only where tests may take long.
pub(crate) fn kills() -> usize {
    match std::env::var_os("CWM_SLOW_TESTS") {
        Some(_) => 20,
        None => 4,
    }
}

/// A moment nobody chose: up to some milliseconds, within which a small run makes a step and
/// writes a checkpoint.
pub(crate) fn random_pause() -> std::time::Duration {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let nanos = now.map_or(0, |time| time.subsec_nanos());
    std::time::Duration::from_micros(u64::from(nanos / 7 % 9_000))
}
