//! A directory as an object store: `object_store`'s own for reading and listing, and writing that
//! is private and durable.
//!
//! `LocalFileSystem` makes files with the modes that the umask leaves, and does not sync
//! deletions. Here a file is made with mode 0600 under a staging name (`NAME#DIGITS`, which every
//! listing of `object_store` leaves out), written, synced, and only then given its name, by a link
//! where it must not exist yet and by renaming otherwise; then the directory is synced.

use std::{
    fmt, fs,
    io::{self, IoSlice, Write},
    ops::Range,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path as FsPath, PathBuf},
    sync::Arc,
    time::UNIX_EPOCH,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream::BoxStream};
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
    local::LocalFileSystem, path::Path,
};

use super::folder;

const STORE: &str = "local directory";

/// A directory.
#[derive(Debug)]
pub(crate) struct LocalObjects {
    inner: LocalFileSystem,
    root: Arc<FsPath>,
}

/// A file that somebody began to write under a staging name.
#[derive(Debug)]
pub(crate) struct Staged {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// When it was last written, nanoseconds since 1970.
    pub(crate) modified_ns: u64,
}

impl LocalObjects {
    /// Opens a directory that exists.
    pub(crate) fn open(root: &FsPath) -> Result<Self> {
        let inner = LocalFileSystem::new_with_prefix(root)?;
        Ok(Self {
            inner,
            root: root.into(),
        })
    }

    /// Makes the directory and its folders where they are missing, readable by their owner only.
    pub(crate) fn make_folders(root: &FsPath) -> io::Result<()> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(root)?;
        for folder in folder::ALL {
            builder.create(root.join(folder))?;
        }
        sync_directory(root)
    }

    /// Finds what writers left under staging names.
    pub(crate) fn staged(root: &FsPath) -> io::Result<Vec<Staged>> {
        let mut found = Vec::new();
        for folder in folder::ALL {
            let entries = match fs::read_dir(root.join(folder)) {
                // Whoever copied the store left out empty folders.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other?,
            };
            for entry in entries {
                let entry = entry?;
                if !is_staging_name(&entry.file_name().to_string_lossy()) {
                    continue;
                }
                let modified = match entry.metadata().and_then(|metadata| metadata.modified()) {
                    Ok(modified) => modified,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(error) => return Err(error),
                };
                let since = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
                found.push(Staged {
                    path: entry.path(),
                    modified_ns: u64::try_from(since.as_nanos()).unwrap_or(u64::MAX),
                });
            }
        }
        Ok(found)
    }

    fn file(&self, location: &Path) -> PathBuf {
        self.root.join(location.as_ref())
    }
}

impl fmt::Display for LocalObjects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LocalObjects({})", self.root.display())
    }
}

#[async_trait]
impl ObjectStore for LocalObjects {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let file = self.file(location);
        let work = move || publish(&file, &payload, &options.mode);
        tokio::task::spawn_blocking(work).await?
    }

    async fn put_multipart_opts(
        &self,
        _location: &Path,
        _options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        Err(unsupported("writing in parts"))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let root = Arc::clone(&self.root);
        let deletions = locations.then(move |location| {
            let root = Arc::clone(&root);
            async move {
                let location = location?;
                let file = root.join(location.as_ref());
                tokio::task::spawn_blocking(move || remove(&file)).await??;
                Ok(location)
            }
        });
        deletions.boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, _from: &Path, _to: &Path, _options: CopyOptions) -> Result<()> {
        Err(unsupported("copying"))
    }
}

/// Tells whether a name has the form that `object_store` and we stage under.
fn is_staging_name(name: &str) -> bool {
    name.rsplit_once('#').is_some_and(|(_, digits)| {
        !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit())
    })
}

/// Writes a file under a staging name and, once it is on the disk, gives it its own.
fn publish(file: &FsPath, payload: &PutPayload, mode: &PutMode) -> Result<PutResult> {
    let (staged, mut out) = stage(file).map_err(|error| failed(file, error))?;
    let written = write_all(&mut out, payload)
        .and_then(|()| out.sync_all())
        .and_then(|()| match mode {
            PutMode::Overwrite => fs::rename(&staged, file),
            PutMode::Create => fs::hard_link(&staged, file).and_then(|()| fs::remove_file(&staged)),
            PutMode::Update(_) => Err(io::ErrorKind::Unsupported.into()),
        })
        .and_then(|()| sync_parent(file));
    if let Err(error) = written {
        // The error that is reported is the one that matters; what stays here, gc removes.
        drop(fs::remove_file(&staged));
        return Err(failed(file, error));
    }
    Ok(PutResult {
        e_tag: None,
        version: None,
        extensions: object_store::Extensions::default(),
    })
}

fn stage(file: &FsPath) -> io::Result<(PathBuf, fs::File)> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    let mut name = file.as_os_str().to_owned();
    name.push(format!("#{}", u64::from_le_bytes(random)));
    let staged = PathBuf::from(name);
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let out = match (options.open(&staged), file.parent()) {
        // Whoever copied the store left out empty folders.
        (Err(error), Some(folder)) if error.kind() == io::ErrorKind::NotFound => {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)?;
            sync_parent(folder)?;
            options.open(&staged)?
        }
        (opened, _) => opened?,
    };
    Ok((staged, out))
}

/// Writes all parts with few system calls.
fn write_all(out: &mut fs::File, payload: &PutPayload) -> io::Result<()> {
    /// What Linux takes in one call.
    const PARTS_AT_ONCE: usize = 1024;
    let parts: Vec<&Bytes> = payload.iter().collect();
    for parts in parts.chunks(PARTS_AT_ONCE) {
        let mut slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
        let mut rest: &mut [IoSlice<'_>] = &mut slices;
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            match out.write_vectored(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => IoSlice::advance_slices(&mut rest, written),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

fn remove(file: &FsPath) -> Result<()> {
    fs::remove_file(file)
        .and_then(|()| sync_parent(file))
        .map_err(|error| failed(file, error))
}

fn sync_parent(file: &FsPath) -> io::Result<()> {
    file.parent().map_or(Ok(()), sync_directory)
}

fn sync_directory(directory: &FsPath) -> io::Result<()> {
    fs::File::open(directory)?.sync_all()
}

fn failed(file: &FsPath, error: io::Error) -> Error {
    let path = file.display().to_string();
    let kind = error.kind();
    let source = Box::new(error);
    match kind {
        io::ErrorKind::NotFound => Error::NotFound { path, source },
        io::ErrorKind::AlreadyExists => Error::AlreadyExists { path, source },
        io::ErrorKind::PermissionDenied => Error::PermissionDenied { path, source },
        _ => Error::Generic {
            store: STORE,
            source,
        },
    }
}

fn unsupported(operation: &str) -> Error {
    Error::NotImplemented {
        operation: operation.to_owned(),
        implementer: STORE.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn staging_names_are_told_from_others() {
        assert!(is_staging_name("a.pack#17"));
        assert!(!is_staging_name("a#"));
        assert!(!is_staging_name("a#1b"));
        assert!(!is_staging_name("a"));
    }
}
