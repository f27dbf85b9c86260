//! A store whose operations fail when a test says so.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// What is to fail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Plan {
    /// Nothing.
    #[default]
    Healthy,
    /// All operations from this one on, counted from 0: the process was killed, or the network is gone.
    From(u64),
    /// These operations, without being done.
    Before(u64, u64),
    /// These operations, after they were done: the answer was lost.
    After(u64, u64),
}

/// Decides for each operation whether it fails.
#[derive(Debug, Default)]
pub(super) struct Faults {
    plan: Mutex<Plan>,
    operations: AtomicU64,
}

impl Faults {
    /// Sets what fails from here on, and counts from 0 again.
    pub(super) fn set(&self, plan: Plan) {
        *self
            .plan
            .lock()
            .expect("no test panics while it holds this") = plan;
        self.operations.store(0, Ordering::SeqCst);
    }

    /// Operations since the plan was set.
    pub(super) fn count(&self) -> u64 {
        self.operations.load(Ordering::SeqCst)
    }

    /// Whether the next operation fails before or after it is done.
    fn next(&self) -> (bool, bool) {
        let number = self.operations.fetch_add(1, Ordering::SeqCst);
        match *self
            .plan
            .lock()
            .expect("no test panics while it holds this")
        {
            Plan::Healthy => (false, false),
            Plan::From(first) => (number >= first, false),
            Plan::Before(from, to) => ((from..to).contains(&number), false),
            Plan::After(from, to) => (false, (from..to).contains(&number)),
        }
    }

    async fn around<T>(&self, operation: impl Future<Output = Result<T>>) -> Result<T> {
        let (before, after) = self.next();
        if before {
            return Err(lost());
        }
        let done = operation.await;
        if after { Err(lost()) } else { done }
    }
}

fn lost() -> Error {
    Error::Generic {
        store: "unreliable",
        source: "the connection is lost".into(),
    }
}

#[derive(Debug)]
pub(super) struct Unreliable<T> {
    inner: T,
    faults: Arc<Faults>,
}

impl<T> Unreliable<T> {
    pub(super) fn new(inner: T, faults: Arc<Faults>) -> Self {
        Self { inner, faults }
    }
}

impl<T> fmt::Display for Unreliable<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("unreliable")
    }
}

#[async_trait]
impl<T: ObjectStore> ObjectStore for Unreliable<T> {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        self.faults
            .around(self.inner.put_opts(location, payload, options))
            .await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let upload = self.inner.put_multipart_opts(location, options);
        let inner = self.faults.around(upload).await?;
        let faults = self.faults.clone();
        Ok(Box::new(UnreliableUpload { inner, faults }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.faults
            .around(self.inner.get_opts(location, options))
            .await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        if self.faults.next().0 {
            return futures_util::stream::once(async { Err(lost()) }).boxed();
        }
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.faults
            .around(self.inner.list_with_delimiter(prefix))
            .await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.faults
            .around(self.inner.copy_opts(from, to, options))
            .await
    }
}

#[derive(Debug)]
struct UnreliableUpload {
    inner: Box<dyn MultipartUpload>,
    faults: Arc<Faults>,
}

#[async_trait]
impl MultipartUpload for UnreliableUpload {
    fn put_part(&mut self, data: PutPayload) -> object_store::UploadPart {
        let part = self.inner.put_part(data);
        let faults = self.faults.clone();
        Box::pin(async move { faults.around(part).await })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let faults = self.faults.clone();
        faults.around(self.inner.complete()).await
    }

    async fn abort(&mut self) -> Result<()> {
        let faults = self.faults.clone();
        faults.around(self.inner.abort()).await
    }
}
