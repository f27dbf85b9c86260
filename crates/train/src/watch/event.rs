//! What a line of the log says, as a reader needs it.
//!
//! Promises: lenient where the writer is strict. Logs of other versions are read too, so that every
//! field but the number of the step may be absent, numbers that are not finite are absent (JSON has
//! none), and events of unknown kinds are passed over.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum LogEvent {
    /// A new run began: what stands above does not count.
    Start(Setup),
    /// The run went on from a checkpoint: later steps that stand above do not count.
    Resume(Resumption),
    /// A step is done.
    Step(StepLine),
    /// A held-out evaluation is done.
    Evaluation(EvaluationLine),
    /// A checkpoint is on disk.
    Checkpoint(CheckpointLine),
    /// The run ended in order.
    End(EndLine),
    /// Something that this version does not know.
    #[serde(other)]
    Other,
}

impl LogEvent {
    /// Reads a line; `None` if it is no event.
    pub fn parse(line: &[u8]) -> Option<Self> {
        serde_json::from_slice(line).ok()
    }

    /// Steps that were done when it was written; `None` for those that tell no step.
    pub fn step(&self) -> Option<u64> {
        match self {
            Self::Start(_) | Self::Other => None,
            Self::Resume(line) => Some(line.step),
            Self::Step(line) => Some(line.step),
            Self::Evaluation(line) => Some(line.step),
            Self::Checkpoint(line) => Some(line.step),
            Self::End(line) => Some(line.step),
        }
    }
}

/// What a run is made of and runs on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Setup {
    /// Steps of the whole run.
    pub steps: Option<u64>,
    /// Parameters of the model.
    pub parameters: Option<u64>,
    /// Floating-point operations of training on one token.
    pub flops_per_token: Option<f64>,
    /// All else that was told, as it was told.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// The run went on.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Resumption {
    /// Steps done at the checkpoint.
    pub step: u64,
    /// What is different from before; the rest stays.
    #[serde(flatten)]
    pub setup: Setup,
}

/// A finished step.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct StepLine {
    /// Number of the step, from 1.
    pub step: u64,
    /// Steps of the whole run.
    #[serde(default)]
    pub steps: Option<u64>,
    /// How often the data was seen.
    #[serde(default)]
    pub epoch: Option<f64>,
    /// Mean loss of the batch in nats.
    #[serde(default)]
    pub loss: Option<f64>,
    /// Share of targets predicted right.
    #[serde(default)]
    pub accuracy: Option<f64>,
    /// The same for each source in the batch.
    #[serde(default)]
    pub sources: Vec<ScoreLine>,
    /// The same for each kind of target in the batch.
    #[serde(default)]
    pub kinds: Vec<ScoreLine>,
    /// AdamW learning rate.
    #[serde(default)]
    pub lr: Option<f64>,
    /// Muon learning rate.
    #[serde(default)]
    pub muon_lr: Option<f64>,
    /// Norm of the gradient before clipping.
    #[serde(default)]
    pub grad_norm: Option<f64>,
    /// Tokens of the batch.
    #[serde(default)]
    pub tokens: u64,
    /// Tokens per second.
    #[serde(default)]
    pub tok_per_s: Option<f64>,
    /// Wall-clock seconds.
    #[serde(default)]
    pub seconds: Option<f64>,
    /// Resident memory in MB.
    #[serde(default)]
    pub rss_mb: Option<f64>,
    /// Why no update was made.
    #[serde(default)]
    pub skipped: Option<String>,
}

/// The scores of one source or one kind.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct ScoreLine {
    /// Name of the source or the kind.
    pub name: String,
    /// Mean loss in nats.
    #[serde(default)]
    pub loss: Option<f64>,
    /// Share predicted right.
    #[serde(default)]
    pub accuracy: Option<f64>,
    /// Targets.
    #[serde(default)]
    pub targets: u64,
    /// Share of frames in which all such targets were predicted right.
    #[serde(default)]
    pub frame_exact: Option<f64>,
}

/// Held-out scores.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct EvaluationLine {
    /// Steps done when it was made.
    pub step: u64,
    /// Mean loss in nats.
    #[serde(default)]
    pub loss: Option<f64>,
    /// Share of targets predicted right.
    #[serde(default)]
    pub accuracy: Option<f64>,
    /// Predicted frames; with 0 the next field says nothing.
    #[serde(default)]
    pub frames: u64,
    /// Share of frames whose every target was predicted right.
    #[serde(default)]
    pub frame_exact: Option<f64>,
    /// The scores of each source.
    #[serde(default)]
    pub sources: Vec<ScoreLine>,
    /// The scores of each kind of target.
    #[serde(default)]
    pub kinds: Vec<ScoreLine>,
    /// Wall-clock seconds.
    #[serde(default)]
    pub seconds: Option<f64>,
}

impl EvaluationLine {
    /// The share of exact frames, if there were frames.
    pub fn exact(&self) -> Option<f64> {
        self.frame_exact.filter(|_| self.frames > 0)
    }
}

/// A checkpoint on disk.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CheckpointLine {
    /// Steps done.
    pub step: u64,
    /// Name of its folder inside the run's.
    #[serde(default)]
    pub name: String,
}

/// The end of a run, or of one of its parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EndLine {
    /// Steps done.
    pub step: u64,
    /// Whether somebody asked for it before the last step.
    #[serde(default)]
    pub stopped: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Option<LogEvent> {
        LogEvent::parse(line.as_bytes())
    }

    #[test]
    fn what_is_missing_null_or_new_does_no_harm() {
        let line = r#"{"event":"step","step":3,"loss":null,"novel":[1],"skipped":"non_finite"}"#;
        let expected = StepLine {
            step: 3,
            skipped: Some("non_finite".into()),
            ..StepLine::default()
        };
        assert_eq!(parse(line), Some(LogEvent::Step(expected)));
        assert_eq!(
            parse(r#"{"event":"migration","step":3}"#),
            Some(LogEvent::Other)
        );
    }

    #[test]
    fn what_is_no_event_is_none() {
        let lines = [
            "",
            "{",
            "[]",
            r#"{"step":1}"#,
            r#"{"event":"step"}"#,
            r#"{"event":"step","step":-1}"#,
        ];
        for line in lines {
            assert_eq!(parse(line), None, "{line}");
        }
    }

    #[test]
    fn a_setup_keeps_what_it_does_not_know() {
        let line = r#"{"event":"start","steps":9,"parameters":5,"threads":2,"config":{"seed":1}}"#;
        let Some(LogEvent::Start(setup)) = parse(line) else {
            panic!("a start");
        };
        assert_eq!((setup.steps, setup.parameters), (Some(9), Some(5)));
        let rest = Value::Object(setup.rest);
        assert_eq!(rest, serde_json::json!({"threads":2,"config":{"seed":1}}));
    }
}
