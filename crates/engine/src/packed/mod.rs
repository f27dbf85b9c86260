//! A cache of packed weights, so that a large model is packed once and not at every start.
//!
//! Packing looks at every weight of a checkpoint; reading packed bytes costs what the disk does.
//! The cache is a copy of what can be made again, so nothing about it is ever an error: a file that
//! is missing, foreign, damaged or of another version is passed over, the weights are packed from
//! the checkpoint, and the file is written anew.

mod checksum;
mod file;

use std::path::{Path, PathBuf};

use cwm_kernels::{Pool, WeightFormat};
use cwm_model::Checkpoint;

use crate::error::Result;
use crate::weights::{Decoder, OnDisk};
use file::{Label, Problem, Reader};

/// What [`Engine::open_cached`](crate::Engine::open_cached) did with its cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CacheUse {
    /// The packed weights were read.
    Read {
        /// From this file.
        path: PathBuf,
    },
    /// The weights were packed, and written for the next time.
    Written {
        /// Into this file.
        path: PathBuf,
        /// Its length.
        bytes: u64,
        /// Why the file that was there before could not be used; `None` where there was none.
        replaced: Option<String>,
    },
    /// The weights were packed, and are not in the cache.
    Unused {
        /// Why not.
        reason: String,
    },
}

/// The weights of `checkpoint`, read from the cache in `folder` or packed and written there.
pub(crate) fn decoder(
    checkpoint: &Checkpoint,
    format: WeightFormat,
    pool: &Pool,
    folder: &Path,
) -> Result<(Decoder, CacheUse)> {
    let source = OnDisk::new(checkpoint);
    let pack = || Decoder::pack(checkpoint.config(), &source, format, pool);
    let Some(key) = checkpoint.identity() else {
        let reason = "the model lies in no files that could be told from others".to_owned();
        return Ok((pack()?, CacheUse::Unused { reason }));
    };
    let path = folder.join(format!("{}-{format}.cwmpack", &key[..16]));
    let label = Label::new(key, format);
    let replaced = match read(&path, &label, checkpoint, &source, format) {
        Ok(decoder) => return Ok((decoder, CacheUse::Read { path })),
        Err(Problem::Absent) => None,
        Err(problem) => Some(format!("`{}` {problem}", path.display())),
    };
    let decoder = pack()?;
    let used = match file::write(&path, &label, decoder.matrices()) {
        Ok(bytes) => CacheUse::Written {
            path,
            bytes,
            replaced,
        },
        Err(error) => {
            let failed = format!("cannot write `{}`: {error}", path.display());
            let reason = match replaced {
                None => failed,
                Some(why) => format!("{why}; {failed}"),
            };
            CacheUse::Unused { reason }
        }
    };
    Ok((decoder, used))
}

/// The weights whose matrices the file at `path` holds.
fn read(
    path: &Path,
    label: &Label,
    checkpoint: &Checkpoint,
    source: &OnDisk<'_>,
    format: WeightFormat,
) -> Result<Decoder, Problem> {
    let mut reader = Reader::open(path, label)?;
    let decoder = Decoder::new(checkpoint.config(), source, format, |range, k, format| {
        reader.matrix(range.len() / k, k, format)
    })?;
    reader.finish()?;
    Ok(decoder)
}
