//! The folder of a run: its lock, its log and its checkpoints.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use crate::Error;
use crate::checkpoint;
use crate::log::{Event, Log};
use crate::report::Observer;
use crate::saver::{Saved, Saver};

const LOCK_FILE: &str = "train.lock";

/// The folder of a run.
#[derive(Debug)]
pub(crate) struct Home {
    pub(crate) dir: PathBuf,
    pub(crate) log: Log,
    pub(crate) saver: Saver,
    /// Of the newest checkpoint known to be whole.
    pub(crate) newest: Option<PathBuf>,
    /// Held until the run's process ends in any way; the system releases it.
    _lock: File,
}

impl Home {
    /// An existing folder, which no other process trains in.
    pub(crate) fn open(dir: &Path) -> Result<Self, Error> {
        Ok(Self {
            dir: dir.to_path_buf(),
            _lock: lock(dir)?,
            log: Log::open(dir)?,
            saver: Saver::new(dir),
            newest: None,
        })
    }

    /// A folder, made if needed, in which no run has begun.
    pub(crate) fn new_run(dir: &Path) -> Result<Self, Error> {
        fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
        let home = Self::open(dir)?;
        match checkpoint::list(dir)?.is_empty() {
            true => Ok(home),
            false => Err(Error::Occupied {
                dir: dir.to_path_buf(),
            }),
        }
    }

    /// Tells of a checkpoint that has been written meanwhile. Where training goes `well`, those that
    /// it makes superfluous are removed; where it does not, they may be the last good ones.
    pub(crate) fn poll(&mut self, well: bool, observer: &mut dyn Observer) -> Result<(), Error> {
        match self.saver.poll().transpose()? {
            Some(saved) => self.saved(&saved, well, observer),
            None => Ok(()),
        }
    }

    /// As [`poll`](Home::poll), for the checkpoint that is being written still.
    pub(crate) fn wait(&mut self, well: bool, observer: &mut dyn Observer) -> Result<(), Error> {
        match self.saver.wait().transpose()? {
            Some(saved) => self.saved(&saved, well, observer),
            None => Ok(()),
        }
    }

    /// Notes that a checkpoint is on disk.
    fn saved(
        &mut self,
        saved: &Saved,
        well: bool,
        observer: &mut dyn Observer,
    ) -> Result<(), Error> {
        if well {
            saved.prune(&self.dir)?;
        }
        let name = saved.path.file_name().unwrap_or_default();
        self.log.write(&Event::Checkpoint {
            step: saved.state.step,
            name: &name.to_string_lossy(),
        })?;
        observer.checkpoint(&saved.path);
        self.newest = Some(saved.path.clone());
        Ok(())
    }
}

fn lock(dir: &Path) -> Result<File, Error> {
    let locked = try_lock(&dir.join(LOCK_FILE))?;
    locked.ok_or_else(|| Error::Locked {
        dir: dir.to_path_buf(),
    })
}

/// Locks a file, which is made if needed, until it is dropped or the process ends in any way; `None` if
/// another process holds it.
pub(crate) fn try_lock(path: &Path) -> Result<Option<File>, Error> {
    let mut options = File::options();
    let file = options
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(Error::io("open", path))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(Error::io("lock", path)(error)),
    }
}
