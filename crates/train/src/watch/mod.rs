//! Watching a run from outside, by its log: while it goes on, or after.
//!
//! ```text
//! train.jsonl --Follower--> events that count --RunState--> curves, Figures --> page
//!                                       |
//!                                       +--> CSV, TensorBoard
//! ```
//!
//! - [`Follower`] reads what is new; [`RunState`] sums it up in bounded memory; [`Watch`] is both.
//! - [`Figures`] are what is shown first: status, pace, remaining time, utilisation.
//!
//! Invariants
//! - Nothing here writes into the folder of a run, takes its lock or needs its process.
//! - No terminal: who shows a run decides how.

mod event;
mod figures;
mod follow;
mod page;
mod scalars;
mod series;
mod state;
mod tensorboard;
mod text;

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

pub use event::{
    CheckpointLine, EndLine, EvaluationLine, LogEvent, Resumption, ScoreLine, Setup, StepLine,
};
pub use figures::{Figures, Status};
pub use follow::{Follower, News};
pub use page::{NamedRun, page};
pub use scalars::write_csv;
pub use series::{MOST_POINTS, Point, Series};
pub use state::{Best, Curves, RunState, Score};
pub use tensorboard::write_tensorboard;
pub use text::{duration, grouped, short};

use crate::Error;

/// A run that is watched.
#[derive(Debug)]
pub struct Watch {
    run: PathBuf,
    follower: Follower,
    state: RunState,
}

impl Watch {
    /// Watches the run in the folder `run`, or of the log `run`. Neither need be there yet.
    pub fn new(run: &Path) -> Self {
        Self {
            run: run.to_path_buf(),
            follower: Follower::new(run),
            state: RunState::default(),
        }
    }

    /// Reads a run that is there.
    ///
    /// # Errors
    /// When there is none, nothing is in its log, or its log cannot be read.
    pub fn read(run: &Path) -> Result<Self, Error> {
        let mut watch = Self::new(run);
        match watch.poll()? {
            true => Ok(watch),
            false => Err(Error::NoLog { run: watch.run }),
        }
    }

    /// Takes in what has come since the last look, and says whether that was anything.
    ///
    /// # Errors
    /// When the log cannot be read, or is not that of a training run.
    pub fn poll(&mut self) -> Result<bool, Error> {
        let state = &mut self.state;
        self.follower.poll(&mut |news| match news {
            News::Restart => *state = RunState::default(),
            News::Event(event) => state.push(&event),
        })
    }

    /// What the run was named.
    pub fn run(&self) -> &Path {
        &self.run
    }

    /// The log that is read.
    pub fn log(&self) -> &Path {
        self.follower.path()
    }

    /// The run as far as it was read.
    pub fn state(&self) -> &RunState {
        &self.state
    }

    /// When the log was last written to.
    pub fn modified(&self) -> Option<SystemTime> {
        self.follower.modified()
    }

    /// The figures at the time `now`.
    pub fn figures(&self, now: SystemTime, peak_flops: Option<f64>) -> Figures {
        // A log that was written a moment ago by a clock that is ahead is fresh.
        let age = |modified| now.duration_since(modified).unwrap_or(Duration::ZERO);
        self.state.figures(self.modified().map(age), peak_flops)
    }
}
