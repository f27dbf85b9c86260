//! What a step left behind: [`Record`], and the digests by which it is known.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Why a record or a product cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// A file or a folder.
    #[error("cannot {doing} `{}`: {source}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// Where.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// It is not a record.
    #[error("`{}` is not the record of a step: {reason}; delete it, and the step is made again", path.display())]
    Syntax {
        /// Where.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RecordError {
    let path = path.to_owned();
    move |source| RecordError::Io {
        doing,
        path,
        source,
    }
}

/// A step that was finished.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Name of the step.
    pub step: String,
    /// [`Ready::key`](crate::Ready::key): of what was run, and what it read.
    pub key: String,
    /// Version of `cwm`.
    pub cwm: String,
    /// What it took.
    pub seconds: f64,
    /// What it made, by path.
    pub products: Vec<Product>,
}

/// A file that a step made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Product {
    /// Path in the step's folder, with `/`.
    pub file: String,
    /// Its length.
    pub bytes: u64,
    /// SHA-256 in hexadecimal.
    pub sha256: String,
}

impl Record {
    /// Reads a record, if there is one.
    ///
    /// # Errors
    /// When it cannot be read or is none.
    pub fn read(path: &Path) -> Result<Option<Self>, RecordError> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error("read", path)(error)),
        };
        serde_json::from_str(&text)
            .map(Some)
            .map_err(|error| RecordError::Syntax {
                path: path.to_owned(),
                reason: error.to_string(),
            })
    }

    /// Writes it, complete or not at all.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), RecordError> {
        let partial = path.with_extension("partial");
        let text = serde_json::to_string_pretty(self).map_err(io::Error::from);
        let write = |text: String| {
            fs::write(&partial, text + "\n")?;
            fs::rename(&partial, path)
        };
        text.and_then(write).map_err(io_error("write", path))
    }

    /// Whether its products still lie in `folder`, by their lengths.
    pub fn is_there(&self, folder: &Path) -> bool {
        self.products.iter().all(|product| {
            let found = fs::metadata(folder.join(&product.file));
            found.is_ok_and(|found| found.len() == product.bytes)
        })
    }
}

/// Digest of all products together.
pub fn products_digest(products: &[Product]) -> String {
    let mut sum = Sha256::new();
    for product in products {
        sum.update(format!("{}  {}\n", product.sha256, product.file));
    }
    hex(&sum.finalize())
}

/// Digest of a file, or of the files of a folder: the SHA-256 of what `sha256sum` prints of them, by path.
///
/// # Errors
/// When something cannot be read.
pub fn digest(path: &Path) -> Result<String, RecordError> {
    match path.is_dir() {
        true => Ok(products_digest(&products(path)?)),
        false => file_digest(path).map(|(_, sum)| sum),
    }
}

/// The files of a folder and those in it, by path.
///
/// # Errors
/// When something cannot be read.
pub fn products(folder: &Path) -> Result<Vec<Product>, RecordError> {
    let mut found = Vec::new();
    collect(folder, "", &mut found)?;
    found.sort_by(|a, b| a.file.cmp(&b.file));
    Ok(found)
}

fn collect(folder: &Path, above: &str, found: &mut Vec<Product>) -> Result<(), RecordError> {
    let entries = fs::read_dir(folder).map_err(io_error("read the folder", folder))?;
    for entry in entries {
        let entry = entry.map_err(io_error("read the folder", folder))?;
        let path = entry.path();
        let file = format!("{above}{}", entry.file_name().to_string_lossy());
        if path.is_dir() {
            collect(&path, &format!("{file}/"), found)?;
            continue;
        }
        let (bytes, sha256) = file_digest(&path)?;
        found.push(Product {
            file,
            bytes,
            sha256,
        });
    }
    Ok(())
}

/// Length and SHA-256 of a file.
fn file_digest(path: &Path) -> Result<(u64, String), RecordError> {
    let mut file = File::open(path).map_err(io_error("read", path))?;
    let mut sum = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    let mut bytes = 0;
    loop {
        match file.read(&mut buffer).map_err(io_error("read", path))? {
            0 => return Ok((bytes, hex(&sum.finalize()))),
            n => {
                sum.update(&buffer[..n]);
                bytes += n as u64;
            }
        }
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
