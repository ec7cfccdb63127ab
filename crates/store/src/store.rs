//! A store that is open: what all its parts share.

use std::{
    collections::HashMap,
    fmt, fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use object_store::ObjectStore;

use crate::{
    backend::{Backend, LocalObjects, Location, folder, parse_address},
    error::OpenError,
    fetch::Moved,
    id::SnapshotId,
    known::Known,
    meta::Summary,
    page_map::PageMap,
};

/// The object that marks a store.
const MARKER: &str = "format";
const MARKER_TEXT: &str = "onionskin snapshot store, version 1\n";
/// The longest marker that is read (bytes, not a page size).
const MARKER_BYTES_MAX: u64 = 4096;

/// Whether a store may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It is made where there is none.
    Create,
    /// It must exist.
    Existing,
}

/// A store of snapshots, in a directory or an object store.
///
/// Clones share one store. All calls block; they may be made from several threads at once, but
/// not from a thread that runs asynchronous tasks.
#[derive(Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) backend: Backend,
    /// The directory, where the store is in one.
    pub(crate) directory: Option<PathBuf>,
    /// Summaries read so far; manifests never change.
    pub(crate) summaries: Mutex<HashMap<SnapshotId, Summary>>,
    /// What packs hold, as far as read.
    pub(crate) known: Mutex<Arc<Known>>,
    /// Packs whose chunks were packed anew, as far as read.
    pub(crate) moved: Mutex<Moved>,
    /// The snapshot that was written last, to be layered on.
    pub(crate) last: Mutex<Option<Last>>,
}

/// What the next layer needs to know of a snapshot.
#[derive(Clone)]
pub(crate) struct Last {
    pub(crate) id: SnapshotId,
    pub(crate) map: Arc<PageMap>,
    pub(crate) depth: u32,
    /// Extents in its manifest and all that it needs below.
    pub(crate) extents: u64,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Store({:?})", self.inner.backend)
    }
}

impl Store {
    /// Opens the store at a directory, `file:///directory` or `s3://bucket/prefix`.
    ///
    /// A directory is made with mode 0700, the files in it with 0600. An object store is reached
    /// as the environment says: `AWS_ENDPOINT_URL`, `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`,
    /// `AWS_REGION`, `AWS_ALLOW_HTTP` and so on.
    ///
    /// # Errors
    ///
    /// [`OpenError::Missing`] where there is no store and none may be made,
    /// [`OpenError::Occupied`] where a directory holds other files, and those of access.
    pub fn open(address: &str, access: Access) -> Result<Self, OpenError> {
        match parse_address(address)? {
            Location::Objects(objects) => Self::open_at(objects, None, access, address),
            Location::Directory(path) => {
                prepare_directory(&path, access)?;
                let objects = LocalObjects::open(&path).map_err(|error| OpenError::Directory {
                    path: path.display().to_string(),
                    source: error.into(),
                })?;
                Self::open_at(Arc::new(objects), Some(path), access, address)
            }
        }
    }

    /// Opens a store in any object store: for kinds that have no address here, and for tests.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn open_objects(objects: Arc<dyn ObjectStore>, access: Access) -> Result<Self, OpenError> {
        let address = objects.to_string();
        Self::open_at(objects, None, access, &address)
    }

    fn open_at(
        objects: Arc<dyn ObjectStore>,
        directory: Option<PathBuf>,
        access: Access,
        address: &str,
    ) -> Result<Self, OpenError> {
        let backend = Backend::new(objects).map_err(OpenError::Runtime)?;
        check_marker(&backend, access, address)?;
        let inner = Inner {
            backend,
            directory,
            summaries: Mutex::default(),
            known: Mutex::default(),
            moved: Mutex::default(),
            last: Mutex::default(),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }
}

/// Locks a mutex. What these mutexes guard is never left half changed, so that a panic elsewhere
/// does no harm.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn check_marker(backend: &Backend, access: Access, address: &str) -> Result<(), OpenError> {
    let found = match backend.get(MARKER, MARKER_BYTES_MAX) {
        Err(error) if error.is_not_found() => match access {
            Access::Existing => return Err(OpenError::Missing(address.to_owned())),
            Access::Create => {
                match backend.create(MARKER, Bytes::from_static(MARKER_TEXT.as_bytes())) {
                    Ok(()) => return Ok(()),
                    // Somebody else makes the same store.
                    Err(error) if error.already_exists() => {
                        backend.get(MARKER, MARKER_BYTES_MAX)?
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        },
        other => other?,
    };
    if found != MARKER_TEXT.as_bytes() {
        return Err(OpenError::Version(address.to_owned()));
    }
    Ok(())
}

fn prepare_directory(path: &Path, access: Access) -> Result<(), OpenError> {
    let failed = |source| OpenError::Directory {
        path: path.display().to_string(),
        source,
    };
    let missing = || OpenError::Missing(path.display().to_string());
    match (fs::metadata(path.join(MARKER)), access) {
        (Ok(_), Access::Existing) => return Ok(()),
        (Ok(_), Access::Create) => {}
        (Err(error), _) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(failed(error));
        }
        (Err(_), Access::Existing) => return Err(missing()),
        (Err(_), Access::Create) => refuse_occupied(path)?,
    }
    LocalObjects::make_folders(path).map_err(failed)
}

/// Refuses a directory that holds what is not ours. Folders of ours may be there without the
/// marker, where somebody was killed while making the store.
fn refuse_occupied(path: &Path) -> Result<(), OpenError> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other,
    };
    let failed = |source| OpenError::Directory {
        path: path.display().to_string(),
        source,
    };
    for entry in entries.map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let ours = folder::ALL.iter().any(|folder| name == *folder)
            || name.to_string_lossy().starts_with(MARKER);
        if !ours {
            return Err(OpenError::Occupied(path.display().to_string()));
        }
    }
    Ok(())
}
