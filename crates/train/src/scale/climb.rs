//! Training the runs of a ladder, cheapest first.
//!
//! Promises: the table says after each run how it came out; a run that was stopped or killed goes on
//! from its checkpoint at the next call, and the table then equals that of one go, apart from times; a
//! run that diverges is a result like any other; only one process at a time works on a ladder.

use std::fs::{self, File};
use std::path::Path;

use cwm_model::Model;

use super::Error;
use super::data::{LadderData, load_data};
use super::ladder::{LADDER_FILE, Ladder};
use super::table::{Run, State, TABLE_FILE, read_table, write_table};
use crate::home::try_lock;
use crate::{Observer, StepReport, Trainer, checkpoint, evaluate, history};

/// Folder of the runs, in a ladder's folder.
pub const RUNS_FOLDER: &str = "runs";
const LOCK_FILE: &str = "ladder.lock";

/// How much is done, and with what.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Worker threads.
    pub threads: usize,
    /// Runs after which to return.
    pub max_runs: Option<usize>,
}

/// Follows a ladder, and may end it. Every method has a silent default.
pub trait Climb {
    /// Something that a person may want to know.
    fn note(&mut self, text: &str) {
        let _ = text;
    }

    /// The runs that this call is going to train, in order.
    fn begin(&mut self, runs: &[Run]) {
        let _ = runs;
    }

    /// A run begins, or goes on after `done` steps.
    fn start(&mut self, run: &Run, done: u64) {
        let _ = (run, done);
    }

    /// A run has made a step.
    fn step(&mut self, run: &Run, report: &StepReport) {
        let _ = (run, report);
    }

    /// A run has ended, and the table says so.
    fn end(&mut self, run: &Run) {
        let _ = run;
    }

    /// Asked after each step: `true` makes the run write a checkpoint and the ladder end there.
    fn should_stop(&mut self) -> bool {
        false
    }
}

/// Watches nothing, never stops.
impl Climb for () {}

/// What a call did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Climbed {
    /// Runs that are now done.
    pub done: usize,
    /// Runs that diverged.
    pub diverged: usize,
    /// Runs that are still planned.
    pub left: usize,
    /// Whether it was asked to stop.
    pub stopped: bool,
}

/// Trains the planned runs of the ladder in `dir`.
///
/// # Errors
/// When the ladder, its table or its data cannot be read, another process works on it, or a run cannot
/// be trained for a reason other than divergence. What was finished stays finished.
pub fn climb(dir: &Path, effort: Effort, watch: &mut dyn Climb) -> Result<Climbed, Error> {
    let ladder_path = dir.join(LADDER_FILE);
    let ladder = Ladder::load(&ladder_path)?;
    let _lock = lock(dir)?;
    let table = dir.join(TABLE_FILE);
    let mut runs = read_table(&table)?;
    for run in runs.iter().filter(|run| run.state != State::Planned) {
        // Left behind where a kill came between the table and the cleaning.
        remove_checkpoints(&dir.join(RUNS_FOLDER).join(&run.id))?;
    }

    let order = by_cost(&runs, effort.max_runs);
    let chosen: Vec<Run> = order.iter().map(|&index| runs[index].clone()).collect();
    let mut climbed = Climbed::default();
    if !chosen.is_empty() {
        let data = load_data(&ladder)?;
        for note in &data.notes {
            watch.note(note);
        }
        note_repetition(&chosen, &data, watch);
        watch.begin(&chosen);
        for index in order {
            let run = &mut runs[index];
            let shape = ladder.sizes.iter().find(|size| size.name == run.size);
            let Some(shape) = shape else {
                return Err(Error::UnknownSize {
                    run: run.id.clone(),
                    path: ladder_path,
                });
            };
            let folder = dir.join(RUNS_FOLDER).join(&run.id);
            let begin = |threads| {
                let config = ladder.train_config(run, threads);
                (Model::init(ladder.config(shape), run.seed), config)
            };
            let trainer = open(&folder, effort.threads, begin)?;
            let Some(outcome) = train(trainer, run, &folder, &data, watch)? else {
                climbed.stopped = true;
                break;
            };
            outcome.enter(run);
            match run.state {
                State::Done => climbed.done += 1,
                _ => climbed.diverged += 1,
            }
            write_table(&table, &runs)?;
            remove_checkpoints(&folder)?;
            watch.end(&runs[index]);
        }
    }
    climbed.left = runs.iter().filter(|r| r.state == State::Planned).count();
    Ok(climbed)
}

/// The planned runs, cheapest first, as indexes.
fn by_cost(runs: &[Run], max_runs: Option<usize>) -> Vec<usize> {
    let planned = |index: &usize| runs[*index].state == State::Planned;
    let mut order: Vec<usize> = (0..runs.len()).filter(planned).collect();
    order.sort_by(|&a, &b| runs[a].compute().total_cmp(&runs[b].compute()));
    order.truncate(max_runs.unwrap_or(usize::MAX));
    order
}

fn note_repetition(runs: &[Run], data: &LadderData, watch: &mut dyn Climb) {
    let most = runs.iter().map(|run| run.tokens).max().unwrap_or_default();
    let epochs = most as f64 / (data.train.len() * data.train.row_tokens()) as f64;
    if epochs > 1.0 {
        watch.note(&format!(
            "the longest run reads the training data {epochs:.1} times; laws of loss assume data that is new"
        ));
    }
}

/// A run from its newest checkpoint, or from the start where there is none.
fn open(
    folder: &Path,
    threads: usize,
    begin: impl FnOnce(usize) -> (Model, crate::TrainConfig),
) -> Result<Trainer, Error> {
    if folder.is_dir() && !checkpoint::list(folder)?.is_empty() {
        let changes = crate::Changes {
            threads: Some(threads),
            ..crate::Changes::default()
        };
        return Ok(Trainer::resume_with(folder, &changes)?);
    }
    let (model, config) = begin(threads);
    Ok(Trainer::new(model, config, folder)?)
}

/// How a run ended.
struct Outcome {
    /// Held-out loss; none if the run diverged.
    loss: Option<f64>,
    /// Tokens it was trained on.
    tokens: Option<u64>,
    seconds: f64,
}

impl Outcome {
    fn enter(self, run: &mut Run) {
        run.state = match self.loss {
            Some(_) => State::Done,
            None => State::Diverged,
        };
        run.loss = self.loss;
        // Rows need not be full, so that a batch may hold less than it was planned to.
        run.tokens = self.tokens.unwrap_or(run.tokens);
        run.seconds = Some((self.seconds * 100.0).round() / 100.0);
    }
}

/// Trains a run to its end; `None` if it was stopped before.
fn train(
    mut trainer: Trainer,
    run: &Run,
    folder: &Path,
    data: &LadderData,
    watch: &mut dyn Climb,
) -> Result<Option<Outcome>, Error> {
    for note in trainer.notes() {
        watch.note(&format!("run `{}`: {note}", run.id));
    }
    watch.start(run, trainer.step());
    let mut observer = Steps { run, watch };
    let (train, held_out) = (data.train.as_ref(), data.held_out.as_ref());
    let result = trainer.run(train, Some(held_out), &mut observer);
    let diverged = |seconds| Outcome {
        loss: None,
        tokens: None,
        seconds,
    };
    let summary = match result {
        Ok(summary) if summary.stopped => return Ok(None),
        Ok(summary) => summary,
        Err(crate::Error::Diverged { .. }) => return Ok(Some(diverged(seconds(folder)?))),
        Err(error) => return Err(error.into()),
    };
    let loss = match summary.evaluation {
        Some(evaluation) => evaluation.scores.loss,
        // It had been trained to its end before, and was killed while it was measured.
        None => {
            let config = trainer.config();
            evaluate(trainer.model(), held_out, config.precision, config.threads)?.loss
        }
    };
    let seconds = seconds(folder)?;
    Ok(Some(match loss.is_finite() {
        true => Outcome {
            loss: Some(loss),
            tokens: Some(summary.tokens_seen),
            seconds,
        },
        false => diverged(seconds),
    }))
}

/// Time that the steps of a run took, interruptions left out.
fn seconds(folder: &Path) -> Result<f64, Error> {
    let events = history(folder)?;
    let steps = events.iter().filter(|event| event["event"] == "step");
    Ok(steps.filter_map(|step| step["seconds"].as_f64()).sum())
}

/// Passes the steps of a run on.
struct Steps<'a> {
    run: &'a Run,
    watch: &'a mut dyn Climb,
}

impl Observer for Steps<'_> {
    fn step(&mut self, report: &StepReport) {
        self.watch.step(self.run, report);
    }

    fn should_stop(&mut self) -> bool {
        self.watch.should_stop()
    }
}

/// Removes the checkpoints of a run and leaves its log. They are the only folders in it.
fn remove_checkpoints(folder: &Path) -> Result<(), Error> {
    if !folder.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(folder).map_err(crate::Error::io("list", folder))? {
        let path = entry.map_err(crate::Error::io("list", folder))?.path();
        if path.is_dir() {
            fs::remove_dir_all(&path).map_err(crate::Error::io("remove", &path))?;
        }
    }
    Ok(())
}

/// Holds the ladder as long as the file is open.
fn lock(dir: &Path) -> Result<File, Error> {
    let locked = try_lock(&dir.join(LOCK_FILE))?;
    locked.ok_or_else(|| Error::Locked {
        dir: dir.to_path_buf(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::ladder::tests::SMALL;
    use super::super::write_plan;
    use super::*;

    fn planned(dir: &Path) -> (Ladder, Run) {
        let ladder = Ladder::parse(SMALL).expect("a ladder");
        let plan = write_plan(&ladder, dir).expect("plans");
        let cheapest = by_cost(&plan.runs, Some(1))[0];
        (ladder, plan.runs[cheapest].clone())
    }

    #[test]
    fn a_run_that_was_killed_before_the_table_knew_is_only_measured() {
        let (whole, killed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (ladder, run) = planned(whole.path());
        planned(killed.path());
        let effort = Effort {
            threads: 1,
            max_runs: Some(1),
        };
        climb(whole.path(), effort, &mut ()).expect("runs");

        // Trained to its last checkpoint, and nothing after it.
        let folder = killed.path().join(RUNS_FOLDER).join(&run.id);
        let data = load_data(&ladder).expect("built in");
        let size = ladder.sizes.iter().find(|size| size.name == run.size);
        let model = Model::init(ladder.config(size.expect("its size")), run.seed);
        let mut trainer =
            Trainer::new(model, ladder.train_config(&run, 1), &folder).expect("starts");
        trainer
            .run(data.train.as_ref(), None, &mut ())
            .expect("trains");
        drop(trainer);

        struct NoStep;
        impl Climb for NoStep {
            fn step(&mut self, _: &Run, report: &StepReport) {
                panic!("step {} was made again", report.step);
            }
        }
        climb(killed.path(), effort, &mut NoStep).expect("measures");
        let result = |dir: &Path| {
            let mut runs = read_table(&dir.join(TABLE_FILE)).expect("a table");
            runs.retain(|other| other.id == run.id);
            (runs[0].state, runs[0].loss, runs[0].tokens)
        };
        assert_eq!(result(killed.path()), result(whole.path()));
        assert_eq!(result(killed.path()).0, State::Done);
    }

    #[test]
    fn a_ladder_has_one_climber() {
        let dir = tempfile::tempdir().unwrap();
        planned(dir.path());
        let _held = lock(dir.path()).expect("free");
        let effort = Effort {
            threads: 1,
            max_runs: None,
        };
        let error = climb(dir.path(), effort, &mut ()).expect_err("held");
        assert!(error.to_string().contains("another process"), "{error}");
    }
}
