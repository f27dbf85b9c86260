//! What can go wrong with a ladder, and what to do about it.

use std::path::PathBuf;

/// Errors of ladders and of what is fitted to them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file that describes a ladder cannot work.
    #[error("`{}` describes no ladder: {reason}", path.display())]
    Ladder {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file is no table of runs.
    #[error("`{}` is no table of runs: {reason}", path.display())]
    Table {
        /// The file.
        path: PathBuf,
        /// Which line and column, and what is wrong there.
        reason: String,
    },
    /// A folder holds another ladder.
    #[error(
        "`{}` holds a ladder with another `{field}`, so runs of both could not be compared; choose another folder",
        dir.display()
    )]
    Changed {
        /// The folder.
        dir: PathBuf,
        /// What differs.
        field: String,
    },
    /// The table has runs that its ladder does not explain.
    #[error("run `{run}` is of a size that `{}` does not have; plan the ladder again", path.display())]
    UnknownSize {
        /// Which run.
        run: String,
        /// The file that describes the ladder.
        path: PathBuf,
    },
    /// Records could not be read, or none of them can be used.
    #[error("cannot use the data of the ladder")]
    Data(#[from] crate::sources::SourceError),
    /// Another process works on the ladder.
    #[error("another process runs the ladder in `{}`; wait for it or stop it", dir.display())]
    Locked {
        /// The folder.
        dir: PathBuf,
    },
    /// A file could not be used, or a run could not be trained.
    #[error(transparent)]
    Train(#[from] crate::Error),
}
