//! The file of packed weights: reading it with distrust, writing it whole or not at all.
//!
//! | bytes | content |
//! |---|---|
//! | 8 | `CWMPACK` and a zero |
//! | 4 | length of the header, little-endian |
//! | as it says | the header, JSON, filled up with spaces to a multiple of 64 bytes from the start |
//! | the rest | the matrices, each in whole blocks of 64 bytes, in the order of [`Decoder::matrices`](crate::weights::Decoder::matrices) |
//!
//! The header names the model, the formats and the versions, and for each matrix its shape, length
//! and checksum. Nothing is believed: before a byte of memory is set aside for a matrix, its shape
//! is the one that the model's config calls for, and the file has the length that all of them need.

use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::vec;

use cwm_kernels::{Linear, PACKED_VERSION, WeightFormat};
use serde::{Deserialize, Serialize};

use super::checksum::{self, Checksum};
use crate::error::Error;

const MAGIC: [u8; 8] = *b"CWMPACK\0";

/// Version of this file's frame; that of the matrices is [`PACKED_VERSION`].
const VERSION: u32 = 1;

/// Bytes before the header.
const START: usize = MAGIC.len() + size_of::<u32>();

/// Matrices begin at multiples of it, as they do in memory.
const ALIGN: usize = 64;

/// Longest header: room for some ten thousand matrices.
const MAX_HEADER: usize = 1 << 20;

/// Bytes that are read and summed at once, while they are in the processor's cache.
const AT_ONCE: usize = 256 * 1024;

/// What the weights in a file are: a reader asks for the same that was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Label {
    /// [`VERSION`].
    version: u32,
    /// [`PACKED_VERSION`].
    layout: u32,
    /// The identity of the checkpoint.
    key: String,
    /// How the weights are held; tables may differ.
    weights: String,
}

impl Label {
    pub(super) fn new(key: String, format: WeightFormat) -> Self {
        Self {
            version: VERSION,
            layout: PACKED_VERSION,
            key,
            weights: format.name().to_owned(),
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    label: Label,
    matrices: Vec<Entry>,
}

/// A matrix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    n: usize,
    k: usize,
    format: String,
    bytes: u64,
    checksum: u64,
}

impl Entry {
    fn new(n: usize, k: usize, format: WeightFormat, checksum: u64) -> Self {
        Self {
            n,
            k,
            format: format.name().to_owned(),
            bytes: format.packed_bytes(n, k) as u64,
            checksum,
        }
    }
}

/// Why a file cannot be used, as what follows its name.
#[derive(Debug, thiserror::Error)]
pub(super) enum Problem {
    #[error("is not there")]
    Absent,
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Unusable(&'static str),
    /// Something that is not in the file could not be read either.
    #[error("cannot be completed: {0}")]
    Model(#[from] Error),
}

/// An open file, whose matrices come one after the other.
#[derive(Debug)]
pub(super) struct Reader<R> {
    input: R,
    entries: vec::IntoIter<Entry>,
}

impl Reader<File> {
    /// Opens the file at `path` if it is what `label` says.
    pub(super) fn open(path: &Path, label: &Label) -> Result<Self, Problem> {
        // Opening a pipe would wait for its writer.
        match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Problem::Absent),
            Err(error) => return Err(error.into()),
            Ok(metadata) if !metadata.is_file() => return Err(Problem::Unusable("is no file")),
            Ok(_) => {}
        }
        let file = File::open(path)?;
        let len = file.metadata()?.len();
        Self::new(file, len, label)
    }
}

impl<R: Read> Reader<R> {
    /// Reads the header of a file of `len` bytes.
    fn new(mut input: R, len: u64, label: &Label) -> Result<Self, Problem> {
        let unusable = |what| Err(Problem::Unusable(what));
        if len < START as u64 {
            return unusable("is cut short");
        }
        let mut magic = [0; MAGIC.len()];
        input.read_exact(&mut magic)?;
        if magic != MAGIC {
            return unusable("holds no packed weights");
        }
        let mut header_len = [0; size_of::<u32>()];
        input.read_exact(&mut header_len)?;
        let header_len = u32::from_le_bytes(header_len) as usize;
        if header_len > MAX_HEADER {
            return unusable("is damaged: its header is too long");
        }
        let begin = (START + header_len) as u64;
        if begin > len {
            return unusable("is cut short");
        }
        let mut text = vec![0; header_len];
        input.read_exact(&mut text)?;
        let Ok(header) = serde_json::from_slice::<Header>(&text) else {
            return unusable("is damaged, or of another version: its header is not understood");
        };
        if header.label != *label {
            return unusable("is of another model, format or version");
        }
        let mut sizes = header.matrices.iter().map(|entry| entry.bytes);
        match sizes.try_fold(begin, u64::checked_add) {
            Some(end) if end == len => {}
            _ => return unusable("is damaged: its length is not that of its matrices"),
        }
        Ok(Self {
            input,
            entries: header.matrices.into_iter(),
        })
    }

    /// The next matrix, which is this one.
    pub(super) fn matrix(
        &mut self,
        n: usize,
        k: usize,
        format: WeightFormat,
    ) -> Result<Linear, Problem> {
        let Some(entry) = self.entries.next() else {
            return Err(Problem::Unusable("is damaged: it lacks a matrix"));
        };
        if entry != Entry::new(n, k, format, entry.checksum) {
            return Err(Problem::Unusable(
                "is damaged: a matrix is not the one that the model has",
            ));
        }
        Linear::from_packed(format, n, k, |bytes| {
            let mut sum = Checksum::new();
            for part in bytes.chunks_mut(AT_ONCE) {
                self.input.read_exact(part)?;
                sum.add(part);
            }
            match sum.finish() == entry.checksum {
                true => Ok(()),
                false => Err(Problem::Unusable(
                    "is damaged: the checksum of a matrix is wrong",
                )),
            }
        })
    }

    /// Makes sure that no matrix is left.
    pub(super) fn finish(mut self) -> Result<(), Problem> {
        match self.entries.next() {
            None => Ok(()),
            Some(_) => Err(Problem::Unusable("is damaged: it has too many matrices")),
        }
    }
}

/// Writes the file at `path` and returns its length. A reader sees all of it or what was there
/// before; of writers at the same time, the last one stays.
pub(super) fn write<'a>(
    path: &Path,
    label: &Label,
    matrices: impl Iterator<Item = &'a Linear> + Clone,
) -> io::Result<u64> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let temporary = Temporary::beside(path);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&temporary.0)?;
    let bytes = write_to(&mut file, label, matrices)?;
    // What does not fit is told here at the latest, and a loss of power leaves no hole.
    file.sync_all()?;
    drop(file);
    fs::rename(&temporary.0, path)?;
    Ok(bytes)
}

fn write_to<'a>(
    out: &mut impl Write,
    label: &Label,
    matrices: impl Iterator<Item = &'a Linear> + Clone,
) -> io::Result<u64> {
    let entries = matrices.clone().map(|matrix| {
        let checksum = checksum::of(matrix.bytes());
        Entry::new(matrix.n(), matrix.k(), matrix.format(), checksum)
    });
    let header = Header {
        label: label.clone(),
        matrices: entries.collect(),
    };
    let mut text = serde_json::to_vec(&header)?;
    text.resize((START + text.len()).next_multiple_of(ALIGN) - START, b' ');
    if text.len() > MAX_HEADER {
        return Err(io::Error::other("the model has too many matrices"));
    }
    out.write_all(&MAGIC)?;
    out.write_all(&(text.len() as u32).to_le_bytes())?;
    out.write_all(&text)?;
    let mut bytes = (START + text.len()) as u64;
    for matrix in matrices {
        out.write_all(matrix.bytes())?;
        bytes += matrix.n_bytes() as u64;
    }
    Ok(bytes)
}

/// A file that is removed unless it has been renamed.
struct Temporary(PathBuf);

impl Temporary {
    /// A name that nobody else takes: process ids are the same in many a container that shares a
    /// folder.
    fn beside(path: &Path) -> Self {
        let random = RandomState::new().build_hasher().finish();
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{random:016x}.tmp"));
        Self(path.with_file_name(name))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // Fails where there is none any more, which is as well.
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests;
