//! Reads a local folder that is to be stored.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::Error;
use crate::version::{StoredFile, hexadecimal, refusal};

/// A local file and what `READY` will say of it.
#[derive(Debug)]
pub(crate) struct LocalFile {
    pub(crate) at: PathBuf,
    pub(crate) file: StoredFile,
}

/// All files below `folder`, read once for their SHA-256, sorted by path. Folders without files leave
/// no trace.
pub(crate) fn read(folder: &Path) -> Result<Vec<LocalFile>, Error> {
    let mut files = Vec::new();
    walk(folder, "", &mut files)?;
    if files.is_empty() {
        return Err(refused(folder, "it has no files"));
    }
    files.sort_by(|a, b| a.file.path.cmp(&b.file.path));
    Ok(files)
}

fn walk(folder: &Path, prefix: &str, files: &mut Vec<LocalFile>) -> Result<(), Error> {
    for entry in fs::read_dir(folder).map_err(Error::io("list", folder))? {
        let entry = entry.map_err(Error::io("list", folder))?;
        let at = entry.path();
        let kind = entry.file_type().map_err(Error::io("read", &at))?;
        let Some(name) = entry.file_name().to_str().map(str::to_owned) else {
            return Err(refused(&at, "its name is not UTF-8"));
        };
        let path = format!("{prefix}{name}");
        if let Some(reason) = refusal(&path) {
            return Err(refused(&at, reason));
        }
        if kind.is_dir() {
            walk(&at, &format!("{path}/"), files)?;
        } else if kind.is_file() {
            let (bytes, sha256) = measure(&at)?;
            let file = StoredFile {
                path,
                bytes,
                sha256,
            };
            files.push(LocalFile { at, file });
        } else {
            return Err(refused(
                &at,
                "it is a link or a device, and only files are kept",
            ));
        }
    }
    Ok(())
}

fn refused(path: &Path, reason: &'static str) -> Error {
    Error::Folder {
        path: path.to_path_buf(),
        reason,
    }
}

/// Size and SHA-256 of a file.
fn measure(path: &Path) -> Result<(u64, String), Error> {
    let mut hasher = Sha256::new();
    let bytes = File::open(path)
        .and_then(|mut file| io::copy(&mut file, &mut hasher))
        .map_err(Error::io("read", path))?;
    Ok((bytes, hexadecimal(&hasher.finalize())))
}
