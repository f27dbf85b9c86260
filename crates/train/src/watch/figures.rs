//! The figures that somebody who watches a run wants first.
//!
//! Promises: each is computed from the state, the age of the log and the stated peak alone, and is
//! absent where the log does not say enough.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::state::{Best, RunState};

/// A run may be silent for this long at least before it counts as silent.
const PATIENCE_SECONDS: f64 = 60.0;
/// A run may be silent for this many steps or evaluations: a checkpoint or a busy machine takes time.
const PATIENCE_STEPS: f64 = 20.0;
const PATIENCE_EVALUATIONS: f64 = 3.0;

/// Whether a run goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// There is no log yet, or nothing in it.
    NotStarted,
    /// The log has been written to lately.
    Running,
    /// The log has no end, and has not been written to for long: the process may be dead.
    Silent,
    /// Somebody asked for the end before the last step.
    Stopped,
    /// All steps are done.
    Finished,
}

impl Status {
    /// In words.
    pub fn text(self) -> &'static str {
        match self {
            Self::NotStarted => "not started",
            Self::Running => "running",
            Self::Silent => "silent",
            Self::Stopped => "stopped",
            Self::Finished => "finished",
        }
    }
}

/// A run at a glance.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figures {
    /// Whether it goes on.
    pub status: Status,
    /// Seconds since the log was last written to.
    pub age_seconds: Option<f64>,
    /// Steps done.
    pub step: u64,
    /// Steps of the whole run.
    pub steps: Option<u64>,
    /// How often the data was seen.
    pub epoch: Option<f64>,
    /// Training loss in nats, a running mean.
    pub loss: Option<f64>,
    /// Training accuracy, a running mean.
    pub accuracy: Option<f64>,
    /// The last held-out loss.
    pub held_out_loss: Option<f64>,
    /// The last held-out accuracy.
    pub held_out_accuracy: Option<f64>,
    /// The last share of held-out frames that were exact.
    pub frame_exact: Option<f64>,
    /// The held-out evaluation with the lowest loss.
    pub best: Option<Best>,
    /// AdamW learning rate.
    pub lr: Option<f64>,
    /// Muon learning rate.
    pub muon_lr: Option<f64>,
    /// Norm of the last gradient.
    pub grad_norm: Option<f64>,
    /// Tokens per second, the median of the last 50 steps.
    pub tok_per_s: Option<f64>,
    /// Achieved floating-point operations per second, in units of 10⁹.
    pub gflops: Option<f64>,
    /// Share of the peak that is achieved (model FLOPs utilisation), in 0..=1.
    pub mfu: Option<f64>,
    /// Resident memory in MB.
    pub rss_mb: Option<f64>,
    /// Seconds until the last step, at the present pace, if the run goes on.
    pub eta_seconds: Option<f64>,
    /// Tokens trained on.
    pub tokens: u64,
    /// Seconds of steps and evaluations, redone ones left out.
    pub seconds: f64,
    /// Steps without an update by reason.
    pub skipped: BTreeMap<String, u64>,
    /// How often the run went on from a checkpoint.
    pub resumptions: u64,
    /// Checkpoints written.
    pub checkpoints: u64,
    /// Step of the newest one.
    pub checkpoint_step: Option<u64>,
}

impl RunState {
    /// The figures, given how long ago the log was last written to and the peak of the machine in
    /// floating-point operations per second.
    pub fn figures(&self, age: Option<Duration>, peak_flops: Option<f64>) -> Figures {
        let tok_per_s = self.recent_tok_per_s();
        let flops = tok_per_s
            .zip(self.setup.flops_per_token)
            .map(|(tokens, flops)| tokens * flops);
        let status = self.status(age);
        let left = self.steps.map(|steps| steps.saturating_sub(self.step));
        let eta = left
            .zip(self.recent_step_seconds())
            .filter(|_| status == Status::Running)
            .map(|(steps, seconds)| steps as f64 * seconds);
        let skipped = self.skips.iter();
        Figures {
            status,
            age_seconds: age.map(|age| age.as_secs_f64()),
            step: self.step,
            steps: self.steps,
            epoch: self.epoch,
            loss: self.train.all.loss.present(),
            accuracy: self.train.all.accuracy.present(),
            held_out_loss: self.held_out.all.loss.last,
            held_out_accuracy: self.held_out.all.accuracy.last,
            frame_exact: self.held_out.all.frame_exact.last,
            best: self.best,
            lr: self.lr.last,
            muon_lr: self.muon_lr.last,
            grad_norm: self.grad_norm.last,
            tok_per_s,
            gflops: flops.map(|flops| flops / 1e9),
            mfu: flops.zip(peak_flops).map(|(flops, peak)| flops / peak),
            rss_mb: self.rss_mb.last,
            eta_seconds: eta,
            tokens: self.tokens,
            seconds: self.seconds,
            skipped: skipped.map(|(why, s)| (why.clone(), s.samples())).collect(),
            resumptions: self.n_resumptions,
            checkpoints: self.n_checkpoints,
            checkpoint_step: self.checkpoint.as_ref().map(|line| line.step),
        }
    }

    fn status(&self, age: Option<Duration>) -> Status {
        let Some(age) = age else {
            return Status::NotStarted;
        };
        match self.end {
            Some(end) if end.stopped => return Status::Stopped,
            Some(_) => return Status::Finished,
            None if *self == Self::default() => return Status::NotStarted,
            None => {}
        }
        let step = self.recent_step_seconds().unwrap_or_default();
        let patience = PATIENCE_SECONDS
            .max(PATIENCE_STEPS * step)
            .max(PATIENCE_EVALUATIONS * self.evaluation_seconds);
        match age.as_secs_f64() > patience {
            true => Status::Silent,
            false => Status::Running,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::LogEvent;
    use super::*;

    fn state(lines: &[&str]) -> RunState {
        let mut state = RunState::default();
        for line in lines {
            state.push(&LogEvent::parse(line.as_bytes()).expect("an event"));
        }
        state
    }

    const START: &str = r#"{"event":"start","steps":10,"flops_per_token":2e6}"#;
    const STEP: &str =
        r#"{"event":"step","step":4,"loss":2,"tok_per_s":1000,"seconds":5,"tokens":5000}"#;

    fn status(lines: &[&str], age: u64) -> Status {
        let age = Some(Duration::from_secs(age));
        state(lines).figures(age, None).status
    }

    #[test]
    fn a_run_is_silent_when_it_misses_what_it_used_to_tell() {
        assert_eq!(state(&[]).figures(None, None).status, Status::NotStarted);
        assert_eq!(status(&[], 5), Status::NotStarted);
        assert_eq!(status(&[START], 60), Status::Running);
        assert_eq!(status(&[START], 61), Status::Silent);
        assert_eq!(status(&[START, STEP], 100), Status::Running);
        assert_eq!(status(&[START, STEP], 101), Status::Silent);
        let slow = r#"{"event":"evaluation","step":4,"loss":1,"seconds":50}"#;
        assert_eq!(status(&[START, STEP, slow], 150), Status::Running);
        let stopped = r#"{"event":"end","step":4,"stopped":true}"#;
        let finished = r#"{"event":"end","step":10,"stopped":false}"#;
        assert_eq!(status(&[START, STEP, stopped], 999), Status::Stopped);
        assert_eq!(status(&[START, STEP, finished], 999), Status::Finished);
    }

    #[test]
    fn speed_utilisation_and_remaining_time() {
        let now = Some(Duration::ZERO);
        let figures = state(&[START, STEP]).figures(now, Some(1e10));
        assert_eq!(figures.gflops, Some(2.0));
        assert_eq!(figures.mfu, Some(0.2));
        assert_eq!(figures.eta_seconds, Some(30.0));
        let without = state(&[r#"{"event":"start"}"#, STEP]).figures(now, Some(1e10));
        assert_eq!((without.gflops, without.mfu), (None, None));
        assert_eq!(without.eta_seconds, None);
    }
}
