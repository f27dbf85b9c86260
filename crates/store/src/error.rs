//! What can go wrong between a folder and a store, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

/// Errors of this crate. Messages say what was wrong and how to go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The URL names no place to keep folders.
    #[error(
        "`{url}` is no store: {reason}; a store is a folder (`path`, `file:///path`) or \
         `s3://BUCKET/PREFIX`"
    )]
    Url {
        /// What was given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The program was built without what the URL needs.
    #[error(
        "this program was built without S3, so it cannot use `{url}`; build it with \
         `cargo build --release --features s3`"
    )]
    NoS3 {
        /// What was given.
        url: String,
    },
    /// The folder of a local store is missing.
    #[error("there is no store in `{}`: no such folder", .0.display())]
    NoFolder(PathBuf),
    /// The operating system refused a file operation.
    #[error("cannot {action} `{}`: {source}", path.display())]
    Io {
        /// Verb phrase, such as `create`.
        action: &'static str,
        /// File or folder concerned.
        path: PathBuf,
        /// Reason given by the system.
        source: io::Error,
    },
    /// The store refused an operation, also after the retries.
    #[error("cannot {action} `{key}` in the store: {source}{hint}")]
    Store {
        /// Verb, such as `write`.
        action: &'static str,
        /// Object or beginning of keys concerned.
        key: String,
        /// Reason given by the store.
        source: Box<object_store::Error>,
        /// What to do, from `; ` on, or nothing.
        hint: &'static str,
    },
    /// A version cannot have this name.
    #[error(
        "`{0}` cannot be the name of a version: it takes letters, digits, `-`, `_` and `.`, \
         not at the start, at most 200 of them"
    )]
    Name(String),
    /// The folder cannot be kept.
    #[error("cannot keep `{}` in a store: {reason}", path.display())]
    Folder {
        /// Folder or the part of it that is to blame.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A file did not stay as it was.
    #[error("`{}` changed while it was being stored; store it when nothing writes to it", .0.display())]
    Changed(PathBuf),
    /// There is another version of this name.
    #[error(
        "the store already has a `{0}` with other contents; it stays as it is: choose another \
         name, or another store"
    )]
    Conflict(String),
    /// There is no such version.
    #[error("the store has no version `{0}`")]
    Unknown(String),
    /// An object is not what its version says.
    #[error("`{key}` in the store is damaged: {reason}; use another version")]
    Damaged {
        /// The object.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Somebody removed files of a version that was being stored.
    #[error("`{0}` was removed from the store while its version was being written; store it again")]
    Removed(String),
    /// There is something where a version is to be fetched to.
    #[error("`{}` is already there; choose another place, or remove it", .0.display())]
    Occupied(PathBuf),
}

impl Error {
    /// Whether the same call may succeed later: the network or the service failed, not the request.
    pub fn is_passing(&self) -> bool {
        use object_store::Error::{Generic, JoinError};
        matches!(self.of_store(), Some(Generic { .. } | JoinError { .. }))
    }

    /// Whether there was no such object.
    pub(crate) fn is_missing(&self) -> bool {
        use object_store::Error::NotFound;
        matches!(self.of_store(), Some(NotFound { .. }))
    }

    /// Whether there was an object where none may be.
    pub(crate) fn is_taken(&self) -> bool {
        use object_store::Error::{AlreadyExists, Precondition};
        matches!(
            self.of_store(),
            Some(AlreadyExists { .. } | Precondition { .. })
        )
    }

    fn of_store(&self) -> Option<&object_store::Error> {
        match self {
            Self::Store { source, .. } => Some(source),
            _ => None,
        }
    }

    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}
