//! What a training run is asked to do: steps, batches, optimiser, learning-rate schedule, upkeep.
//!
//! Promises: every field is checked by [`TrainConfig::validate`] before any work starts, unknown
//! fields are refused when a configuration is read, and the configuration is stored in each
//! checkpoint, so that a resumed run needs nothing but its folder.

use serde::{Deserialize, Serialize};

use crate::Error;

/// More lanes than anybody has cores for, at a gradient's memory each.
const MAX_LANES: usize = 1024;
/// Eight times the largest batch of CWM's stages.
const MAX_BATCH_TOKENS: usize = 1 << 28;
/// More threads than any machine runs at once.
const MAX_THREADS: usize = 4096;

/// Everything that decides a run besides the model's shape and the data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// Optimiser steps of the whole run (a resumed run counts from the start, not from the
    /// resumption).
    pub steps: u64,
    /// Tokens of a batch: it has as many rows as make up this number if all are full, and at least one.
    pub batch_tokens: usize,
    /// How gradients become updates.
    pub optimizer: Optimizer,
    /// How the learning rates change over the run.
    pub schedule: Schedule,
    /// Seed of the data order.
    pub seed: u64,
    /// Shares that a batch is cut into. Gradients are summed within a share, and the shares as a
    /// binary tree, whoever computes them: the bits of a run depend on this number, and neither on
    /// threads nor on ranks, of which no more than this have work. Each takes memory of the size of
    /// the weights.
    pub lanes: usize,
    /// Worker threads of each rank.
    pub threads: usize,
    /// Skip a step whose loss or gradient is this many standard deviations above the mean of the
    /// steps before it. 0 turns this off.
    #[serde(default)]
    pub spike_sigma: f32,
    /// Decay of a running mean of the weights, kept beside them; none if absent.
    #[serde(default)]
    pub ema: Option<f32>,
    /// Compute the activations of a layer again in the backward pass instead of keeping them: less
    /// memory for long rows, about a third more work, the same bits.
    #[serde(default)]
    pub recompute: bool,
    /// What matrix products may run in; weights, gradients and sums are f32 either way.
    #[serde(default)]
    pub precision: Precision,
    /// Steps between checkpoints; 0 means only when the run ends or is stopped.
    pub checkpoint_every: u64,
    /// How many of the newest checkpoints stay on disk (at least 1).
    pub keep_last: usize,
    /// Also keep the checkpoint with the lowest held-out loss.
    #[serde(default)]
    pub keep_best: bool,
    /// Steps between held-out evaluations; 0 means only when the run ends.
    pub eval_every: u64,
}

impl TrainConfig {
    /// A run with the customary upkeep: four lanes, one thread, a checkpoint every 100 steps of which
    /// the last two are kept, constant rates, seed 1.
    pub fn new(steps: u64, batch_tokens: usize, optimizer: Optimizer) -> Self {
        Self {
            steps,
            batch_tokens,
            optimizer,
            schedule: Schedule::Constant { warmup: 0 },
            seed: 1,
            lanes: 4,
            threads: 1,
            spike_sigma: 0.0,
            ema: None,
            recompute: false,
            precision: Precision::default(),
            checkpoint_every: 100,
            keep_last: 2,
            keep_best: false,
            eval_every: 0,
        }
    }
}

/// What the operands of matrix products may be rounded to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Nothing is lost; the bits of a run do not depend on the kind of processor's bf16.
    F32,
    /// 8 bits of mantissa where the processor multiplies that faster, f32 elsewhere.
    #[default]
    Bf16,
}

impl From<Precision> for cwm_kernels::Precision {
    fn from(precision: Precision) -> Self {
        match precision {
            Precision::F32 => Self::F32,
            Precision::Bf16 => Self::Bf16,
        }
    }
}

/// Hyper-parameters of the optimiser.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Optimizer {
    /// Which rule the hidden matrices follow; embeddings, head and norms always follow AdamW.
    pub kind: OptimizerKind,
    /// Peak learning rate of the AdamW parameters.
    pub lr: f32,
    /// Peak learning rate of the embedding tables (AdamW whatever the kind); `lr` if absent. A
    /// row only moves when its token occurs, so tables bear much higher rates than dense weights.
    #[serde(default)]
    pub embedding_lr: Option<f32>,
    /// Peak learning rate of the Muon matrices (ignored by [`OptimizerKind::AdamW`]).
    pub muon_lr: f32,
    /// AdamW's decay rates of the first and second moment.
    pub betas: [f32; 2],
    /// AdamW's epsilon, outside the square root.
    pub eps: f32,
    /// Decoupled weight decay, multiplied by the learning rate of each parameter.
    pub weight_decay: f32,
    /// Also decay vectors (norms). Off by default: decaying a gain pulls it to 0, not to 1.
    #[serde(default)]
    pub decay_all: bool,
    /// Largest global gradient norm; larger gradients are scaled down to it. 0 turns clipping off.
    pub clip: f32,
}

impl Optimizer {
    /// AdamW with the customary constants of small language models
    /// (betas 0.9 and 0.95, decay 0.1, clip 1).
    pub fn adamw(lr: f32) -> Self {
        Self {
            kind: OptimizerKind::AdamW,
            lr,
            embedding_lr: None,
            muon_lr: 0.0,
            betas: [0.9, 0.95],
            eps: 1e-8,
            weight_decay: 0.1,
            decay_all: false,
            clip: 1.0,
        }
    }

    /// Muon at `muon_lr` for the hidden matrices, AdamW at `lr` for everything else.
    pub fn muon(muon_lr: f32, lr: f32) -> Self {
        Self {
            kind: OptimizerKind::Muon,
            muon_lr,
            ..Self::adamw(lr)
        }
    }
}

/// Which rule updates the hidden matrices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerKind {
    /// Adam with decoupled weight decay, for every parameter.
    AdamW,
    /// Orthogonalised momentum for the matrices named `*_proj.weight`, AdamW for the rest.
    Muon,
}

/// Shape of the learning rate over a run, as a multiple of its peak.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Schedule {
    /// Warm-up, stable, decay: linear warm-up, constant, then linear decay to `final_ratio` over
    /// the last `decay_steps`. A run may be stopped in its stable part and decayed later
    /// (see [`Changes`](crate::Changes)).
    Wsd {
        /// Steps from 0 to the peak.
        warmup: u64,
        /// Steps of the final decay.
        decay_steps: u64,
        /// Multiple of the peak at the last step.
        final_ratio: f32,
    },
    /// Linear warm-up, then half a cosine down to `final_ratio` at the last step.
    Cosine {
        /// Steps from 0 to the peak.
        warmup: u64,
        /// Multiple of the peak at the last step.
        final_ratio: f32,
    },
    /// Linear warm-up, then the peak.
    Constant {
        /// Steps from 0 to the peak.
        warmup: u64,
    },
}

impl Schedule {
    /// Multiple of the peak learning rate for step `step` (0-based) of `steps`.
    pub fn multiplier(&self, step: u64, steps: u64) -> f64 {
        let (warmup, after_warmup) = match *self {
            Self::Wsd {
                warmup,
                decay_steps,
                final_ratio,
            } => {
                let start = steps.saturating_sub(decay_steps);
                let done = (step + 1).saturating_sub(start);
                (
                    warmup,
                    lerp(1.0, final_ratio.into(), fraction(done, decay_steps)),
                )
            }
            Self::Cosine {
                warmup,
                final_ratio,
            } => {
                let done = (step + 1).saturating_sub(warmup);
                let angle = std::f64::consts::PI * fraction(done, steps.saturating_sub(warmup));
                (
                    warmup,
                    lerp(final_ratio.into(), 1.0, 0.5 * (1.0 + angle.cos())),
                )
            }
            Self::Constant { warmup } => (warmup, 1.0),
        };
        // A decay that starts inside the warm-up multiplies it, so the rate never jumps.
        after_warmup * fraction(step + 1, warmup)
    }

    fn validate(&self, steps: u64) -> Result<(), Error> {
        let (warmup, decay, final_ratio) = match *self {
            Self::Wsd {
                warmup,
                decay_steps,
                final_ratio,
            } => (warmup, decay_steps, final_ratio),
            Self::Cosine {
                warmup,
                final_ratio,
            } => (warmup, 0, final_ratio),
            Self::Constant { warmup } => (warmup, 0, 1.0),
        };
        check(
            (0.0..=1.0).contains(&final_ratio),
            "schedule.final_ratio",
            format!("must lie in 0..=1, not {final_ratio}"),
        )?;
        check(
            warmup.saturating_add(decay) <= steps,
            "schedule",
            format!("warm-up ({warmup}) and decay ({decay}) take more than the {steps} steps"),
        )
    }
}

/// `done / whole`, at most 1; a part of no length is over at once.
fn fraction(done: u64, whole: u64) -> f64 {
    if whole == 0 {
        return 1.0;
    }
    done.min(whole) as f64 / whole as f64
}

fn lerp(from: f64, to: f64, t: f64) -> f64 {
    from + (to - from) * t
}

impl TrainConfig {
    /// Checks every field.
    ///
    /// # Errors
    /// [`Error::Config`] naming the first field that cannot work, and why.
    pub fn validate(&self) -> Result<(), Error> {
        check(self.steps > 0, "steps", "must be at least 1")?;
        check(
            (1..=MAX_BATCH_TOKENS).contains(&self.batch_tokens),
            "batch_tokens",
            format!(
                "must lie in 1..={MAX_BATCH_TOKENS}, not {}",
                self.batch_tokens
            ),
        )?;
        check(
            (1..=MAX_THREADS).contains(&self.threads),
            "threads",
            format!("must lie in 1..={MAX_THREADS}, not {}", self.threads),
        )?;
        check(
            (1..=MAX_LANES).contains(&self.lanes),
            "lanes",
            format!("must lie in 1..={MAX_LANES}, not {}", self.lanes),
        )?;
        check(
            self.spike_sigma.is_finite() && self.spike_sigma >= 0.0,
            "spike_sigma",
            format!("must be finite and not negative, not {}", self.spike_sigma),
        )?;
        check(
            self.ema.is_none_or(|decay| (0.0..1.0).contains(&decay)),
            "ema",
            format!("must lie in 0..1, not {}", self.ema.unwrap_or_default()),
        )?;
        check(
            self.keep_last > 0,
            "keep_last",
            "must be at least 1: the newest checkpoint always stays",
        )?;
        self.optimizer.validate()?;
        self.schedule.validate(self.steps)
    }
}

impl Optimizer {
    fn validate(&self) -> Result<(), Error> {
        for (field, value) in [
            ("optimizer.lr", self.lr),
            (
                "optimizer.embedding_lr",
                self.embedding_lr.unwrap_or_default(),
            ),
            ("optimizer.muon_lr", self.muon_lr),
            ("optimizer.weight_decay", self.weight_decay),
            ("optimizer.clip", self.clip),
        ] {
            check(
                value.is_finite() && value >= 0.0,
                field,
                format!("must be finite and not negative, not {value}"),
            )?;
        }
        check(
            self.eps.is_finite() && self.eps > 0.0,
            "optimizer.eps",
            format!("must be positive, not {}", self.eps),
        )?;
        check(
            self.betas.iter().all(|beta| (0.0..1.0).contains(beta)),
            "optimizer.betas",
            format!("must lie in 0..1, not {:?}", self.betas),
        )?;
        check(
            self.kind == OptimizerKind::AdamW || self.muon_lr > 0.0,
            "optimizer.muon_lr",
            "must be positive when the optimiser is Muon",
        )
    }
}

fn check(holds: bool, field: &'static str, reason: impl Into<String>) -> Result<(), Error> {
    if holds {
        Ok(())
    } else {
        Err(Error::Config {
            field,
            reason: reason.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> TrainConfig {
        TrainConfig {
            schedule: Schedule::Wsd {
                warmup: 10,
                decay_steps: 20,
                final_ratio: 0.1,
            },
            ..TrainConfig::new(100, 64, Optimizer::muon(0.02, 1e-3))
        }
    }

    #[test]
    fn wsd_rises_stays_and_falls() {
        let schedule = config().schedule;
        let at = |step| schedule.multiplier(step, 100);
        assert!((at(0) - 0.1).abs() < 1e-12);
        assert!((at(4) - 0.5).abs() < 1e-12);
        assert!((9..80).all(|step| at(step) == 1.0));
        assert!((80..99).all(|step| at(step + 1) < at(step)));
        assert!(
            (at(89) - 0.55).abs() < 1e-7,
            "half-way through the decay: {}",
            at(89)
        );
        assert!((at(99) - 0.1).abs() < 1e-7);
        assert!(
            (at(1_000) - 0.1).abs() < 1e-7,
            "steps past the end keep the last rate"
        );
    }

    #[test]
    fn cosine_and_constant() {
        let cosine = Schedule::Cosine {
            warmup: 10,
            final_ratio: 0.0,
        };
        assert_eq!(cosine.multiplier(9, 110), 1.0);
        assert!((cosine.multiplier(59, 110) - 0.5).abs() < 1e-9);
        assert!(cosine.multiplier(109, 110).abs() < 1e-12);
        let constant = Schedule::Constant { warmup: 0 };
        assert!((0..5).all(|step| constant.multiplier(step, 5) == 1.0));
    }

    #[test]
    fn wrong_fields_are_named() {
        type Spoil = fn(&mut TrainConfig);
        let cases: [(&str, Spoil); 11] = [
            ("steps", |c| c.steps = 0),
            ("batch_tokens", |c| c.batch_tokens = 0),
            ("threads", |c| c.threads = 0),
            ("keep_last", |c| c.keep_last = 0),
            ("lanes", |c| c.lanes = 0),
            ("spike_sigma", |c| c.spike_sigma = -1.0),
            ("ema", |c| c.ema = Some(1.0)),
            ("optimizer.lr", |c| c.optimizer.lr = f32::NAN),
            ("optimizer.betas", |c| c.optimizer.betas = [0.9, 1.0]),
            ("optimizer.muon_lr", |c| c.optimizer.muon_lr = 0.0),
            ("schedule", |c| c.steps = 29),
        ];
        config()
            .validate()
            .expect("the untouched configuration is fine");
        for (field, spoil) in cases {
            let mut config = config();
            spoil(&mut config);
            let error = config.validate().expect_err(field);
            assert!(
                matches!(error, Error::Config { field: f, .. } if f == field),
                "{error}"
            );
        }
    }

    #[test]
    fn unknown_fields_are_refused_at_every_level() {
        let text = serde_json::to_string(&config()).expect("serialises");
        assert_eq!(
            serde_json::from_str::<TrainConfig>(&text).expect("round-trips"),
            config()
        );
        for place in ["{\"steps\"", "{\"kind\":\"muon\"", "{\"kind\":\"wsd\""] {
            assert!(text.contains(place), "{text}");
            let spoiled = text.replacen(place, &format!("{{\"stepz\":1,{}", &place[1..]), 1);
            let error = serde_json::from_str::<TrainConfig>(&spoiled).expect_err(place);
            assert!(error.to_string().contains("stepz"), "{error}");
        }
    }
}
