//! Store to folder.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use object_store::ObjectStoreExt;
use object_store::path::Path as Key;
use sha2::{Digest, Sha256};

use crate::Error;
use crate::store::{Progress, Store};
use crate::upload::file_key;
use crate::version::{StoredFile, Version, hexadecimal};

impl Store {
    /// Brings a version back as the folder `target`, which must not exist. Sizes and SHA-256 are those
    /// of the version. Until it is whole it has another name, beside its own; one fetch at a time is
    /// made to a target.
    ///
    /// # Errors
    /// When `target` is there or cannot be written, an object is missing or damaged, or the store
    /// fails for longer than [`Retry`](crate::Retry) says. Nothing is left then.
    pub fn fetch(
        &self,
        version: &Version,
        target: &Path,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), Error> {
        if target.symlink_metadata().is_ok() {
            return Err(Error::Occupied(target.to_path_buf()));
        }
        let parent = match target.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        let unfinished = Unfinished::create(parent, target)?;
        self.block_on(self.fetch_files(version, &unfinished.0, progress))?;
        fs::rename(&unfinished.0, target).map_err(Error::io("rename", &unfinished.0))?;
        sync(parent)
    }

    async fn fetch_files(
        &self,
        version: &Version,
        folder: &Path,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), Error> {
        let below = self.content_key(&version.name, &version.content);
        self.check_sizes(version, &below).await?;
        let total = version.bytes();
        let mut done = 0;
        progress(Progress { done, total });
        for file in &version.files {
            let mut so_far = |bytes| {
                progress(Progress {
                    done: done + bytes,
                    total,
                })
            };
            let to = folder.join(&file.path);
            self.fetch_file(file, &file_key(&below, &file.path), &to, &mut so_far)
                .await?;
            done += file.bytes;
        }
        sync(folder)
    }

    /// Finds what is missing before anything large is fetched.
    async fn check_sizes(&self, version: &Version, below: &Key) -> Result<(), Error> {
        let there = self.objects(below).await?;
        for file in &version.files {
            let key = file_key(below, &file.path);
            let reason = match there.get(&key) {
                None => "it is not there".to_owned(),
                Some(meta) if meta.size != file.bytes => {
                    format!("it has {} bytes of {}", meta.size, file.bytes)
                }
                Some(_) => continue,
            };
            let key = key.to_string();
            return Err(Error::Damaged { key, reason });
        }
        Ok(())
    }

    async fn fetch_file(
        &self,
        file: &StoredFile,
        key: &Key,
        to: &Path,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), Error> {
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        }
        let mut out = File::create(to).map_err(Error::io("create", to))?;
        let mut hasher = Sha256::new();
        let mut done = 0;
        while done < file.bytes {
            let range = done..file.bytes.min(done + self.part);
            let bytes = self
                .attempt("read", key, async || {
                    self.client.get_range(key, range.clone()).await
                })
                .await?;
            hasher.update(&bytes);
            out.write_all(&bytes).map_err(Error::io("write", to))?;
            done = range.end;
            progress(done);
        }
        if hexadecimal(&hasher.finalize()) != file.sha256 {
            let reason = "its SHA-256 is not the one recorded".to_owned();
            let key = key.to_string();
            return Err(Error::Damaged { key, reason });
        }
        out.sync_all().map_err(Error::io("flush", to))
    }
}

/// A folder that is removed unless it is given its own name in time.
struct Unfinished(PathBuf);

impl Unfinished {
    /// A new folder beside `target`; what a killed fetch has left there goes.
    fn create(parent: &Path, target: &Path) -> Result<Self, Error> {
        let mut name = OsString::from(".");
        name.push(target.file_name().unwrap_or_default());
        name.push(".fetching");
        let path = parent.join(name);
        if path.exists() {
            fs::remove_dir_all(&path).map_err(Error::io("remove", &path))?;
        }
        fs::create_dir_all(&path).map_err(Error::io("create", &path))?;
        Ok(Self(path))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // After the rename it is not there; before, an error is already on its way.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Waits until a folder is on the disk, where the system can open folders.
fn sync(folder: &Path) -> Result<(), Error> {
    if !cfg!(unix) {
        return Ok(());
    }
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(Error::io("flush", folder))
}
