//! The store itself: opening, listing, and how an operation is tried again.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path as Key;
use object_store::{ListResult, ObjectMeta, ObjectStore, ObjectStoreExt};
use tokio::runtime::{Builder, Runtime};

use crate::Error;
use crate::place::Place;
use crate::version::{READY, Version, check_name, is_content, is_name, natural_order};

/// Bytes that are sent or asked for at once.
const PART: u64 = 8 << 20;

/// How far a transfer is, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes that need no more work. Falls when a file has to be sent again.
    pub done: u64,
    /// Bytes of the whole version.
    pub total: u64,
}

/// How often an operation that failed for a passing reason is tried, on top of what the client of a
/// service does for single requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Tries in all, at least 1.
    pub attempts: u32,
    /// Wait before the second try; each further wait is twice as long.
    pub first_wait: Duration,
    /// No try begins later than this after the first.
    pub limit: Duration,
}

impl Default for Retry {
    /// Three tries, after 1 and 2 seconds, within 10 minutes.
    fn default() -> Self {
        Self {
            attempts: 3,
            first_wait: Duration::from_secs(1),
            limit: Duration::from_secs(600),
        }
    }
}

/// What is in a store.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// The versions, by name; numbers in names count by their value.
    pub versions: Vec<Version>,
    /// Names whose `READY` cannot be used, with the reason.
    pub damaged: Vec<(String, String)>,
    /// Names under which there are objects, but no `READY`.
    pub unfinished: Vec<String>,
}

/// A place that keeps folders. See the [crate] for what it promises.
pub struct Store {
    pub(crate) client: Arc<dyn ObjectStore>,
    pub(crate) root: Key,
    pub(crate) part: u64,
    shown: String,
    folder: Option<PathBuf>,
    hint: &'static str,
    retry: Retry,
    runtime: Runtime,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("client", &self.client)
            .field("root", &self.root)
            .field("retry", &self.retry)
            .finish_non_exhaustive()
    }
}

/// What to do about a local folder that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Missing {
    Refuse,
    Create,
}

impl Store {
    /// The store at a URL: a path, `file:///path`, or `s3://BUCKET/PREFIX` with what the customary
    /// variables `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`, `AWS_ENDPOINT_URL` and
    /// so on say (`AWS_ALLOW_HTTP=true` for a server without TLS). Nothing is asked of a service yet.
    ///
    /// # Errors
    /// When the URL is none of these, this build lacks S3, or a local folder does not exist.
    pub fn open(url: &str) -> Result<Self, Error> {
        Self::at(url, Missing::Refuse)
    }

    /// As [`open`](Store::open), but makes a local folder that does not exist.
    ///
    /// # Errors
    /// As [`open`](Store::open), and when the folder cannot be made.
    pub fn create(url: &str) -> Result<Self, Error> {
        Self::at(url, Missing::Create)
    }

    fn at(url: &str, missing: Missing) -> Result<Self, Error> {
        match Place::parse(url)? {
            Place::Folder(folder) => Self::local(url, folder, missing),
            Place::S3 { bucket, prefix } => Self::s3(url, &bucket, &prefix),
        }
    }

    /// A store that is gone with this value: for tests.
    ///
    /// # Errors
    /// When the system refuses the means to run it.
    pub fn in_memory() -> Result<Self, Error> {
        Self::over(Arc::new(InMemory::new()), "memory")
    }

    pub(crate) fn over(client: Arc<dyn ObjectStore>, shown: &str) -> Result<Self, Error> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(Error::io("start the input and output of", Path::new(shown)))?;
        Ok(Self {
            client,
            root: Key::default(),
            part: PART,
            shown: shown.to_owned(),
            folder: None,
            hint: "",
            retry: Retry::default(),
            runtime,
        })
    }

    fn local(url: &str, folder: PathBuf, missing: Missing) -> Result<Self, Error> {
        match missing {
            Missing::Create => fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?,
            Missing::Refuse if !folder.is_dir() => return Err(Error::NoFolder(folder)),
            Missing::Refuse => {}
        }
        let folder = fs::canonicalize(&folder).map_err(Error::io("find", &folder))?;
        let client = LocalFileSystem::new_with_prefix(&folder)
            .map_err(|source| Error::Store {
                action: "open",
                key: url.to_owned(),
                source: Box::new(source),
                hint: "",
            })?
            .with_automatic_cleanup(true)
            .with_fsync(true);
        let mut store = Self::over(Arc::new(client), url)?;
        store.folder = Some(folder);
        Ok(store)
    }

    #[cfg(feature = "s3")]
    fn s3(url: &str, bucket: &str, prefix: &str) -> Result<Self, Error> {
        let mut store = Self::over(crate::s3::client(url, bucket)?, url)?;
        store.root = Key::from(prefix);
        store.hint = crate::s3::hint();
        Ok(store)
    }

    #[cfg(not(feature = "s3"))]
    fn s3(url: &str, _bucket: &str, _prefix: &str) -> Result<Self, Error> {
        Err(Error::NoS3 {
            url: url.to_owned(),
        })
    }

    /// The same store with another rule for trying again.
    #[must_use]
    pub fn with_retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// The URL it was opened with.
    pub fn url(&self) -> &str {
        &self.shown
    }

    /// Its folder, if it is a local one: absolute, without links.
    pub fn local_folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// The versions, by name; numbers in names count by their value. What is damaged or unfinished is
    /// no version: [`listing`](Store::listing) tells of it.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn versions(&self) -> Result<Vec<Version>, Error> {
        Ok(self.listing()?.versions)
    }

    /// The last of [`versions`](Store::versions).
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn newest(&self) -> Result<Option<Version>, Error> {
        Ok(self.versions()?.pop())
    }

    /// The version of a name.
    ///
    /// # Errors
    /// When there is none, its `READY` is damaged, or the store cannot be read.
    pub fn version(&self, name: &str) -> Result<Version, Error> {
        check_name(name)?;
        self.block_on(self.ready(name))?
            .ok_or_else(|| Error::Unknown(name.to_owned()))
    }

    /// All that is in the store and has the form of a version, or the beginning of one.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn listing(&self) -> Result<Listing, Error> {
        self.block_on(self.list_all())
    }

    pub(crate) async fn list_all(&self) -> Result<Listing, Error> {
        let mut listing = Listing::default();
        for name in self.names().await? {
            match self.ready(&name).await {
                Ok(Some(version)) => listing.versions.push(version),
                Ok(None) => {
                    if !self.contents(&name).await?.is_empty() {
                        listing.unfinished.push(name);
                    }
                }
                Err(Error::Damaged { reason, .. }) => listing.damaged.push((name, reason)),
                Err(error) => return Err(error),
            }
        }
        Ok(listing)
    }

    /// First parts of keys that can be names of versions, in order.
    async fn names(&self) -> Result<Vec<String>, Error> {
        let below = self.list_one(&self.root).await?.common_prefixes;
        let mut names: Vec<String> = below
            .iter()
            .filter_map(|key| key.filename())
            .filter(|name| is_name(name))
            .map(str::to_owned)
            .collect();
        names.sort_by(|a, b| natural_order(a, b));
        Ok(names)
    }

    /// The version of a name; `None` where it has no `READY`.
    pub(crate) async fn ready(&self, name: &str) -> Result<Option<Version>, Error> {
        let key = self.ready_key(name);
        let read = self
            .attempt("read", &key, async || {
                let found = self.client.get(&key).await?;
                let ready_at = found.meta.last_modified.into();
                Ok((found.bytes().await?, ready_at))
            })
            .await;
        let (text, ready_at) = match read {
            Err(error) if error.is_missing() => return Ok(None),
            read => read?,
        };
        match Version::from_ready(name, &text, ready_at) {
            Ok(version) => Ok(Some(version)),
            Err(reason) => {
                let key = key.to_string();
                Err(Error::Damaged { key, reason })
            }
        }
    }

    /// What all keys of a version begin with.
    pub(crate) fn name_key(&self, name: &str) -> Key {
        self.root.clone().join(name)
    }

    pub(crate) fn ready_key(&self, name: &str) -> Key {
        self.name_key(name).join(READY)
    }

    /// Where the files of some contents are.
    pub(crate) fn content_key(&self, name: &str, content: &str) -> Key {
        self.name_key(name).join(content)
    }

    /// Digests of contents under a name, finished or not.
    pub(crate) async fn contents(&self, name: &str) -> Result<Vec<String>, Error> {
        Ok(contents_in(&self.list_one(&self.name_key(name)).await?))
    }

    /// All objects below a key, at any depth.
    pub(crate) async fn objects(&self, below: &Key) -> Result<BTreeMap<Key, ObjectMeta>, Error> {
        let mut found = BTreeMap::new();
        let mut waiting = vec![below.clone()];
        while let Some(key) = waiting.pop() {
            let listed = self.list_one(&key).await?;
            waiting.extend(listed.common_prefixes);
            let objects = listed.objects.into_iter();
            found.extend(objects.map(|meta| (meta.location.clone(), meta)));
        }
        Ok(found)
    }

    pub(crate) async fn list_one(&self, below: &Key) -> Result<ListResult, Error> {
        let prefix = (!below.is_root()).then_some(below);
        self.attempt("list", below, async || {
            self.client.list_with_delimiter(prefix).await
        })
        .await
    }

    /// Runs an operation until it succeeds, fails for good, or has been tried enough.
    pub(crate) async fn attempt<T>(
        &self,
        action: &'static str,
        key: &Key,
        operation: impl AsyncFnMut() -> object_store::Result<T>,
    ) -> Result<T, Error> {
        let mut operation = operation;
        self.again(async || operation().await.map_err(|e| self.failed(action, key, e)))
            .await
    }

    /// As [`attempt`](Store::attempt), for operations that can also fail here.
    pub(crate) async fn again<T>(
        &self,
        mut operation: impl AsyncFnMut() -> Result<T, Error>,
    ) -> Result<T, Error> {
        let began = Instant::now();
        let mut wait = self.retry.first_wait;
        let mut attempt = 1;
        loop {
            match operation().await {
                Err(error)
                    if error.is_passing()
                        && attempt < self.retry.attempts
                        && began.elapsed() + wait < self.retry.limit =>
                {
                    tokio::time::sleep(wait).await;
                }
                done => return done,
            }
            wait *= 2;
            attempt += 1;
        }
    }

    pub(crate) fn failed(
        &self,
        action: &'static str,
        key: &Key,
        source: object_store::Error,
    ) -> Error {
        Error::Store {
            action,
            key: key.to_string(),
            source: Box::new(source),
            hint: self.hint,
        }
    }

    pub(crate) fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }
}

/// Digests of contents among what is directly below a name.
pub(crate) fn contents_in(below: &ListResult) -> Vec<String> {
    let parts = below
        .common_prefixes
        .iter()
        .filter_map(|key| key.filename());
    parts
        .filter(|part| is_content(part))
        .map(str::to_owned)
        .collect()
}
