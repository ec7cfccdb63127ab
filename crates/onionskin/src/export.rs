//! Snapshots as files that others read.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use formats::core::{CoreImage, CoreMapping, CoreSummary};
use formats::raw::{RawImage, RawSummary};
use space::{ByteLen, Errno, Mapping, PageRange, PageSource};
use store::{ReadError, Snapshot};

use crate::error::Error;

/// Writes an ELF core that `gdb PROGRAM CORE` opens. `progress` hears of the bytes that were
/// dealt with since the last time.
///
/// # Errors
///
/// [`Error::Export`] where the file exists already or can't be written, or the snapshot can't be
/// read.
pub fn core(
    snapshot: &Snapshot,
    path: &Path,
    progress: &mut dyn FnMut(ByteLen),
) -> Result<CoreSummary, Error> {
    let meta = snapshot.meta();
    let captured = snapshot.captured();
    let mappings: Vec<CoreMapping> = meta
        .mappings
        .iter()
        .map(|saved| CoreMapping::by_captured(saved.mapping.clone(), &captured))
        .collect();
    let image = CoreImage {
        process: &meta.process,
        tasks: &meta.tasks,
        mappings: &mappings,
        page_size: meta.page_size,
    };
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => Error::Exists(path.display().to_string()),
            _ => failed(path, error),
        })?;
    let source = Told::new(snapshot);
    let written = formats::core::write(&image, &captured, &source, &mut file, progress)
        .map_err(|error| source.failed(path, error))
        .and_then(|summary| {
            file.sync_all()
                .map(|()| summary)
                .map_err(|error| failed(path, error))
        });
    if written.is_err() {
        // Half a core is worse than none.
        _ = std::fs::remove_file(path);
    }
    written
}

/// Writes one file for each mapping, and an index, into a new directory.
///
/// # Errors
///
/// As [`core()`].
pub fn raw(
    snapshot: &Snapshot,
    directory: &Path,
    progress: &mut dyn FnMut(ByteLen),
) -> Result<RawSummary, Error> {
    let meta = snapshot.meta();
    let mappings: Vec<Mapping> = meta
        .mappings
        .iter()
        .map(|saved| saved.mapping.clone())
        .collect();
    let image = RawImage {
        process: &meta.process,
        tasks: &meta.tasks,
        mappings: &mappings,
        page_size: meta.page_size,
    };
    let source = Told::new(snapshot);
    formats::raw::write(&image, &snapshot.captured(), &source, directory, progress)
        .map_err(|error| source.failed(directory, error))
}

/// A snapshot that remembers why it could not be read: who writes a file is told no more than that
/// it couldn't.
struct Told<'a> {
    snapshot: &'a Snapshot,
    why: Mutex<Option<ReadError>>,
}

/// What could not be done because stored pages could not be read.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
struct Unread {
    what: String,
    #[source]
    why: ReadError,
}

impl<'a> Told<'a> {
    fn new(snapshot: &'a Snapshot) -> Self {
        Self {
            snapshot,
            why: Mutex::default(),
        }
    }

    fn failed(&self, path: &Path, error: impl std::error::Error + Send + Sync + 'static) -> Error {
        let mut why = self.why.lock().unwrap_or_else(PoisonError::into_inner);
        match why.take() {
            Some(why) => {
                let what = error.to_string();
                failed(path, Unread { what, why })
            }
            None => failed(path, error),
        }
    }
}

impl PageSource for Told<'_> {
    fn read(&self, ranges: &[PageRange], buf: &mut [u8]) -> Result<ByteLen, Errno> {
        match self.snapshot.read_pages(ranges, buf) {
            Ok(read) if read.0 == 0 && !ranges.is_empty() => Err(Errno::EFAULT),
            Ok(read) => Ok(read),
            Err(error) => {
                let mut why = self.why.lock().unwrap_or_else(PoisonError::into_inner);
                *why = Some(error);
                Err(Errno::EIO)
            }
        }
    }
}

fn failed(path: &Path, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Export {
        path: path.display().to_string(),
        source: Box::new(error),
    }
}
