//! What a run tells while it goes on, and when it ends.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use crate::tally::{Names, Tally};

/// One finished step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StepReport {
    /// Number of this step, from 1.
    pub step: u64,
    /// Steps of the whole run.
    pub steps: u64,
    /// How often the examples that were drawn so far would fill the data set.
    pub epoch: f64,
    /// Mean loss of the batch in nats, weighted, before the update.
    pub loss: f64,
    /// Share of targets predicted right, in 0..=1, before the update.
    pub accuracy: f64,
    /// The same for each source that occurs in the batch.
    pub sources: Vec<Score>,
    /// The same for each kind of target that occurs in the batch.
    pub kinds: Vec<Score>,
    /// AdamW learning rate.
    pub lr: f64,
    /// Muon learning rate, when the optimiser is Muon.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub muon_lr: Option<f64>,
    /// Norm of the whole gradient before clipping.
    pub grad_norm: f64,
    /// Tokens of the batch.
    pub tokens: usize,
    /// Tokens per second of this step.
    pub tok_per_s: f64,
    /// Wall-clock time of this step, data included.
    pub seconds: f64,
    /// Resident memory of this process in megabytes, where the system tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rss_mb: Option<f64>,
    /// Why no update was made, if none was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skipped: Option<Skip>,
    /// Estimated time until the last step, from the recent pace.
    #[serde(skip)]
    pub eta: Duration,
}

/// Why a step made no update.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Skip {
    /// The loss or a gradient was infinite or not a number.
    NonFinite,
    /// No target of the batch has a weight.
    NoTargets,
    /// The loss or the norm of the gradient was far above what it was lately.
    Spike,
}

impl std::fmt::Display for Skip {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Self::NonFinite => "loss or gradient is no finite number",
            Self::NoTargets => "no target has a weight",
            Self::Spike => "loss or gradient is far above what it was",
        })
    }
}

/// How well the targets of one source or one kind were predicted.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Score {
    /// Name of the source or the kind.
    pub name: String,
    /// Mean loss in nats, weighted.
    pub loss: f64,
    /// Share predicted right, in 0..=1.
    pub accuracy: f64,
    /// Targets.
    pub targets: usize,
    /// Of the frames that have such targets, the share in which all of them were predicted right;
    /// absent where there is no frame.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frame_exact: Option<f64>,
}

/// How well some weights predict some data.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Scores {
    /// Mean weighted loss in nats.
    pub loss: f64,
    /// Share of targets predicted right, in 0..=1.
    pub accuracy: f64,
    /// Targets scored.
    pub targets: usize,
    /// Predicted frames in the data; 0 where its rows have none.
    pub frames: usize,
    /// Share of these frames whose every target was predicted right, each from the true tokens
    /// before it; 0 where there is none.
    pub frame_exact: f64,
    /// The scores of each source.
    pub sources: Vec<Score>,
    /// The scores of each kind of target.
    pub kinds: Vec<Score>,
}

impl Scores {
    pub(crate) fn new(names: &Names, tally: &Tally) -> Self {
        Self {
            loss: tally.total.mean_loss(),
            accuracy: tally.total.accuracy(),
            targets: tally.total.targets as usize,
            frames: tally.total.frames as usize,
            frame_exact: tally.total.frame_exact(),
            sources: names.sources(tally),
            kinds: names.kinds(tally),
        }
    }
}

/// Held-out scores of the weights after `step` steps.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Evaluation {
    /// Steps done when it was made.
    pub step: u64,
    /// What was found.
    #[serde(flatten)]
    pub scores: Scores,
    /// Whether no evaluation before had a lower loss.
    pub best: bool,
    /// Time taken.
    pub seconds: f64,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// Steps done since the start of the run, resumptions included.
    pub step: u64,
    /// Steps of the whole run.
    pub steps: u64,
    /// Whether the observer asked to stop before the last step.
    pub stopped: bool,
    /// Tokens trained on since the start of the run.
    pub tokens_seen: u64,
    /// Steps without an update, since the start of the run.
    pub skipped_steps: u64,
    /// Loss of the last batch, unless no step was left to do.
    pub loss: Option<f64>,
    /// The last held-out evaluation of this call.
    pub evaluation: Option<Evaluation>,
    /// The newest checkpoint; on ranks other than 0 there is none.
    pub checkpoint: Option<PathBuf>,
}

/// Follows a run, and may end it. Every method has a silent default.
pub trait Observer {
    /// Something that is worth knowing of how the run goes, in a sentence.
    fn note(&mut self, note: &str) {
        let _ = note;
    }

    /// A step is done.
    fn step(&mut self, report: &StepReport) {
        let _ = report;
    }

    /// A held-out evaluation is done.
    fn evaluation(&mut self, evaluation: &Evaluation) {
        let _ = evaluation;
    }

    /// A checkpoint is on disk, whole.
    fn checkpoint(&mut self, path: &Path) {
        let _ = path;
    }

    /// Asked after each step: `true` makes the run write a checkpoint and return.
    fn should_stop(&mut self) -> bool {
        false
    }
}

/// Watches nothing, never stops.
impl Observer for () {}
