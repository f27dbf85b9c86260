//! Compiled kernels, kept from one start to the next.
//!
//! A file is named by a hash of everything that its code depends on and begins with a hash of the code, so
//! that a stale or damaged one is never loaded. A cache that cannot be used costs time and nothing else.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::driver::compile::{Architecture, options};
use crate::error::Error;
use crate::kernel::{COMMON, Source};

/// Bytes of the hash that a file begins with.
const HASH: usize = 32;

/// A folder of compiled kernels.
#[derive(Debug)]
pub(super) struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// The user's: `cwm/kernels` in `$XDG_CACHE_HOME` or `~/.cache`.
    pub(super) fn of_user() -> Self {
        let from = |name: &str| {
            std::env::var_os(name)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
        };
        let home = || from("HOME").map(|home| home.join(".cache"));
        let base = from("XDG_CACHE_HOME").or_else(home);
        Self::in_folder(&base.unwrap_or_else(std::env::temp_dir).join("cwm/kernels"))
    }

    pub(super) fn in_folder(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
        }
    }

    /// The code that was kept under this key, unless there is none or it is damaged.
    pub(super) fn get(&self, key: &str) -> Option<Vec<u8>> {
        let file = std::fs::read(self.folder.join(key)).ok()?;
        let (hash, code) = file.split_at_checked(HASH)?;
        (Sha256::digest(code).as_slice() == hash).then(|| code.to_vec())
    }

    /// Keeps code; a file appears whole or not at all.
    ///
    /// # Errors
    /// [`Error::Cache`].
    pub(super) fn put(&self, key: &str, code: &[u8]) -> Result<(), Error> {
        let write = || -> io::Result<()> {
            std::fs::create_dir_all(&self.folder)?;
            let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
            file.write_all(&Sha256::digest(code))?;
            file.write_all(code)?;
            file.persist(self.folder.join(key))?;
            Ok(())
        };
        write().map_err(|source| Error::Cache {
            path: self.folder.clone(),
            source,
        })
    }
}

/// The name under which a variant of a source is kept.
pub(super) fn key(
    source: &Source,
    macros: &[u32],
    architecture: Architecture,
    compiler: (u32, u32),
) -> String {
    let texts = [COMMON.to_owned(), source.text.to_owned()];
    let version = format!("nvrtc {}.{}", compiler.0, compiler.1);
    let parts = texts
        .into_iter()
        .chain(options(architecture))
        .chain(source.options(macros))
        .chain([version]);
    let mut hash = Sha256::new();
    for part in parts {
        // With its length, so that no two lists of parts are the same bytes.
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let stem = source.name.trim_end_matches(".cu");
    format!("{stem}-{architecture}-{:x}.cubin", hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOPPER: Architecture = Architecture { major: 9, minor: 0 };

    fn source(text: &'static str, macros: &'static [(&'static str, &'static [u32])]) -> Source {
        Source {
            name: "a.cu",
            text,
            kernels: &[],
            macros,
        }
    }

    #[test]
    fn every_input_changes_the_key() {
        const WIDTH: &[(&str, &[u32])] = &[("WIDTH", &[1, 2])];
        const WIDE: &[(&str, &[u32])] = &[("WIDE", &[1])];
        let ampere = Architecture { major: 8, minor: 0 };
        let plain = source("a", &[]);
        let keys = [
            key(&plain, &[], HOPPER, (13, 0)),
            key(&source("b", &[]), &[], HOPPER, (13, 0)),
            key(&plain, &[], ampere, (13, 0)),
            key(&plain, &[], HOPPER, (13, 1)),
            key(&plain, &[], HOPPER, (12, 0)),
            key(&source("a", WIDTH), &[1], HOPPER, (13, 0)),
            key(&source("a", WIDTH), &[2], HOPPER, (13, 0)),
            key(&source("a", WIDE), &[1], HOPPER, (13, 0)),
        ];
        let distinct: std::collections::BTreeSet<&String> = keys.iter().collect();
        assert_eq!(distinct.len(), keys.len());
        assert_eq!(keys[0], key(&plain, &[], HOPPER, (13, 0)));
        assert!(keys[0].starts_with("a-sm_90-") && keys[0].ends_with(".cubin"));
    }

    #[test]
    fn what_is_damaged_is_ignored_and_written_again() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::in_folder(&folder.path().join("new"));
        assert_eq!(cache.get("k"), None);
        cache.put("k", b"code").unwrap();
        assert_eq!(cache.get("k").unwrap(), b"code");
        let path = folder.path().join("new/k");
        let whole = std::fs::read(&path).unwrap();
        let mut flipped = whole.clone();
        *flipped.last_mut().unwrap() ^= 1;
        for damaged in [&whole[..whole.len() - 1], &whole[..10], &[], &flipped] {
            std::fs::write(&path, damaged).unwrap();
            assert_eq!(cache.get("k"), None);
            cache.put("k", b"code").unwrap();
            assert_eq!(cache.get("k").unwrap(), b"code");
        }
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let error = Cache::in_folder(&file.join("kernels"))
            .put("k", b"code")
            .unwrap_err();
        assert!(error.to_string().contains("file/kernels"), "{error}");
    }
}
