//! What can go wrong in a training run, and what to do about it.

use std::path::{Path, PathBuf};

use crate::collective::CollectiveError;
use crate::report::Skip;

/// Errors of this crate. Messages say what was wrong and how to go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A field of the configuration cannot work.
    #[error("training configuration: `{field}` {reason}")]
    Config {
        /// Dotted name of the field.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The operating system refused a file operation.
    #[error("cannot {action} `{}`: {cause}", path.display())]
    Io {
        /// Verb phrase, such as `create`.
        action: &'static str,
        /// File or folder concerned.
        path: PathBuf,
        /// Reason given by the system.
        cause: std::io::Error,
    },
    /// The model could not be stored.
    #[error("cannot save the model: {0}")]
    SaveModel(#[source] cwm_model::Error),
    /// The optimiser's moments could not be stored.
    #[error("cannot write `{}`: {source}", path.display())]
    SaveOptimizer {
        /// File that was being written.
        path: PathBuf,
        /// Reason.
        source: safetensors::SafeTensorError,
    },
    /// One example does not fit the model.
    #[error("{which} example {index} does not fit the model: {source}")]
    Example {
        /// `training` or `held-out`.
        which: &'static str,
        /// Index in the data set.
        index: usize,
        /// What the model objected to.
        source: Box<cwm_model::Error>,
    },
    /// A GPU failed, or cannot do this.
    #[error(transparent)]
    Gpu(#[from] cwm_cuda::Error),
    /// The data set holds no example.
    #[error("the {which} data set is empty")]
    EmptyDataset {
        /// `training` or `held-out`.
        which: &'static str,
    },
    /// A new run was started where another one lives.
    #[error(
        "`{}` already holds checkpoints of a training run: resume it, or choose another folder",
        dir.display()
    )]
    Occupied {
        /// Folder of the other run.
        dir: PathBuf,
    },
    /// Another process trains in the same folder.
    #[error("another process is training in `{}`: wait for it or stop it", dir.display())]
    Locked {
        /// Folder of the run.
        dir: PathBuf,
    },
    /// Nothing to resume from.
    #[error("no whole checkpoint in `{}`{}", dir.display(), list(tried))]
    NoCheckpoint {
        /// Folder that was searched.
        dir: PathBuf,
        /// One line per checkpoint that was found broken.
        tried: Vec<String>,
    },
    /// The data is not what the run was started with.
    #[error(
        "this run was trained on data `{expected}` but was given `{found}`: \
         give it the same data, or allow new data explicitly"
    )]
    DataChanged {
        /// Fingerprint stored in the checkpoint.
        expected: String,
        /// Fingerprint of the data given now.
        found: String,
    },
    /// The run keeps no running mean of its weights.
    #[error(
        "the run in `{}` keeps no running mean of its weights: leave it out, or train with `ema`",
        dir.display()
    )]
    NoEma {
        /// Folder of the run.
        dir: PathBuf,
    },
    /// Ranks cannot work together.
    #[error(transparent)]
    Collective(#[from] CollectiveError),
    /// A rank sent something else than it should.
    #[error(
        "rank {rank} is not in step with the others: start all ranks with the same program, \
         and with the same data and settings"
    )]
    OutOfStep {
        /// Which one.
        rank: usize,
    },
    /// Ranks were started with different data.
    #[error("rank {rank} has other {which} data than rank 0: `{found}` instead of `{expected}`")]
    RanksDiffer {
        /// Which one.
        rank: usize,
        /// `training` or `held-out`.
        which: &'static str,
        /// Fingerprint of rank 0's data.
        expected: String,
        /// Fingerprint of that rank's data.
        found: String,
    },
    /// Some ranks train on a GPU and some do not.
    #[error(
        "rank {rank} trains on {found} and rank 0 on {expected}: give all ranks the same kind of --device"
    )]
    DevicesDiffer {
        /// Which one.
        rank: usize,
        /// What it trains on.
        found: &'static str,
        /// What rank 0 trains on.
        expected: &'static str,
    },
    /// A run cannot go on with the model it is given.
    #[error("the run in `{}` cannot go on with this model: {reason}", dir.display())]
    OtherModel {
        /// Folder of the earlier run.
        dir: PathBuf,
        /// What differs.
        reason: String,
    },
    /// Steps in a row made no update, and there is no reason to hope for better.
    #[error(
        "training diverged: the last {count} steps up to step {step} made no update ({reason}); \
         resume from the last checkpoint with a lower learning rate or other data"
    )]
    Diverged {
        /// Step at which the run gave up.
        step: u64,
        /// Steps skipped in a row.
        count: u32,
        /// Why the last one was skipped.
        reason: Skip,
    },
    /// A file that was to be read as the log of a run is something else.
    #[error(
        "`{}` is not the log of a training run: it has lines that are none of its events",
        path.display()
    )]
    NotALog {
        /// The file.
        path: PathBuf,
    },
    /// A run that was to be read has told nothing yet.
    #[error(
        "no run in `{}`: there is no `train.jsonl` with a line in it; \
         name the folder that `cwm train --out` was given",
        run.display()
    )]
    NoLog {
        /// Folder that was looked into.
        run: PathBuf,
    },
}

impl Error {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |cause| Self::Io {
            action,
            path,
            cause,
        }
    }
}

fn list(tried: &[String]) -> String {
    tried.iter().map(|line| format!("\n  {line}")).collect()
}
