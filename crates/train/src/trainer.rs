//! The training loop and its life cycle: start, resume, extend, stop.
//!
//! Promises: a run is a function of its configuration, the initial weights and the data, bit for
//! bit, however often it is stopped or killed and resumed; nothing already written is ever lost;
//! only one process at a time trains in a folder.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cwm_model::Model;

use crate::batches::Batches;
use crate::checkpoint::{self, Loaded, State};
use crate::config::{Optimizer, OptimizerKind, Schedule, TrainConfig};
use crate::learner::Learner;
use crate::log::{Event, Log};
use crate::optimizer::OptimizerState;
use crate::report::{Evaluation, Observer, Skip, StepReport, Summary};
use crate::{Dataset, Error};

const LOCK_FILE: &str = "train.lock";
/// Non-finite steps in a row after which going on is pointless.
const MAX_SKIPS_IN_A_ROW: u32 = 20;
/// Weight of the newest step in the running pace behind the estimated time.
const PACE_NEWEST: f64 = 0.1;

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
    /// Worker threads. Another number gives results that differ in their last bits.
    pub threads: Option<usize>,
    /// Steps between checkpoints.
    pub checkpoint_every: Option<u64>,
    /// Checkpoints kept.
    pub keep_last: Option<usize>,
    /// Steps between evaluations.
    pub eval_every: Option<u64>,
    /// Accept data with another fingerprint, and start it from its first epoch.
    pub new_data: bool,
}

/// A training run in a folder.
#[derive(Debug)]
pub struct Trainer {
    dir: PathBuf,
    learner: Learner,
    config: TrainConfig,
    step: u64,
    skipped_steps: u64,
    tokens_seen: u64,
    /// Examples drawn from the data.
    drawn: u64,
    /// Fingerprint of the data trained on so far; `None` before the first run.
    data: Option<String>,
    accept_new_data: bool,
    notes: Vec<String>,
    log: Log,
    /// Seconds a step has taken lately.
    pace: Option<f64>,
    /// Holds the lock of the folder; the system releases it when the process ends in any way.
    _lock: File,
}

impl Trainer {
    /// A new run of `model` in `dir`, which is created if needed.
    ///
    /// # Errors
    /// When the configuration cannot work, or the folder cannot be written, is in use by another
    /// process, or already holds checkpoints.
    pub fn new(model: Model, config: TrainConfig, dir: &Path) -> Result<Self, Error> {
        config.validate()?;
        fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
        let lock = lock(dir)?;
        if !checkpoint::list(dir)?.is_empty() {
            return Err(Error::Occupied {
                dir: dir.to_path_buf(),
            });
        }
        let optimizer = OptimizerState::new(&model.layout, &config.optimizer);
        Ok(Self {
            dir: dir.to_path_buf(),
            learner: Learner::new(model, optimizer, config.threads),
            config,
            step: 0,
            skipped_steps: 0,
            tokens_seen: 0,
            drawn: 0,
            data: None,
            accept_new_data: false,
            notes: Vec::new(),
            log: Log::open(dir)?,
            pace: None,
            _lock: lock,
        })
    }

    /// Goes on from the newest whole checkpoint in `dir`, exactly as if never interrupted.
    /// [`notes`](Trainer::notes) tells which checkpoints were passed over.
    ///
    /// # Errors
    /// When no checkpoint is whole, or the folder is in use by another process.
    pub fn resume(dir: &Path) -> Result<Self, Error> {
        Self::resume_with(dir, &Changes::default())
    }

    /// Goes on from the newest whole checkpoint in `dir` with some settings changed.
    ///
    /// # Errors
    /// As [`resume`](Trainer::resume), and when the changes do not fit together or to the run.
    pub fn resume_with(dir: &Path, changes: &Changes) -> Result<Self, Error> {
        // Without this, locking would fail on a folder that does not exist, for no clear reason.
        if !dir.is_dir() {
            return Err(Error::NoCheckpoint {
                dir: dir.to_path_buf(),
                tried: Vec::new(),
            });
        }
        let lock = lock(dir)?;
        let (
            Loaded {
                state,
                model,
                optimizer,
            },
            notes,
        ) = checkpoint::load_newest(dir)?;
        let config = changes.apply(state.config, state.step)?;
        Ok(Self {
            dir: dir.to_path_buf(),
            learner: Learner::new(model, optimizer, config.threads),
            config,
            step: state.step,
            skipped_steps: state.skipped_steps,
            tokens_seen: state.tokens_seen,
            drawn: state.drawn,
            data: Some(state.data_fingerprint),
            accept_new_data: changes.new_data,
            notes,
            log: Log::open(dir)?,
            pace: None,
            _lock: lock,
        })
    }

    /// The weights as they are now.
    pub fn model(&self) -> &Model {
        &self.learner.model
    }

    /// Gives the weights away and ends the run's hold on its folder.
    pub fn into_model(self) -> Model {
        self.learner.model
    }

    /// The configuration in force.
    pub fn config(&self) -> &TrainConfig {
        &self.config
    }

    /// Steps done.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// What resuming found unusable, one line each.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Trains until the last step, or until the observer asks to stop. A checkpoint is on disk
    /// when this returns.
    ///
    /// # Errors
    /// When the data is empty, is not the run's, or does not fit the model; when training
    /// diverges; or when a file cannot be written. Earlier checkpoints stay usable.
    pub fn run(
        &mut self,
        train: &dyn Dataset,
        held_out: Option<&dyn Dataset>,
        observer: &mut dyn Observer,
    ) -> Result<Summary, Error> {
        if train.is_empty() {
            return Err(Error::EmptyDataset { which: "training" });
        }
        if held_out.is_some_and(|data| data.is_empty()) {
            return Err(Error::EmptyDataset { which: "held-out" });
        }
        self.open_data(train)?;
        let mut batches = Batches::new(self.config.seed, train, self.config.batch_tokens);
        let mut last = Progress::default();
        let mut skips_in_a_row = 0;
        let mut stopped = false;
        while self.step < self.config.steps && !stopped {
            let report = self.train_step(train, &mut batches)?;
            observer.step(&report);
            skips_in_a_row = match report.skipped {
                Some(Skip::NonFinite) => skips_in_a_row + 1,
                _ => 0,
            };
            if skips_in_a_row >= MAX_SKIPS_IN_A_ROW {
                return Err(Error::Diverged {
                    step: self.step,
                    count: skips_in_a_row,
                });
            }
            last.loss = Some(report.loss);

            let finished = self.step == self.config.steps;
            stopped = !finished && observer.should_stop();
            if finished || stopped || is_due(self.step, self.config.checkpoint_every) {
                last.checkpoint = Some(self.save(observer)?);
            }
            if let Some(data) = held_out
                && (finished || (!stopped && is_due(self.step, self.config.eval_every)))
            {
                last.evaluation = Some(self.evaluate(data, observer)?);
            }
        }
        self.log.write(&Event::End {
            step: self.step,
            stopped,
        })?;
        let checkpoint = match last.checkpoint {
            Some(path) => path,
            // No step was left: a resumed run that had already ended.
            None => checkpoint::newest_checkpoint(&self.dir)?.0,
        };
        Ok(Summary {
            step: self.step,
            steps: self.config.steps,
            stopped,
            tokens_seen: self.tokens_seen,
            skipped_steps: self.skipped_steps,
            loss: last.loss,
            evaluation: last.evaluation,
            checkpoint,
        })
    }

    /// Checks that the data is the run's, and opens the log's chapter.
    fn open_data(&mut self, train: &dyn Dataset) -> Result<(), Error> {
        let found = train.fingerprint();
        let (steps, threads) = (self.config.steps, self.config.threads);
        match &self.data {
            None => {
                let parameters = self.learner.model.params.len();
                self.log.write(&Event::Start {
                    steps,
                    parameters,
                    threads,
                    data: &found,
                })?;
            }
            Some(expected) => {
                if *expected != found {
                    if !self.accept_new_data {
                        let expected = expected.clone();
                        return Err(Error::DataChanged { expected, found });
                    }
                    self.drawn = 0;
                }
                self.log.write(&Event::Resume {
                    step: self.step,
                    steps,
                    threads,
                    data: &found,
                })?;
            }
        }
        self.data = Some(found);
        Ok(())
    }

    fn train_step(
        &mut self,
        train: &dyn Dataset,
        batches: &mut Batches,
    ) -> Result<StepReport, Error> {
        let started = Instant::now();
        let multiplier = self
            .config
            .schedule
            .multiplier(self.step, self.config.steps);
        let batch = batches.batch(train, self.drawn);
        let settings = &self.config.optimizer;
        let learned = self.learner.learn(&batch, settings, multiplier)?;
        let seconds = started.elapsed().as_secs_f64();

        self.drawn += batch.len() as u64;
        self.step += 1;
        self.tokens_seen += learned.tokens as u64;
        self.skipped_steps += u64::from(learned.skipped.is_some());
        let pace = self
            .pace
            .map_or(seconds, |pace| pace + PACE_NEWEST * (seconds - pace));
        self.pace = Some(pace);
        let report = StepReport {
            step: self.step,
            steps: self.config.steps,
            epoch: self.drawn as f64 / train.len() as f64,
            loss: learned.loss,
            accuracy: learned.accuracy,
            sources: Vec::new(),
            kinds: Vec::new(),
            lr: f64::from(settings.lr) * multiplier,
            muon_lr: (settings.kind == OptimizerKind::Muon)
                .then(|| f64::from(settings.muon_lr) * multiplier),
            grad_norm: learned.grad_norm,
            tokens: learned.tokens,
            tok_per_s: learned.tokens as f64 / seconds,
            seconds,
            skipped: learned.skipped,
            eta: Duration::try_from_secs_f64(pace * (self.config.steps - self.step) as f64)
                .unwrap_or(Duration::MAX),
        };
        self.log.write(&Event::Step(&report))?;
        Ok(report)
    }

    fn save(&mut self, observer: &mut dyn Observer) -> Result<PathBuf, Error> {
        let state = State {
            step: self.step,
            updates: self.learner.optimizer.updates(),
            skipped_steps: self.skipped_steps,
            drawn: self.drawn,
            tokens_seen: self.tokens_seen,
            data_fingerprint: self.data.clone().unwrap_or_default(),
            config: self.config.clone(),
        };
        let Learner {
            model, optimizer, ..
        } = &self.learner;
        let path = checkpoint::write(&self.dir, &state, model, optimizer)?;
        checkpoint::prune(&self.dir, self.step, self.config.keep_last)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        self.log.write(&Event::Checkpoint {
            step: self.step,
            name: &name,
        })?;
        observer.checkpoint(&path);
        Ok(path)
    }

    fn evaluate(
        &mut self,
        data: &dyn Dataset,
        observer: &mut dyn Observer,
    ) -> Result<Evaluation, Error> {
        let started = Instant::now();
        let loss = self.learner.evaluate(data)?;
        let evaluation = Evaluation {
            step: self.step,
            loss: loss.loss_sum / loss.weight_sum,
            accuracy: loss.correct as f64 / loss.n_targets.max(1) as f64,
            targets: loss.n_targets,
            frames: 0,
            frame_exact: 0.0,
            sources: Vec::new(),
            kinds: Vec::new(),
            best: false,
            seconds: started.elapsed().as_secs_f64(),
        };
        self.log.write(&Event::Evaluation(&evaluation))?;
        observer.evaluation(&evaluation);
        Ok(evaluation)
    }
}

/// What the loop remembers for its summary.
#[derive(Default)]
struct Progress {
    loss: Option<f64>,
    evaluation: Option<Evaluation>,
    checkpoint: Option<PathBuf>,
}

impl Changes {
    fn apply(&self, mut config: TrainConfig, step: u64) -> Result<TrainConfig, Error> {
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

fn is_due(step: u64, every: u64) -> bool {
    every > 0 && step.is_multiple_of(every)
}

fn lock(dir: &Path) -> Result<File, Error> {
    let path = dir.join(LOCK_FILE);
    let mut options = File::options();
    let file = options
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(Error::io("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::Locked {
            dir: dir.to_path_buf(),
        }),
        Err(TryLockError::Error(error)) => Err(Error::io("lock", &path)(error)),
    }
}
