//! The bytes of a weights file: mapped into memory, or owned.

use std::fs::File;
use std::ops::Deref;
use std::path::Path;
use std::time::SystemTime;

use memmap2::Mmap;

use crate::Error;

/// A file's content. Mapped, it costs address space and is read when it is looked at.
#[derive(Debug)]
pub(super) enum Bytes {
    Mapped {
        map: Mmap,
        /// When the file was changed last, seen before it was mapped; `None` where the system does
        /// not tell.
        modified: Option<SystemTime>,
    },
    Owned(Vec<u8>),
}

impl Bytes {
    /// Maps the file at `path`. Whoever cuts a mapped file short ends the process; weights are
    /// therefore replaced by renaming, as everything in this crate that writes does.
    pub(super) fn map(path: &Path) -> Result<Self, Error> {
        let file = File::open(path).map_err(Error::io("read", path))?;
        let metadata = file.metadata().map_err(Error::io("read", path))?;
        // Empty files cannot be mapped, and folders open like files.
        if metadata.is_file() && metadata.len() == 0 {
            return Ok(Self::Owned(Vec::new()));
        }
        // SAFETY: the map is private to this value, read-only, and handed out as `&[u8]` for no
        // longer than it lives. Any byte is a valid `u8`, and each reader checks what it takes
        // from them against the length of the map, which does not change; so another process that
        // writes into the file can make values wrong, which is what damaged weights are, but no
        // access invalid. A file that is cut short raises SIGBUS, which ends the process and is
        // no undefined behaviour.
        let map = unsafe { Mmap::map(&file) }.map_err(Error::io("map", path))?;
        let modified = metadata.modified().ok();
        Ok(Self::Mapped { map, modified })
    }

    /// When the file was changed last, if there is one.
    pub(super) fn modified(&self) -> Option<SystemTime> {
        match self {
            Self::Mapped { modified, .. } => *modified,
            Self::Owned(_) => None,
        }
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped { map, .. } => map,
            Self::Owned(bytes) => bytes,
        }
    }
}
