//! What training data is made of, as [`Documents`](crate::packed::Documents).
//!
//! * [`windows`]: recorded runs in the `live` dialect, in the vocabulary of the small model.
//! * [`texts`]: runs in the dialects with special tokens, and plain text.
//! * [`dialogs`]: messages, of which some are learned from.
//!
//! [`read`] makes them of files.

pub mod dialogs;
mod markup;
mod read;
pub mod texts;
pub mod windows;

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

use crate::Example;

pub use read::{Content, Groups, Source, SourceError, read};

/// Hashes documents one after the other.
#[derive(Debug, Default)]
struct Digest(Sha256);

impl Digest {
    fn add(&mut self, ids: &[u32]) {
        self.0.update((ids.len() as u64).to_le_bytes());
        for id in ids {
            self.0.update(id.to_le_bytes());
        }
    }

    fn hex(&self) -> String {
        crate::hex::hex(&self.0.clone().finalize())
    }
}

impl Example {
    /// Ends a frame behind the last target. A frame of which nothing counts is none.
    fn end_frame(&mut self) {
        let end = self.targets.len() as u32;
        if self.frames.last().copied().unwrap_or_default() < end {
            self.frames.push(end);
        }
    }
}

/// The weight of each kind: 1 where none is given.
fn weights_by_name<const N: usize>(names: [&str; N], weights: &BTreeMap<String, f32>) -> [f32; N] {
    names.map(|name| weights.get(name).copied().unwrap_or(1.0))
}
