//! Where the store's files lie: a directory or an object store, behind one blocking interface.
//!
//! The asynchronous world ends here. A [`Backend`] holds a private runtime; its calls block and
//! may be made from any thread that is not itself a worker of some runtime.

mod address;
mod local;

use std::{fmt, future::Future, ops::Range, sync::Arc};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use object_store::{
    GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, path::Path,
};
use tokio::runtime::Runtime;

pub(crate) use address::{Location, parse_address};
pub(crate) use local::LocalObjects;

/// The folders of a store.
pub(crate) mod folder {
    pub(crate) const PACKS: &str = "packs";
    pub(crate) const MANIFESTS: &str = "manifests";
    pub(crate) const REMOVED: &str = "removed";
    pub(crate) const LEASES: &str = "leases";
    pub(crate) const CONDEMNED: &str = "condemned";
    pub(crate) const MOVED: &str = "moved";
    /// All of them.
    pub(crate) const ALL: [&str; 6] = [PACKS, MANIFESTS, REMOVED, LEASES, CONDEMNED, MOVED];
}

/// Threads that drive requests; the bytes are hashed and compressed elsewhere.
const RUNTIME_THREADS: usize = 2;
/// Requests of one kind under way at a time.
pub(crate) const REQUESTS_AT_ONCE: usize = 16;

/// A request to the directory or object store that failed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{action} {path} in the store failed")]
pub struct StorageError {
    /// What was done: `reading`, `writing`, …
    pub action: &'static str,
    /// To which object.
    pub path: String,
    /// Why it failed.
    #[source]
    pub source: Arc<object_store::Error>,
}

impl StorageError {
    fn new(action: &'static str, path: &str, source: object_store::Error) -> Self {
        let (path, source) = (path.to_owned(), Arc::new(source));
        Self {
            action,
            path,
            source,
        }
    }

    /// Tells whether the object is simply not there.
    pub fn is_not_found(&self) -> bool {
        matches!(*self.source, object_store::Error::NotFound { .. })
    }

    /// Tells whether an object that must not exist does.
    pub fn already_exists(&self) -> bool {
        matches!(
            *self.source,
            object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }
        )
    }
}

/// An object in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    /// The last part of its path.
    pub(crate) name: String,
    /// Its length in bytes.
    pub(crate) bytes: u64,
    /// When it was written, nanoseconds since 1970, by the clock of whoever keeps it.
    pub(crate) modified_ns: u64,
}

/// A store's objects.
pub(crate) struct Backend {
    pub(crate) objects: Arc<dyn ObjectStore>,
    runtime: Option<Runtime>,
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Backend({})", self.objects)
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Backend {
    pub(crate) fn new(objects: Arc<dyn ObjectStore>) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(RUNTIME_THREADS)
            .max_blocking_threads(REQUESTS_AT_ONCE)
            .thread_name("onionskin-store")
            .enable_all()
            .build()?;
        Ok(Self {
            objects,
            runtime: Some(runtime),
        })
    }

    fn runtime(&self) -> &Runtime {
        self.runtime
            .as_ref()
            .expect("the runtime lives as long as the backend")
    }

    /// Runs a future to its end on this thread.
    pub(crate) fn wait<F: Future>(&self, future: F) -> F::Output {
        self.runtime().block_on(future)
    }

    /// Runs a future beside the caller.
    pub(crate) fn spawn<F: Future<Output = ()> + Send + 'static>(&self, future: F) {
        self.runtime().spawn(future);
    }

    /// Reads an object of at most `bytes_max` bytes.
    pub(crate) fn get(&self, path: &str, bytes_max: u64) -> Result<Bytes, StorageError> {
        let read = async {
            let result = self.objects.get(&Path::from(path)).await?;
            if result.meta.size > bytes_max {
                return Err(too_long(result.meta.size, bytes_max));
            }
            result.bytes().await
        };
        self.wait(read)
            .map_err(|error| StorageError::new("reading", path, error))
    }

    /// Reads a part of an object; the length of the whole comes with it.
    pub(crate) fn get_part(
        &self,
        path: &str,
        part: GetRange,
    ) -> Result<(Bytes, u64), StorageError> {
        self.wait(self.get_part_async(path, part))
    }

    /// As [`get_part`](Self::get_part), to be awaited.
    pub(crate) async fn get_part_async(
        &self,
        path: &str,
        part: GetRange,
    ) -> Result<(Bytes, u64), StorageError> {
        let options = GetOptions::new().with_range(Some(part));
        let read = async {
            let result = self.objects.get_opts(&Path::from(path), options).await?;
            let len = result.meta.size;
            Ok((result.bytes().await?, len))
        };
        read.await
            .map_err(|error| StorageError::new("reading", path, error))
    }

    /// Reads several parts of an object.
    pub(crate) fn get_ranges(
        &self,
        path: &str,
        ranges: &[Range<u64>],
    ) -> Result<Vec<Bytes>, StorageError> {
        self.wait(self.objects.get_ranges(&Path::from(path), ranges))
            .map_err(|error| StorageError::new("reading", path, error))
    }

    /// Writes an object that may exist already.
    pub(crate) fn put(&self, path: &str, bytes: Vec<u8>) -> Result<(), StorageError> {
        self.put_mode(path, bytes.into(), PutMode::Overwrite)
    }

    /// Writes an object that must not exist.
    pub(crate) fn create(&self, path: &str, bytes: Bytes) -> Result<(), StorageError> {
        self.put_mode(path, bytes.into(), PutMode::Create)
    }

    fn put_mode(&self, path: &str, bytes: PutPayload, mode: PutMode) -> Result<(), StorageError> {
        self.wait(put(&*self.objects, path, bytes, mode))
    }

    /// Tells whether an object exists.
    pub(crate) fn exists(&self, path: &str) -> Result<bool, StorageError> {
        Ok(self.size(path)?.is_some())
    }

    /// Returns an object's length in bytes, if it exists.
    pub(crate) fn size(&self, path: &str) -> Result<Option<u64>, StorageError> {
        match self.wait(self.objects.head(&Path::from(path))) {
            Ok(meta) => Ok(Some(meta.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(StorageError::new("looking for", path, error)),
        }
    }

    /// Deletes objects; those that are gone already count as deleted.
    pub(crate) fn delete(&self, paths: Vec<String>) -> Result<(), StorageError> {
        let paths = futures_util::stream::iter(paths);
        let deletions = paths.map(|path| async move {
            match self.objects.delete(&Path::from(path.as_str())).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
                Err(error) => Err(StorageError::new("deleting", &path, error)),
            }
        });
        self.wait(deletions.buffer_unordered(REQUESTS_AT_ONCE).try_collect())
    }

    /// Lists a folder, in no order.
    pub(crate) fn list(&self, folder: &str) -> Result<Vec<Listed>, StorageError> {
        let listing = self.objects.list(Some(&Path::from(folder)));
        let listed = listing.map_ok(|meta| Listed {
            name: meta.location.filename().unwrap_or_default().to_owned(),
            bytes: meta.size,
            modified_ns: meta
                .last_modified
                .timestamp_nanos_opt()
                .and_then(|ns| u64::try_from(ns).ok())
                .unwrap_or(0),
        });
        self.wait(listed.try_collect())
            .map_err(|error| StorageError::new("listing", folder, error))
    }

    /// Lists the objects of a folder whose whole name is an id; others are not ours.
    pub(crate) fn list_ids<T: std::str::FromStr>(
        &self,
        folder: &str,
    ) -> Result<Vec<(T, Listed)>, StorageError> {
        let listed = self.list(folder)?.into_iter();
        Ok(listed
            .filter_map(|object| Some((object.name.parse().ok()?, object)))
            .collect())
    }
}

/// Writes one object.
pub(crate) async fn put(
    objects: &dyn ObjectStore,
    path: &str,
    bytes: PutPayload,
    mode: PutMode,
) -> Result<(), StorageError> {
    let options = PutOptions::from(mode);
    let written = objects.put_opts(&Path::from(path), bytes, options).await;
    written
        .map(drop)
        .map_err(|error| StorageError::new("writing", path, error))
}

/// The path of an object named by an id.
pub(crate) fn path(folder: &str, name: impl fmt::Display) -> String {
    format!("{folder}/{name}")
}

fn too_long(found: u64, limit: u64) -> object_store::Error {
    object_store::Error::Generic {
        store: "snapshot store",
        source: format!("the object has {found} bytes, allowed are {limit}").into(),
    }
}
