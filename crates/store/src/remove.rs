//! Making room: versions that are no longer wanted, and what interrupted calls have left.
//!
//! Promises: a version loses its `READY` before its files, so that a kill in between leaves no damaged
//! version; nothing is removed but `READY` objects and what lies below a digest of contents.

use std::num::NonZeroUsize;

use object_store::ObjectStoreExt;
use object_store::path::Path as Key;

use crate::Error;
use crate::store::{Store, contents_in};
use crate::version::{Version, check_name, natural_order};

/// What [`Store::prune`] or [`Store::sweep`] has removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Versions.
    pub versions: Vec<String>,
    /// Names under which files of unfinished or refused uploads were.
    pub leftovers: Vec<String>,
}

impl Store {
    /// Removes a version or what is left of one; damaged ones too. Nobody may be fetching it or
    /// storing another one under its name.
    ///
    /// # Errors
    /// When there is nothing under this name, or the store fails. Another call goes on then.
    pub fn remove(&self, name: &str) -> Result<(), Error> {
        check_name(name)?;
        self.block_on(self.remove_all(name))
    }

    /// Removes all versions but the last `keep`, then [`sweep`](Store::sweep)s. For the one who
    /// writes to this store.
    ///
    /// # Errors
    /// When the store fails.
    pub fn prune(&self, keep: NonZeroUsize) -> Result<Swept, Error> {
        self.block_on(async {
            let mut versions = self.list_all().await?.versions;
            versions.truncate(versions.len().saturating_sub(keep.get()));
            let mut swept = Swept::default();
            for version in versions {
                self.remove_all(&version.name).await?;
                swept.versions.push(version.name);
            }
            swept.leftovers = self.sweep_leftovers().await?;
            Ok(swept)
        })
    }

    /// Removes files of uploads that were not finished and whose name and time are before those of
    /// the newest version, and files of contents that lost against a version of the same name. For
    /// the one who writes to this store.
    ///
    /// # Errors
    /// When the store fails.
    pub fn sweep(&self) -> Result<Swept, Error> {
        let leftovers = self.block_on(self.sweep_leftovers())?;
        Ok(Swept {
            leftovers,
            ..Swept::default()
        })
    }

    async fn remove_all(&self, name: &str) -> Result<(), Error> {
        let ready = self.ready_key(name);
        let below = self.list_one(&self.name_key(name)).await?;
        let has_ready = below.objects.iter().any(|meta| meta.location == ready);
        let contents = contents_in(&below);
        if !has_ready && contents.is_empty() {
            return Err(Error::Unknown(name.to_owned()));
        }
        if has_ready {
            self.delete(&ready).await?;
        }
        for content in contents {
            self.remove_content(name, &content).await?;
        }
        Ok(())
    }

    async fn sweep_leftovers(&self) -> Result<Vec<String>, Error> {
        let listing = self.list_all().await?;
        let mut swept = Vec::new();
        if let Some(newest) = listing.versions.last() {
            for name in listing.unfinished {
                if self.is_before(&name, newest).await? {
                    self.remove_all(&name).await?;
                    swept.push(name);
                }
            }
        }
        for version in listing.versions {
            let mut contents = self.contents(&version.name).await?;
            contents.retain(|content| *content != version.content);
            for content in &contents {
                self.remove_content(&version.name, content).await?;
            }
            if !contents.is_empty() {
                swept.push(version.name);
            }
        }
        Ok(swept)
    }

    /// Whether an unfinished upload can only be one that was given up: who stores versions in order
    /// has gone past it.
    async fn is_before(&self, name: &str, newest: &Version) -> Result<bool, Error> {
        if natural_order(name, &newest.name).is_gt() {
            return Ok(false);
        }
        for content in self.contents(name).await? {
            let objects = self.objects(&self.content_key(name, &content)).await?;
            if objects
                .values()
                .any(|o| newest.ready_at < o.last_modified.into())
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn remove_content(&self, name: &str, content: &str) -> Result<(), Error> {
        let objects = self.objects(&self.content_key(name, content)).await?;
        for key in objects.keys() {
            self.delete(key).await?;
        }
        Ok(())
    }

    async fn delete(&self, key: &Key) -> Result<(), Error> {
        let deleted = self
            .attempt("remove", key, async || self.client.delete(key).await)
            .await;
        match deleted {
            // A try whose answer was lost may have done it, or somebody else.
            Err(error) if error.is_missing() => Ok(()),
            deleted => deleted,
        }
    }
}
