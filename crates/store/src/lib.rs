//! Folders kept in an object store: a local folder, or S3 and what speaks its protocol.
//!
//! ```text
//! ROOT/step-000100/READY                                  what the version consists of; written last
//! ROOT/step-000100/8d0f3c…/model.safetensors        its files, below a digest of them all
//! ```
//!
//! - [`Store::open`] takes a URL, [`Store::put_folder`] keeps a folder as a [`Version`].
//! - [`Store::versions`] and [`Store::newest`] say what is there, [`Store::fetch`] brings one back.
//! - [`Store::remove`], [`Store::prune`] and [`Store::sweep`] make room.
//!
//! Invariants
//! - A version is there from the moment its `READY` is, and `READY` is written when all else is. Who
//!   is killed in between leaves nothing that a reader takes for a version.
//! - A version never changes. `READY` is written only where there is none, so that of two writers
//!   of one name one wins, and the loser is told. Files of different contents have different keys, so
//!   that the loser damages nothing.
//! - What is fetched has the sizes and SHA-256 that `READY` says, or it is not there at all.
//! - Nothing is removed but what has the form of a version: other files in the same place are safe.
//! - Every call blocks until it is done. The calls are not for use inside an async runtime.

mod download;
mod error;
mod folder;
mod place;
mod remove;
#[cfg(feature = "s3")]
mod s3;
mod store;
mod upload;
mod version;

#[cfg(test)]
mod tests;

pub use error::Error;
pub use remove::Swept;
pub use store::{Listing, Progress, Retry, Store};
pub use upload::Stored;
pub use version::{StoredFile, Version};
