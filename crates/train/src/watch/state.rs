//! What the log of a run says so far, summed up.
//!
//! Promises: built event by event; bounded memory, that of [`MOST_POINTS`](super::MOST_POINTS) points
//! for each curve that the log has names for; no clock and no file, so that the same events give the
//! same state. Events must be those that count, as [`Follower`](super::Follower) and
//! [`history`](crate::history) tell them: steps that were redone are not in them.

use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;

use super::event::{CheckpointLine, EndLine, EvaluationLine, LogEvent, ScoreLine, Setup, StepLine};
use super::series::Series;

/// Steps that the present speed is taken from.
const RECENT_STEPS: usize = 50;
/// Resumptions whose step is remembered; all are counted.
const MOST_RESUMPTIONS: usize = 1000;

/// A run, as its log tells it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RunState {
    /// What the run is made of and runs on; a resumption may have changed it.
    pub setup: Setup,
    /// Steps done.
    pub step: u64,
    /// Steps of the whole run.
    pub steps: Option<u64>,
    /// How often the data was seen.
    pub epoch: Option<f64>,
    /// Tokens trained on.
    pub tokens: u64,
    /// Seconds of the steps and evaluations that count, redone ones left out.
    pub seconds: f64,
    /// Scores of the batches, before their updates.
    pub train: Curves,
    /// Scores on held-out data.
    pub held_out: Curves,
    /// AdamW learning rate.
    pub lr: Series,
    /// Muon learning rate.
    pub muon_lr: Series,
    /// Norm of the gradient before clipping.
    pub grad_norm: Series,
    /// Tokens per second.
    pub tok_per_s: Series,
    /// Resident memory in MB.
    pub rss_mb: Series,
    /// Steps without an update by reason. The value is the norm of the gradient, or the last one that
    /// was a number.
    pub skips: BTreeMap<String, Series>,
    /// How often the run went on from a checkpoint.
    pub n_resumptions: u64,
    /// The checkpoints' steps, the newest thousand.
    pub resumptions: VecDeque<u64>,
    /// Checkpoints written.
    pub n_checkpoints: u64,
    /// The newest one.
    pub checkpoint: Option<CheckpointLine>,
    /// The held-out evaluation with the lowest loss.
    pub best: Option<Best>,
    /// Seconds of the last held-out evaluation.
    pub evaluation_seconds: f64,
    /// How the run ended, unless it went on.
    pub end: Option<EndLine>,
    /// Tokens per second and seconds of the last steps.
    #[serde(skip)]
    recent: VecDeque<(Option<f64>, Option<f64>)>,
}

/// How well targets were predicted, over the run.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Curves {
    /// All targets.
    pub all: Score,
    /// By source.
    pub sources: BTreeMap<String, Score>,
    /// By kind of target.
    pub kinds: BTreeMap<String, Score>,
}

/// How well targets of one group were predicted, over the run.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Score {
    /// Mean loss in nats.
    pub loss: Series,
    /// Share predicted right.
    pub accuracy: Series,
    /// Share of frames in which all were predicted right.
    pub frame_exact: Series,
    /// Targets, where they were counted last.
    pub targets: u64,
}

/// The best held-out evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Best {
    /// Steps done when it was made.
    pub step: u64,
    /// Its loss in nats.
    pub loss: f64,
}

impl RunState {
    /// Takes in the next event. A start forgets all that was before.
    pub fn push(&mut self, event: &LogEvent) {
        if !matches!(event, LogEvent::End(_) | LogEvent::Other) {
            self.end = None;
        }
        match event {
            LogEvent::Start(setup) => {
                *self = Self::default();
                self.steps = setup.steps;
                self.setup = setup.clone();
                // The step where it starts is nothing that the run is made of.
                self.setup.rest.shift_remove("step");
            }
            LogEvent::Resume(line) => {
                self.set_up(&line.setup);
                self.step = line.step;
                self.n_resumptions += 1;
                if self.resumptions.len() == MOST_RESUMPTIONS {
                    self.resumptions.pop_front();
                }
                self.resumptions.push_back(line.step);
            }
            LogEvent::Step(line) => self.step(line),
            LogEvent::Evaluation(line) => self.evaluation(line),
            LogEvent::Checkpoint(line) => {
                self.n_checkpoints += 1;
                self.checkpoint = Some(line.clone());
            }
            LogEvent::End(line) => {
                self.step = line.step;
                self.end = Some(*line);
            }
            LogEvent::Other => {}
        }
    }

    /// What a resumption tells anew replaces what was known; the rest stays.
    fn set_up(&mut self, setup: &Setup) {
        self.steps = setup.steps.or(self.steps);
        self.setup.steps = self.steps;
        self.setup.parameters = setup.parameters.or(self.setup.parameters);
        self.setup.flops_per_token = setup.flops_per_token.or(self.setup.flops_per_token);
        for (key, value) in &setup.rest {
            self.setup.rest.insert(key.clone(), value.clone());
        }
    }

    fn step(&mut self, line: &StepLine) {
        let step = line.step;
        self.step = step;
        self.steps = line.steps.or(self.steps);
        self.epoch = line.epoch.or(self.epoch);
        self.tokens = self.tokens.saturating_add(line.tokens);
        self.seconds += line.seconds.unwrap_or_default();
        self.train.all.push(step, line.loss, line.accuracy, None);
        self.train.push(step, &line.sources, &line.kinds);
        self.lr.push(step, line.lr);
        self.muon_lr.push(step, line.muon_lr);
        self.grad_norm.push(step, line.grad_norm);
        self.tok_per_s.push(step, line.tok_per_s);
        self.rss_mb.push(step, line.rss_mb);
        if let Some(reason) = &line.skipped {
            let skips = self.skips.entry(reason.clone()).or_default();
            skips.push(step, Some(self.grad_norm.last.unwrap_or_default()));
        }
        if self.recent.len() == RECENT_STEPS {
            self.recent.pop_front();
        }
        self.recent.push_back((line.tok_per_s, line.seconds));
    }

    fn evaluation(&mut self, line: &EvaluationLine) {
        self.evaluation_seconds = line.seconds.unwrap_or_default();
        self.seconds += self.evaluation_seconds;
        let all = &mut self.held_out.all;
        all.push(line.step, line.loss, line.accuracy, line.exact());
        self.held_out.push(line.step, &line.sources, &line.kinds);
        if let Some(loss) = line.loss
            && self.best.is_none_or(|best| loss < best.loss)
        {
            let step = line.step;
            self.best = Some(Best { step, loss });
        }
    }

    /// Steps without an update.
    pub fn n_skipped(&self) -> u64 {
        self.skips.values().map(Series::samples).sum()
    }

    /// Tokens per second: the median of the last steps.
    pub fn recent_tok_per_s(&self) -> Option<f64> {
        median(self.recent.iter().filter_map(|&(tokens, _)| tokens))
    }

    /// Seconds of a step: the median of the last ones.
    pub fn recent_step_seconds(&self) -> Option<f64> {
        median(self.recent.iter().filter_map(|&(_, seconds)| seconds))
    }
}

impl Curves {
    fn push(&mut self, step: u64, sources: &[ScoreLine], kinds: &[ScoreLine]) {
        for (scores, lines) in [(&mut self.sources, sources), (&mut self.kinds, kinds)] {
            for line in lines {
                let score = scores.entry(line.name.clone()).or_default();
                score.push(step, line.loss, line.accuracy, line.frame_exact);
                score.targets = line.targets;
            }
        }
    }
}

impl Score {
    fn push(&mut self, step: u64, loss: Option<f64>, accuracy: Option<f64>, exact: Option<f64>) {
        self.loss.push(step, loss);
        self.accuracy.push(step, accuracy);
        self.frame_exact.push(step, exact);
    }
}

/// The value in the middle, the upper one of two.
fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.filter(|value| value.is_finite()).collect();
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(lines: &[&str]) -> RunState {
        let mut state = RunState::default();
        for line in lines {
            state.push(&LogEvent::parse(line.as_bytes()).expect("an event"));
        }
        state
    }

    #[test]
    fn events_add_up() {
        let state = state(&[
            r#"{"event":"start","step":0,"steps":4,"parameters":10,"threads":2,"data":"a"}"#,
            r#"{"event":"step","step":1,"steps":4,"epoch":0.5,"loss":4,"accuracy":0.1,"lr":0.01,"grad_norm":2,"tokens":100,"tok_per_s":50,"seconds":2,
                "sources":[{"name":"a","loss":3,"accuracy":0.2,"targets":7}]}"#,
            r#"{"event":"step","step":2,"steps":4,"loss":null,"grad_norm":null,"tokens":100,"tok_per_s":70,"seconds":2,"skipped":"non_finite"}"#,
            r#"{"event":"evaluation","step":2,"loss":3,"accuracy":0.3,"frames":5,"frame_exact":0.2,"seconds":1,"kinds":[{"name":"action","loss":1,"accuracy":0.5,"targets":9,"frame_exact":0.4}]}"#,
            r#"{"event":"checkpoint","step":2,"name":"step-000002"}"#,
            r#"{"event":"end","step":2,"stopped":true}"#,
            r#"{"event":"resume","step":2,"steps":3,"threads":1,"data":"a"}"#,
            r#"{"event":"step","step":3,"steps":3,"loss":2,"grad_norm":1,"tokens":50,"tok_per_s":60,"seconds":1,"skipped":"spike"}"#,
            r#"{"event":"evaluation","step":3,"loss":3.5,"frames":0,"frame_exact":0}"#,
            r#"{"event":"end","step":3,"stopped":false}"#,
        ]);
        assert_eq!(
            (state.step, state.steps, state.epoch),
            (3, Some(3), Some(0.5))
        );
        assert_eq!((state.tokens, state.seconds), (250, 6.0));
        assert_eq!(state.train.all.loss.means(), vec![(1.0, 4.0), (3.0, 2.0)]);
        assert_eq!(state.train.sources["a"].targets, 7);
        assert_eq!(state.held_out.kinds["action"].frame_exact.last, Some(0.4));
        assert_eq!(state.held_out.all.frame_exact.means(), vec![(2.0, 0.2)]);
        assert_eq!(state.best, Some(Best { step: 2, loss: 3.0 }));
        assert_eq!(state.n_skipped(), 2);
        assert_eq!(state.skips["non_finite"].means(), vec![(2.0, 2.0)]);
        assert_eq!((state.n_resumptions, state.n_checkpoints), (1, 1));
        assert_eq!(state.setup.rest["threads"], 1);
        assert_eq!(state.setup.rest.get("step"), None);
        assert_eq!(state.setup.parameters, Some(10));
        assert_eq!(state.recent_tok_per_s(), Some(60.0));
        assert_eq!(
            state.end,
            Some(EndLine {
                step: 3,
                stopped: false
            })
        );
    }

    #[test]
    fn going_on_takes_the_end_back_and_a_start_forgets_all() {
        let end = r#"{"event":"end","step":1,"stopped":true}"#;
        let resume = r#"{"event":"resume","step":1}"#;
        let start = r#"{"event":"start","steps":2}"#;
        let resumed = state(&[start, end, resume]);
        assert_eq!((resumed.end, resumed.n_resumptions), (None, 1));
        assert_eq!(state(&[start, end, resume, start]), state(&[start]));
    }

    #[test]
    fn only_so_many_resumptions_are_remembered() {
        let mut state = RunState::default();
        for step in 0..1500 {
            let line = format!(r#"{{"event":"resume","step":{step}}}"#);
            state.push(&LogEvent::parse(line.as_bytes()).expect("an event"));
        }
        assert_eq!((state.n_resumptions, state.resumptions.len()), (1500, 1000));
        assert_eq!(state.resumptions[0], 500);
    }
}
