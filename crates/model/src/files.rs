//! Writing files so that a reader sees the old one or the new one, never half.

use std::fs::{self, File};
use std::path::Path;

use crate::Error;

/// Lets `write` fill a temporary file beside `path`, makes it durable and
/// renames it into place. The temporary file is gone afterwards either way.
pub(crate) fn write_atomically(
    path: &Path,
    write: impl FnOnce(&Path) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    // The process id keeps two writers of one folder apart.
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    let result = write(&temporary)
        .and_then(|()| {
            let file = File::open(&temporary).map_err(Error::io("open", &temporary))?;
            file.sync_all().map_err(Error::io("flush", &temporary))
        })
        .and_then(|()| fs::rename(&temporary, path).map_err(Error::io("replace", path)));
    if result.is_err() {
        // Best effort: the first error is the one worth reporting.
        let _ = fs::remove_file(&temporary);
    }
    result
}
