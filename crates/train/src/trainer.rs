//! The training loop and its life cycle: start, resume, extend, stop, on one rank or many.
//!
//! Promises: a run is a function of its configuration, the initial weights and the data, bit for
//! bit, however often it is stopped or killed and resumed and on however many threads and ranks;
//! nothing already written is ever lost; only one process at a time trains in a folder.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use cwm_cuda::Gpu;
use cwm_model::{Config, Model};

use crate::batches::Batches;
use crate::changes::Changes;
use crate::checkpoint::{self, Best, Snapshot, State};
use crate::collective::{Collective, Solo, all_gather};
use crate::config::{OptimizerKind, TrainConfig};
use crate::home::Home;
use crate::learner::{Learned, Learner};
use crate::log::{Chapter, Event};
use crate::memory::resident_mb;
use crate::optimizer::{Moments, OptimizerState};
use crate::plan::Plan;
use crate::ranks;
use crate::report::{Evaluation, Observer, Skip, StepReport, Summary};
use crate::spikes::Spikes;
use crate::tally::Names;
use crate::{Dataset, Error};

/// Steps without an update in a row after which going on is pointless.
const MAX_SKIPS_IN_A_ROW: u32 = 20;
/// Weight of the newest step in the running pace behind the estimated time.
const PACE_NEWEST: f64 = 0.1;

/// A training run. Rank 0 keeps it in a folder; other ranks only work for it.
#[derive(Debug)]
pub struct Trainer {
    /// None on ranks other than 0.
    home: Option<Home>,
    learner: Learner,
    config: TrainConfig,
    step: u64,
    skipped_steps: u64,
    tokens_seen: u64,
    /// Examples drawn from the data.
    drawn: u64,
    /// Fingerprint of the data trained on so far; `None` before the first run.
    data: Option<String>,
    /// Fingerprint of the data measured on.
    held_out: Option<String>,
    best: Option<Best>,
    /// Whether the last step made an update.
    is_well: bool,
    accept_new_data: bool,
    notes: Vec<String>,
    /// Seconds a step has taken lately.
    pace: Option<f64>,
}

impl Trainer {
    /// A new run of `model` in `dir`, which is created if needed.
    ///
    /// # Errors
    /// When the configuration cannot work, or the folder cannot be written, is in use by another
    /// process, or already holds checkpoints.
    pub fn new(model: Model, config: TrainConfig, dir: &Path) -> Result<Self, Error> {
        config.validate()?;
        let home = Home::new_run(dir)?;
        let plan = Plan::new(&model.layout, &config.optimizer);
        let moments = Moments::new(&plan.whole(), &model.params, config.ema.is_some());
        let state = State::new(config);
        let snapshot = Snapshot {
            state,
            model,
            moments,
        };
        Ok(Self::of(Some(home), snapshot, Box::new(Solo), None))
    }

    /// A new run in `dir` that goes on where the newest whole checkpoint of the run in `earlier`
    /// stands: with its weights, its optimiser's memory and its count of steps, so that both share
    /// one schedule, but with other data and settings. `model` may differ from the earlier model's
    /// configuration in what has no weights, such as the scaling of RoPE and the longest position.
    ///
    /// # Errors
    /// As [`new`](Trainer::new), and when the earlier run does not fit.
    pub fn continued(
        earlier: &Path,
        model: Config,
        config: TrainConfig,
        dir: &Path,
    ) -> Result<Self, Error> {
        config.validate()?;
        let misfit = |reason: String| Error::OtherModel {
            dir: earlier.to_path_buf(),
            reason,
        };
        let (mut snapshot, notes) = checkpoint::load_newest(earlier)?;
        model
            .validate()
            .map_err(|error| misfit(error.to_string()))?;
        let layout = cwm_model::Layout::new(&model);
        if layout.tensors() != snapshot.model.layout.tensors() {
            return Err(misfit("its weights have other shapes".to_owned()));
        }
        let before = &snapshot.state;
        if before.config.optimizer.kind != config.optimizer.kind {
            let reason = "its optimiser is of another kind, whose memory does not fit";
            return Err(misfit(reason.to_owned()));
        }
        if config.steps <= before.step {
            return Err(Error::Config {
                field: "steps",
                reason: format!(
                    "is {}, but the earlier run has done {}: both are counted together",
                    config.steps, before.step
                ),
            });
        }
        let home = Home::new_run(dir)?;
        let earlier_config = before.config.clone();
        let state = State {
            step: before.step,
            updates: before.updates,
            spikes: before.spikes.clone(),
            ..State::new(config)
        };
        snapshot.adapt_ema(&state.config);
        snapshot.model.config = model;
        snapshot.state = state;
        let jump = rate_jump(&earlier_config, &snapshot.state);
        let mut trainer = Self::of(Some(home), snapshot, Box::new(Solo), None);
        trainer.notes = notes;
        trainer.notes.extend(jump);
        Ok(trainer)
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
        let home = Home::open(dir)?;
        let (mut snapshot, notes) = checkpoint::load_newest(dir)?;
        snapshot.state.config = changes.apply(snapshot.state.config, snapshot.state.step)?;
        let data = snapshot.state.data_fingerprint.clone();
        let mut trainer = Self::of(Some(home), snapshot, Box::new(Solo), Some(data));
        trainer.accept_new_data = changes.new_data;
        trainer.notes = notes;
        Ok(trainer)
    }

    /// Shares the work of this run with other ranks, of which this is rank 0. Each of them must
    /// [follow](Trainer::follow).
    ///
    /// # Errors
    /// When a rank is gone.
    pub fn lead(mut self, mut ranks: Box<dyn Collective>) -> Result<Self, Error> {
        let snapshot = Snapshot {
            state: self.state(),
            moments: std::mem::take(&mut self.learner.optimizer.moments),
            model: self.learner.model,
        };
        ranks::hand_out(&mut *ranks, &snapshot, self.data.is_some())?;
        self.learner = learner(snapshot, ranks);
        Ok(self)
    }

    /// Works for the run that rank 0 [leads](Trainer::lead): everything but the data comes from
    /// there. `threads` is how many threads this rank uses; those of rank 0 if `None`.
    ///
    /// # Errors
    /// When rank 0 is gone, or sends what this program does not understand.
    pub fn follow(mut ranks: Box<dyn Collective>, threads: Option<usize>) -> Result<Self, Error> {
        let (mut snapshot, has_data) = ranks::take_over(&mut *ranks)?;
        if let Some(threads) = threads {
            snapshot.state.config.threads = threads;
        }
        let data = has_data.then(|| snapshot.state.data_fingerprint.clone());
        // Whether other data is accepted is for rank 0 to say; data is the same on all ranks.
        let mut trainer = Self::of(None, snapshot, ranks, data);
        trainer.accept_new_data = true;
        Ok(trainer)
    }

    fn of(
        home: Option<Home>,
        snapshot: Snapshot,
        ranks: Box<dyn Collective>,
        data: Option<String>,
    ) -> Self {
        let state = &snapshot.state;
        Self {
            home,
            config: state.config.clone(),
            step: state.step,
            skipped_steps: state.skipped_steps,
            tokens_seen: state.tokens_seen,
            drawn: state.drawn,
            data,
            held_out: state.held_out.clone(),
            best: state.best,
            is_well: true,
            accept_new_data: false,
            notes: Vec::new(),
            pace: None,
            learner: learner(snapshot, ranks),
        }
    }

    /// Moves the work of this rank to a GPU. A run may change between GPU and CPU from one start to the next;
    /// its bits are promised within one kind only. With several ranks all must be on GPUs or none.
    ///
    /// # Errors
    /// When the model has a shape that no kernel was written for, does not fit in the GPU's memory, or is to
    /// be trained in f32.
    pub fn on_gpu(mut self, gpu: &Gpu) -> Result<Self, Error> {
        self.learner.move_to(gpu, &self.config)?;
        Ok(self)
    }

    /// The weights as they are now, or, while a GPU trains them, as they were at the last checkpoint.
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

    /// Trains until the last step, or until the observer of any rank asks to stop. A checkpoint is
    /// on disk when this returns on rank 0.
    ///
    /// # Errors
    /// When the data is empty, is not the run's, or does not fit the model; when some ranks are on GPUs and
    /// some are not; when training diverges; when a file cannot be written; or when a rank is gone. Earlier checkpoints stay
    /// usable.
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
        if let Some(note) = self.learner.meet()? {
            observer.note(&note);
        }
        self.open_data(train, held_out)?;
        let names = Names::of(train);
        let mut batches = Batches::new(self.config.seed, train, self.config.batch_tokens);
        let mut last = Progress::default();
        let mut skips_in_a_row = 0;
        let mut stopped = false;
        while self.step < self.config.steps && !stopped {
            let report = self.train_step(train, &names, &mut batches)?;
            observer.step(&report);
            let finished = self.step == self.config.steps;
            skips_in_a_row = report.skipped.map_or(0, |_| skips_in_a_row + 1);
            if let Some(reason) = report.skipped
                && (skips_in_a_row >= MAX_SKIPS_IN_A_ROW || finished && reason == Skip::NonFinite)
            {
                return Err(Error::Diverged {
                    step: self.step,
                    count: skips_in_a_row,
                    reason,
                });
            }
            self.is_well = skips_in_a_row == 0;
            last.loss = Some(report.loss);

            stopped = self.agree_to_stop(observer)? && !finished;
            let mut is_best = false;
            if let Some(data) = held_out
                && (finished || is_due(self.step, self.config.eval_every))
            {
                let evaluation = self.evaluate(data, observer)?;
                is_best = evaluation.best && self.config.keep_best;
                last.evaluation = Some(evaluation);
            }
            // What is skipped changes nothing, and may follow a step that spoiled everything.
            let is_due = self.is_well && is_due(self.step, self.config.checkpoint_every);
            if finished || stopped || is_due || is_best {
                self.save(observer)?;
            } else if let Some(home) = &mut self.home {
                home.poll(self.is_well, observer)?;
            }
        }
        self.finish(stopped, observer)?;
        Ok(Summary {
            step: self.step,
            steps: self.config.steps,
            stopped,
            tokens_seen: self.tokens_seen,
            skipped_steps: self.skipped_steps,
            loss: last.loss,
            evaluation: last.evaluation,
            checkpoint: self.newest_checkpoint()?,
        })
    }

    /// Checks that the data is the run's and that of all ranks, and opens the log's chapter.
    fn open_data(
        &mut self,
        train: &dyn Dataset,
        held_out: Option<&dyn Dataset>,
    ) -> Result<(), Error> {
        let found = train.fingerprint();
        let ranks = &mut *self.learner.ranks;
        ranks::agree(ranks, "training", &found)?;
        let measured = held_out.map(|data| data.fingerprint());
        ranks::agree(ranks, "held-out", measured.as_deref().unwrap_or("none"))?;
        if self.held_out != measured {
            // Losses on other data say nothing about which weights are better.
            self.best = None;
            self.held_out = measured;
        }
        let is_new = self.data.is_none();
        if let Some(expected) = self.data.take().filter(|expected| *expected != found) {
            if !self.accept_new_data {
                self.data = Some(expected.clone());
                return Err(Error::DataChanged { expected, found });
            }
            self.drawn = 0;
        }
        let model = &self.learner.model;
        let chapter = Chapter {
            step: self.step,
            steps: self.config.steps,
            parameters: model.params.len(),
            flops_per_token: model.config.train_flops_per_token(train.row_tokens()),
            ranks: self.learner.ranks.size(),
            threads: self.config.threads,
            data: &found,
            config: &self.config,
            version: env!("CARGO_PKG_VERSION"),
        };
        if let Some(home) = &mut self.home {
            home.log.write(&match is_new {
                true => Event::Start(chapter),
                false => Event::Resume(chapter),
            })?;
        }
        self.data = Some(found);
        Ok(())
    }

    fn train_step(
        &mut self,
        train: &dyn Dataset,
        names: &Names,
        batches: &mut Batches,
    ) -> Result<StepReport, Error> {
        let started = Instant::now();
        let schedule = &self.config.schedule;
        let multiplier = schedule.multiplier(self.step, self.config.steps);
        let batch = batches.batch(train, self.drawn);
        let next = self.drawn + batch.len() as u64;
        let (learner, config) = (&mut self.learner, &self.config);
        let learned = match learner.is_on_gpu() {
            false => learner.learn(&batch, names, config, multiplier)?,
            // The processor has little else to do.
            true => thread::scope(|scope| {
                scope.spawn(|| batches.prepare(train, next));
                learner.learn(&batch, names, config, multiplier)
            })?,
        };
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
            epoch: self.drawn as f64 / train.len() as f64,
            ..self.report(names, &learned, multiplier, seconds)
        };
        if let Some(home) = &mut self.home {
            home.log.write(&Event::Step(&report))?;
        }
        Ok(report)
    }

    fn report(
        &self,
        names: &Names,
        learned: &Learned,
        multiplier: f64,
        seconds: f64,
    ) -> StepReport {
        let settings = &self.config.optimizer;
        let left = (self.config.steps - self.step) as f64;
        let eta = self.pace.unwrap_or_default() * left;
        let total = &learned.tally.total;
        StepReport {
            step: self.step,
            steps: self.config.steps,
            epoch: 0.0,
            loss: total.mean_loss(),
            accuracy: total.accuracy(),
            sources: names.sources(&learned.tally),
            kinds: names.kinds(&learned.tally),
            lr: f64::from(settings.lr) * multiplier,
            muon_lr: (settings.kind == OptimizerKind::Muon)
                .then(|| f64::from(settings.muon_lr) * multiplier),
            grad_norm: learned.grad_norm,
            tokens: learned.tokens,
            tok_per_s: learned.tokens as f64 / seconds,
            seconds,
            rss_mb: resident_mb(),
            skipped: learned.skipped,
            eta: Duration::try_from_secs_f64(eta).unwrap_or(Duration::MAX),
        }
    }

    /// Whether the observer of any rank wants to stop.
    fn agree_to_stop(&mut self, observer: &mut dyn Observer) -> Result<bool, Error> {
        let wish = vec![u8::from(observer.should_stop())];
        let wishes = all_gather(&mut *self.learner.ranks, wish)?;
        Ok(wishes.iter().flatten().any(|&wish| wish != 0))
    }

    fn state(&self) -> State {
        State {
            step: self.step,
            updates: self.learner.optimizer.updates,
            skipped_steps: self.skipped_steps,
            drawn: self.drawn,
            tokens_seen: self.tokens_seen,
            data_fingerprint: self.data.clone().unwrap_or_default(),
            spikes: self.learner.spikes.clone(),
            held_out: self.held_out.clone(),
            best: self.best,
            config: self.config.clone(),
        }
    }

    /// Begins to write a checkpoint of this moment.
    fn save(&mut self, observer: &mut dyn Observer) -> Result<(), Error> {
        if let Some(home) = &mut self.home {
            home.wait(self.is_well, observer)?;
        }
        let state = self.state();
        let learner = &mut self.learner;
        learner.pull()?;
        let own = &learner.optimizer.moments;
        let moments = ranks::gather_moments(&mut *learner.ranks, &learner.plan, own)?;
        if let (Some(home), Some(moments)) = (&mut self.home, moments) {
            home.saver.begin(Snapshot {
                state,
                model: learner.model.clone(),
                moments,
            });
        }
        Ok(())
    }

    fn finish(&mut self, stopped: bool, observer: &mut dyn Observer) -> Result<(), Error> {
        let step = self.step;
        let Some(home) = &mut self.home else {
            return Ok(());
        };
        home.wait(self.is_well, observer)?;
        home.log.write(&Event::End { step, stopped })
    }

    /// Where this run's newest checkpoint is; `None` on ranks that keep none.
    fn newest_checkpoint(&self) -> Result<Option<PathBuf>, Error> {
        match &self.home {
            None => Ok(None),
            Some(Home {
                newest: Some(newest),
                ..
            }) => Ok(Some(newest.clone())),
            // No step was left: a resumed run that had already ended.
            Some(home) => Ok(Some(checkpoint::newest_checkpoint(&home.dir)?.0)),
        }
    }

    fn evaluate(
        &mut self,
        data: &dyn Dataset,
        observer: &mut dyn Observer,
    ) -> Result<Evaluation, Error> {
        let started = Instant::now();
        let scores = self.learner.evaluate(data)?;
        let best =
            scores.loss.is_finite() && self.best.is_none_or(|best| scores.loss < best.loss());
        if best {
            self.best = Some(Best::new(self.step, scores.loss));
        }
        let evaluation = Evaluation {
            step: self.step,
            scores,
            best,
            seconds: started.elapsed().as_secs_f64(),
        };
        if let Some(home) = &mut self.home {
            home.log.write(&Event::Evaluation(&evaluation))?;
        }
        observer.evaluation(&evaluation);
        Ok(evaluation)
    }
}

/// What learns from where a snapshot stands, as one of `ranks`. The snapshot has the moments of
/// everything if this rank is alone or the first, and only its own otherwise.
fn learner(mut snapshot: Snapshot, ranks: Box<dyn Collective>) -> Learner {
    let config = &snapshot.state.config;
    let plan = Plan::new(&snapshot.model.layout, &config.optimizer);
    let shard = plan.shards(ranks.size()).swap_remove(ranks.rank());
    if ranks.rank() == 0 && ranks.size() > 1 {
        snapshot.moments = snapshot.moments.part(&shard);
    }
    let state = &snapshot.state;
    Learner::new(
        snapshot.model,
        plan,
        OptimizerState::new(shard, snapshot.moments, state.updates),
        state.spikes.clone(),
        ranks,
        config,
    )
}

impl State {
    /// Before the first step.
    fn new(config: TrainConfig) -> Self {
        Self {
            step: 0,
            updates: 0,
            skipped_steps: 0,
            drawn: 0,
            tokens_seen: 0,
            data_fingerprint: String::new(),
            spikes: Spikes::default(),
            held_out: None,
            best: None,
            config,
        }
    }
}

impl Snapshot {
    /// Begins a mean of the weights, or forgets it, as `config` says.
    fn adapt_ema(&mut self, config: &TrainConfig) {
        let ema = &mut self.moments.ema;
        *ema = (config.ema).map(|_| ema.take().unwrap_or_else(|| self.model.params.clone()));
    }
}

/// What to say about a learning rate that jumps from one stage to the next.
fn rate_jump(earlier: &TrainConfig, state: &State) -> Option<String> {
    let (step, config) = (state.step, &state.config);
    let last = earlier
        .schedule
        .multiplier(step.saturating_sub(1), earlier.steps);
    let next = config.schedule.multiplier(step, config.steps);
    (next > 2.0 * last).then(|| {
        format!(
            "the learning rate jumps from {last:.3} to {next:.3} of its peak: \
             end the earlier stage before its decay to share one schedule"
        )
    })
}

/// What the loop remembers for its summary.
#[derive(Default)]
struct Progress {
    loss: Option<f64>,
    evaluation: Option<Evaluation>,
}

fn is_due(step: u64, every: u64) -> bool {
    every > 0 && step.is_multiple_of(every)
}
