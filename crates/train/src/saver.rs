//! Writes checkpoints while training goes on.
//!
//! Promises: one checkpoint is written at a time, in the order in which they were taken; what was
//! begun is finished before the saver is gone; a failure is told at the next opportunity, and
//! earlier checkpoints are whole.

use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

use crate::Error;
use crate::checkpoint::{self, Snapshot, State};

/// The writer of one run's checkpoints.
#[derive(Debug)]
pub(crate) struct Saver {
    dir: PathBuf,
    writing: Option<JoinHandle<Result<Saved, Error>>>,
}

/// A checkpoint that is on disk.
#[derive(Debug)]
pub(crate) struct Saved {
    pub(crate) path: PathBuf,
    pub(crate) state: State,
}

impl Saved {
    /// Removes what this checkpoint makes superfluous.
    pub(crate) fn prune(&self, dir: &Path) -> Result<(), Error> {
        let State {
            step, best, config, ..
        } = &self.state;
        let best = best.filter(|_| config.keep_best);
        checkpoint::prune(dir, *step, config.keep_last, best.map(|best| best.step))
    }
}

impl Saver {
    pub(crate) fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_path_buf(),
            writing: None,
        }
    }

    /// Begins to write a checkpoint. The one before must have been waited for.
    pub(crate) fn begin(&mut self, snapshot: Snapshot) {
        let dir = self.dir.clone();
        self.writing = Some(thread::spawn(move || {
            let path = checkpoint::write(&dir, &snapshot)?;
            let Snapshot { state, .. } = snapshot;
            Ok(Saved { path, state })
        }));
    }

    /// What has been written since the last call, if the writing is over.
    pub(crate) fn poll(&mut self) -> Option<Result<Saved, Error>> {
        let is_over = self.writing.as_ref().is_some_and(JoinHandle::is_finished);
        is_over.then(|| self.wait()).flatten()
    }

    /// Waits until what has been begun is on disk.
    pub(crate) fn wait(&mut self) -> Option<Result<Saved, Error>> {
        let writing = self.writing.take()?;
        Some(
            writing
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
        )
    }
}

impl Drop for Saver {
    fn drop(&mut self) {
        if let Some(writing) = self.writing.take() {
            // Whoever drops the saver has a failure of its own to tell.
            let _ = writing.join();
        }
    }
}
