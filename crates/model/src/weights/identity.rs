//! What tells one checkpoint from another without reading it whole.
//!
//! Lengths and times are what `make` goes by. They alone would take two models of one shape for the
//! same where times are set to a fixed value, as in images of containers, or are too coarse; so
//! some of the content is looked at too. Training changes every weight.

use std::fmt::Debug;
use std::time::UNIX_EPOCH;

use sha2::{Digest, Sha256};

use super::checkpoint::WeightsFile;
use crate::Config;

/// Bytes of a sample: a page.
const SAMPLE: usize = 4096;

/// Samples of a file, from its first bytes to its last.
const SAMPLES: usize = 16;

/// The identity of a model in `files`, of whose tensors `places` says where and what they are.
pub(super) fn of(config: &Config, files: &[WeightsFile], places: &impl Debug) -> Option<String> {
    let mut hash = Sha256::new();
    part(&mut hash, &serde_json::to_vec(config).ok()?);
    part(&mut hash, format!("{places:?}").as_bytes());
    for WeightsFile { path, bytes } in files {
        // Of a time before 1970 the distance is as good.
        let modified = bytes.modified()?.duration_since(UNIX_EPOCH);
        let modified = modified.unwrap_or_else(|before| before.duration());
        let path = path.canonicalize().ok()?;
        part(&mut hash, path.as_os_str().as_encoded_bytes());
        part(&mut hash, &modified.as_nanos().to_le_bytes());
        part(&mut hash, &(bytes.len() as u64).to_le_bytes());
        samples(bytes).for_each(|sample| part(&mut hash, sample));
    }
    Some(format!("{:x}", hash.finalize()))
}

/// Adds bytes and their number, so that what ends one part cannot begin the next.
fn part(hash: &mut Sha256, bytes: &[u8]) {
    hash.update((bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}

/// Evenly spread parts of `bytes`, or all of them if they are few.
fn samples(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let len = SAMPLE.min(bytes.len());
    let step = (bytes.len() - len).div_ceil(SAMPLES - 1).max(len).max(1);
    (0..bytes.len()).step_by(step).map(move |at| {
        let at = at.min(bytes.len() - len);
        &bytes[at..at + len]
    })
}
