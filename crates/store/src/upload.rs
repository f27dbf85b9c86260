//! Folder to store.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use object_store::path::Path as Key;
use object_store::{ObjectStoreExt, PutMode, PutOptions, PutPayload, WriteMultipart};
use sha2::{Digest, Sha256};

use crate::Error;
use crate::folder::{self, LocalFile};
use crate::store::{Progress, Store};
use crate::version::{StoredFile, Version, check_name, content_of, hexadecimal};

/// Parts of a file that are on their way at the same time.
const CONCURRENT_PARTS: usize = 4;
/// S3 takes 10,000 parts of a file.
const MAX_PARTS: u64 = 9_000;

/// What [`Store::put_folder`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The version, which is there now.
    pub version: Version,
    /// Bytes that had to be sent: less than all when some were there already.
    pub sent: u64,
}

impl Store {
    /// Keeps all files of a folder as a version. Files that an interrupted call has left are not sent
    /// again; for a version that is there already, nothing is sent but files it lacks.
    ///
    /// # Errors
    /// When the name or the folder cannot be used, a file changes meanwhile, the store has other
    /// contents under this name, or fails for longer than [`Retry`](crate::Retry) says. There is no
    /// new version then.
    pub fn put_folder(
        &self,
        name: &str,
        folder: &Path,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Stored, Error> {
        check_name(name)?;
        let local = folder::read(folder)?;
        self.block_on(self.put(name, &local, progress))
    }

    async fn put(
        &self,
        name: &str,
        local: &[LocalFile],
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Stored, Error> {
        let files: Vec<StoredFile> = local.iter().map(|l| l.file.clone()).collect();
        let content = content_of(&files);
        let there = self.ready(name).await?;
        if there.as_ref().is_some_and(|v| v.content != content) {
            return Err(Error::Conflict(name.to_owned()));
        }
        let below = self.content_key(name, &content);
        let sent = self.send_missing(local, &below, progress).await?;
        let version = match there {
            Some(version) => version,
            None => {
                self.check_all_sent(name, &files, &below).await?;
                self.make_ready(name, &content, &files).await?
            }
        };
        Ok(Stored { version, sent })
    }

    /// Sends the files that are not there, and returns their bytes. An object that is there was
    /// written whole, and its key is the digest of its version: its size is enough to know it by.
    async fn send_missing(
        &self,
        local: &[LocalFile],
        below: &Key,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<u64, Error> {
        let there = self.objects(below).await?;
        let total = local.iter().map(|l| l.file.bytes).sum();
        let (mut done, mut sent) = (0, 0);
        progress(Progress { done, total });
        for local in local {
            let key = file_key(below, &local.file.path);
            if there
                .get(&key)
                .is_none_or(|meta| meta.size != local.file.bytes)
            {
                let mut so_far = |bytes| {
                    progress(Progress {
                        done: done + bytes,
                        total,
                    })
                };
                if local.file.bytes <= self.part {
                    self.send_at_once(local, &key).await?;
                } else {
                    self.send_in_parts(local, &key, &mut so_far).await?;
                }
                sent += local.file.bytes;
            }
            done += local.file.bytes;
            progress(Progress { done, total });
        }
        Ok(sent)
    }

    async fn send_at_once(&self, local: &LocalFile, key: &Key) -> Result<(), Error> {
        let bytes = fs::read(&local.at).map_err(Error::io("read", &local.at))?;
        if hexadecimal(&Sha256::digest(&bytes)) != local.file.sha256 {
            return Err(Error::Changed(local.at.clone()));
        }
        let payload = PutPayload::from(bytes);
        self.attempt("write", key, async || {
            self.client.put(key, payload.clone()).await.map(|_| ())
        })
        .await
    }

    async fn send_in_parts(
        &self,
        local: &LocalFile,
        key: &Key,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), Error> {
        self.again(async || {
            let upload = self.client.put_multipart(key).await;
            let upload = upload.map_err(|e| self.failed("write", key, e))?;
            let part = part_size(local.file.bytes, self.part);
            let mut upload = WriteMultipart::new_with_chunk_size(upload, part);
            match self
                .write_parts(local, key, &mut upload, part, progress)
                .await
            {
                Ok(()) => {
                    let finished = upload.finish().await;
                    finished
                        .map(|_| ())
                        .map_err(|e| self.failed("write", key, e))
                }
                Err(error) => {
                    // What is left of it costs money where storage does, but the first error counts.
                    let _ = upload.abort().await;
                    Err(error)
                }
            }
        })
        .await
    }

    async fn write_parts(
        &self,
        local: &LocalFile,
        key: &Key,
        upload: &mut WriteMultipart,
        part: usize,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), Error> {
        let read = || Error::io("read", &local.at);
        let mut file = File::open(&local.at).map_err(read())?;
        let mut hasher = Sha256::new();
        let mut done = 0;
        loop {
            let mut bytes = Vec::with_capacity(part);
            let mut next = (&mut file).take(part as u64);
            if next.read_to_end(&mut bytes).map_err(read())? == 0 {
                break;
            }
            progress(done);
            hasher.update(&bytes);
            done += bytes.len() as u64;
            let free = upload.wait_for_capacity(CONCURRENT_PARTS).await;
            free.map_err(|e| self.failed("write", key, e))?;
            upload.put(bytes.into());
        }
        // Before it is finished, so that a wrong file never stands under the digest of the right one.
        if hexadecimal(&hasher.finalize()) != local.file.sha256 {
            return Err(Error::Changed(local.at.clone()));
        }
        Ok(())
    }

    /// Makes sure that nobody has removed what was sent or found.
    async fn check_all_sent(
        &self,
        name: &str,
        files: &[StoredFile],
        below: &Key,
    ) -> Result<(), Error> {
        let there = self.objects(below).await?;
        let is_there = |file: &StoredFile| {
            let found = there.get(&file_key(below, &file.path));
            found.is_some_and(|meta| meta.size == file.bytes)
        };
        if files.iter().all(is_there) {
            Ok(())
        } else {
            Err(Error::Removed(name.to_owned()))
        }
    }

    /// Writes `READY` if there is none. A try that failed may have written it all the same, so
    /// whether it is there is decided by what is there.
    async fn make_ready(
        &self,
        name: &str,
        content: &str,
        files: &[StoredFile],
    ) -> Result<Version, Error> {
        let key = self.ready_key(name);
        let payload = PutPayload::from(Version::to_ready(content, files));
        let written = self
            .attempt("write", &key, async || {
                let options = PutOptions::from(PutMode::Create);
                self.client.put_opts(&key, payload.clone(), options).await
            })
            .await;
        match written {
            Err(error) if !error.is_taken() => return Err(error),
            _ => {}
        }
        match self.ready(name).await? {
            Some(version) if version.content == content => Ok(version),
            Some(_) => Err(Error::Conflict(name.to_owned())),
            None => Err(Error::Removed(name.to_owned())),
        }
    }
}

/// The key of a file, whose path has `/` between its parts.
pub(crate) fn file_key(below: &Key, path: &str) -> Key {
    path.split('/')
        .fold(below.clone(), |key, part| key.join(part))
}

/// Bytes of a part of a large file: `least`, or what keeps the number of parts within bounds.
fn part_size(bytes: u64, least: u64) -> usize {
    let size = least.max(bytes.div_ceil(MAX_PARTS));
    usize::try_from(size).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_grow_with_the_file() {
        let mib = 1 << 20;
        assert_eq!(part_size(100 * mib, 8 * mib), 8 << 20);
        for gib in [1, 60, 500, 4000] {
            let bytes = (gib << 30) + 1;
            let part = part_size(bytes, 8 * mib) as u64;
            assert!(part >= 8 * mib && bytes.div_ceil(part) <= 10_000, "{gib}");
        }
    }
}
