//! Opens recorded programs wherever they lie: a folder of `cwm data build`, a shard, a file of JSON lines; and the
//! texts of folders and shards.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use cwm_trace::columns::MAGIC;

use crate::decontaminate::open_text;
use crate::generate::rng::Rng;
use crate::record::{Record, RecordError, read_records};
use crate::rows::is_of_texts;
use crate::shard::{ShardError, read_shard};
use crate::text_shard::{TextRow, read_texts};

/// Why records cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A file or folder cannot be opened.
    #[error("cannot read `{}`: {source}", path.display())]
    Open {
        /// Which one.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A folder has no shards in it.
    #[error("`{}` holds no shards of programs (*.parquet); is it a folder of `cwm data build`?", .0.display())]
    NoShards(PathBuf),
    /// A shard cannot be used.
    #[error("cannot use `{}`: {source}", path.display())]
    Shard {
        /// Which one.
        path: PathBuf,
        /// The cause.
        source: ShardError,
    },
    /// A line is no record.
    #[error("cannot use `{}`: {source}", path.display())]
    Record {
        /// In which file.
        path: PathBuf,
        /// The cause.
        source: RecordError,
    },
}

/// What [`open_records`] gives, one by one.
pub type Records = Box<dyn Iterator<Item = Result<Record, ReadError>>>;

/// The records of a folder of shards in the order of their names, of a shard, or of a file of JSON lines (`.gz` too).
///
/// # Errors
/// [`ReadError`]; what is wrong further on comes in the place of a record.
pub fn open_records(path: &Path) -> Result<Records, ReadError> {
    let open_error = |source| ReadError::Open {
        path: path.to_owned(),
        source,
    };
    if path.is_dir() {
        let shards = shards(path, false)?;
        if shards.is_empty() {
            return Err(ReadError::NoShards(path.to_owned()));
        }
        return Ok(Box::new(shards.into_iter().flat_map(
            |path| match open_records(&path) {
                Ok(records) => records,
                Err(error) => Box::new(std::iter::once(Err(error))),
            },
        )));
    }
    let mut file = File::open(path).map_err(open_error)?;
    let mut start = [0; MAGIC.len()];
    if file.read_exact(&mut start).is_ok() && start == *MAGIC {
        let records = read_shard(file).map_err(|source| ReadError::Shard {
            path: path.to_owned(),
            source,
        })?;
        return Ok(Box::new(records.into_iter().map(Ok)));
    }
    let text = open_text(path).map_err(open_error)?;
    let path = path.to_owned();
    Ok(Box::new(read_records(text).map(move |record| {
        record.map_err(|source| ReadError::Record {
            path: path.clone(),
            source,
        })
    })))
}

/// Some of the records, each with the same chance (Vitter's algorithm R): the same ones for the same seed.
///
/// # Errors
/// The first of the records'.
pub fn draw_records(records: Records, count: usize, seed: u64) -> Result<Vec<Record>, ReadError> {
    let mut rng = Rng::new(seed, 0, 0);
    let mut drawn = Vec::new();
    for (at, record) in records.enumerate() {
        let record = record?;
        if drawn.len() < count {
            drawn.push(record);
        } else if let Some(place) = drawn.get_mut(rng.below(at + 1)) {
            *place = record;
        }
    }
    Ok(drawn)
}

/// What [`open_texts`] gives, one by one.
pub type Texts = Box<dyn Iterator<Item = Result<TextRow, ReadError>>>;

/// The texts of a folder in the order of its shards' names, or of a shard; none where there are none.
///
/// # Errors
/// [`ReadError`]; what is wrong further on comes in the place of a text.
pub fn open_texts(path: &Path) -> Result<Texts, ReadError> {
    if path.is_dir() {
        let shards = shards(path, true)?;
        return Ok(Box::new(shards.into_iter().flat_map(
            |path| match open_texts(&path) {
                Ok(texts) => texts,
                Err(error) => Box::new(std::iter::once(Err(error))),
            },
        )));
    }
    if !path
        .file_name()
        .is_some_and(|name| is_of_texts(&name.to_string_lossy()))
    {
        return Ok(Box::new(std::iter::empty()));
    }
    let file = File::open(path).map_err(|source| ReadError::Open {
        path: path.to_owned(),
        source,
    })?;
    let texts = read_texts(file).map_err(|source| ReadError::Shard {
        path: path.to_owned(),
        source,
    })?;
    Ok(Box::new(texts.into_iter().map(Ok)))
}

/// The shards of a folder, of texts or of recorded programs, in the order of their names.
fn shards(folder: &Path, of_texts: bool) -> Result<Vec<PathBuf>, ReadError> {
    let open_error = |source| ReadError::Open {
        path: folder.to_owned(),
        source,
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(open_error)? {
        let path = entry.map_err(open_error)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.ends_with(".parquet") && is_of_texts(&name) == of_texts {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
