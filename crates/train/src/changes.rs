//! What may be changed about a run when it is resumed, and what may not.

use crate::Error;
use crate::config::{Optimizer, Precision, Schedule, TrainConfig};

/// What a resumed run does differently. Whatever is `None` stays as it was.
///
/// This is how a run of [`Schedule::Wsd`] whose length was left open gets its decay: resume it
/// with `steps` set to the steps done plus `decay_steps`.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// Steps of the whole run, counted from its start.
    pub steps: Option<u64>,
    /// Learning-rate schedule.
    pub schedule: Option<Schedule>,
    /// Rates and the like; the kind cannot change.
    pub optimizer: Option<Optimizer>,
    /// Tokens of a batch.
    pub batch_tokens: Option<usize>,
    /// Worker threads of each rank.
    pub threads: Option<usize>,
    /// Steps between checkpoints.
    pub checkpoint_every: Option<u64>,
    /// Checkpoints kept.
    pub keep_last: Option<usize>,
    /// Also keep the checkpoint with the lowest held-out loss.
    pub keep_best: Option<bool>,
    /// Compute activations again in the backward pass instead of keeping them.
    pub recompute: Option<bool>,
    /// What matrix products may run in.
    pub precision: Option<Precision>,
    /// Steps between evaluations.
    pub eval_every: Option<u64>,
    /// Accept data with another fingerprint, and start it from its first epoch.
    pub new_data: bool,
}

impl Changes {
    /// All that makes a run go on as `config` says, of what may change on the way.
    pub fn to(config: &TrainConfig) -> Self {
        Self {
            steps: Some(config.steps),
            schedule: Some(config.schedule.clone()),
            optimizer: Some(config.optimizer.clone()),
            batch_tokens: Some(config.batch_tokens),
            threads: Some(config.threads),
            checkpoint_every: Some(config.checkpoint_every),
            keep_last: Some(config.keep_last),
            keep_best: Some(config.keep_best),
            recompute: Some(config.recompute),
            precision: Some(config.precision),
            eval_every: Some(config.eval_every),
            new_data: false,
        }
    }

    /// The configuration with these changes, for a run that has done `step` steps.
    pub(crate) fn apply(&self, mut config: TrainConfig, step: u64) -> Result<TrainConfig, Error> {
        fn set<T: Clone>(field: &mut T, change: &Option<T>) {
            if let Some(value) = change {
                field.clone_from(value);
            }
        }
        if let Some(optimizer) = &self.optimizer
            && optimizer.kind != config.optimizer.kind
        {
            return Err(Error::Config {
                field: "optimizer.kind",
                reason: "cannot change when a run is resumed: start a new run from its weights"
                    .into(),
            });
        }
        set(&mut config.steps, &self.steps);
        set(&mut config.schedule, &self.schedule);
        set(&mut config.optimizer, &self.optimizer);
        set(&mut config.batch_tokens, &self.batch_tokens);
        set(&mut config.threads, &self.threads);
        set(&mut config.checkpoint_every, &self.checkpoint_every);
        set(&mut config.keep_last, &self.keep_last);
        set(&mut config.keep_best, &self.keep_best);
        set(&mut config.recompute, &self.recompute);
        set(&mut config.precision, &self.precision);
        set(&mut config.eval_every, &self.eval_every);
        config.validate()?;
        if config.steps < step {
            let reason = format!("is {}, but {step} steps are already done", config.steps);
            return Err(Error::Config {
                field: "steps",
                reason,
            });
        }
        Ok(config)
    }
}
