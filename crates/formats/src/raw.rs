//! One plain file for each mapping, and an index in JSON.
//!
//! A file is named as `/proc/PID/maps` writes the mapping: `7f0012340000-7f0012360000-rw-p.bin`.
//! It is as long as the mapping, with holes where nothing was captured or all is zero. `index.json`
//! tells which is which, and holds the process and its threads with their registers:
//!
//! | field | what |
//! |---|---|
//! | `format` | `onionskin-raw` |
//! | `version` | 1 |
//! | `page_size` | the base page size, in bytes |
//! | `process`, `tasks` | what is known of the process and of each thread |
//! | `mappings` | for each mapping `mapping`, `file` (or null: nothing captured) and `captured`, a list of `[start, end]` |

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::Serialize;
use space::{
    ByteLen, Errno, Mapping, PageRange, PageSize, PageSource, ProcessState, Protection, RangeSet,
    Sharing, TaskState, Vaddr,
};
use thiserror::Error;

use crate::copy::{BUFFER, Copier, CopyError, runs_within};

/// The name of the index in the directory.
pub const INDEX: &str = "index.json";

/// All that is written but the contents of the memory.
#[derive(Clone, Copy, Debug)]
pub struct RawImage<'a> {
    /// The process.
    pub process: &'a ProcessState,
    /// Its threads.
    pub tasks: &'a [TaskState],
    /// Every mapping, sorted by address.
    pub mappings: &'a [Mapping],
    /// The base page size of the system that the process ran on.
    pub page_size: PageSize,
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RawSummary {
    /// The number of files, the index included.
    pub files: u64,
    /// Bytes of memory contents that were written: pages of zeros are not.
    pub written: ByteLen,
}

/// Why the files could not be written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RawError {
    /// The base page size is larger than any that is known.
    #[error("a base page size of {0} bytes is too large")]
    PageSize(u64),
    /// The mappings are not sorted by address, or overlap.
    #[error("the mapping at {0:#x} begins before the one in front of it ends")]
    Order(Vaddr),
    /// A page that was said to be captured is not in the source.
    #[error("the page at {0:#x} is missing: verify the snapshot")]
    Missing(Vaddr),
    /// The source can't be read.
    #[error("the memory at {address:#x} can't be read: verify the snapshot")]
    Read {
        /// The first of the pages that were asked for.
        address: Vaddr,
        /// What the source said.
        source: Errno,
    },
    /// A file or the directory can't be written.
    #[error("{} can't be written", path.display())]
    Write {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The index, as it is written.
#[derive(Serialize)]
struct Index<'a> {
    format: &'static str,
    version: u32,
    page_size: PageSize,
    process: &'a ProcessState,
    tasks: &'a [TaskState],
    mappings: Vec<IndexEntry<'a>>,
}

/// A mapping in the index.
#[derive(Serialize)]
struct IndexEntry<'a> {
    mapping: &'a Mapping,
    file: Option<String>,
    captured: Vec<PageRange>,
}

/// Writes the files into `directory`, which is made if it is not there; files of the same names
/// are not replaced. All are readable by their owner only, as they may hold secrets.
///
/// `captured` says which pages `source` has; others are not asked for. `progress` gets the number
/// of captured bytes that were dealt with since it was last called. About 1 MiB is buffered.
///
/// # Errors
///
/// Each leaves an incomplete directory, without an index, but for [`RawError::PageSize`] and
/// [`RawError::Order`], which nothing was written before.
pub fn write(
    image: &RawImage<'_>,
    captured: &RangeSet,
    source: &dyn PageSource,
    directory: &Path,
    progress: &mut dyn FnMut(ByteLen),
) -> Result<RawSummary, RawError> {
    check(image)?;
    make_directory(directory).map_err(failed(directory))?;
    let mut copier = Copier::new(source, image.page_size, progress);
    let mut entries = Vec::with_capacity(image.mappings.len());
    let mut summary = RawSummary::default();
    for mapping in image.mappings {
        let captured_here: Vec<_> = runs_within(captured, mapping.range).collect();
        let file = if captured_here.is_empty() {
            None
        } else {
            let name = file_name(mapping);
            write_mapping(mapping, captured, &mut copier, &directory.join(&name))?;
            summary.files += 1;
            Some(name)
        };
        entries.push(IndexEntry {
            mapping,
            file,
            captured: captured_here,
        });
    }
    let index = Index {
        format: "onionskin-raw",
        version: 1,
        page_size: image.page_size,
        process: image.process,
        tasks: image.tasks,
        mappings: entries,
    };
    let path = directory.join(INDEX);
    write_index(&index, &path).map_err(failed(&path))?;
    summary.files += 1;
    summary.written = copier.written();
    Ok(summary)
}

/// Refuses what can't be written before anything is.
fn check(image: &RawImage<'_>) -> Result<(), RawError> {
    if image.page_size.bytes() > BUFFER {
        return Err(RawError::PageSize(image.page_size.bytes()));
    }
    let mut end = Vaddr(0);
    for mapping in image.mappings {
        if mapping.range.start() < end {
            return Err(RawError::Order(mapping.range.start()));
        }
        end = mapping.range.end();
    }
    Ok(())
}

/// Returns the name of a mapping's file.
fn file_name(mapping: &Mapping) -> String {
    let bit = |held, letter| {
        if mapping.protection.contains(held) {
            letter
        } else {
            '-'
        }
    };
    format!(
        "{}-{}{}{}{}.bin",
        mapping.range,
        bit(Protection::READ, 'r'),
        bit(Protection::WRITE, 'w'),
        bit(Protection::EXEC, 'x'),
        match mapping.sharing {
            Sharing::Private => 'p',
            Sharing::Shared => 's',
        }
    )
}

/// Writes the file of one mapping.
fn write_mapping(
    mapping: &Mapping,
    captured: &RangeSet,
    copier: &mut Copier<'_>,
    path: &Path,
) -> Result<(), RawError> {
    let mut file = create(path).map_err(failed(path))?;
    let copied = copier
        .copy(mapping.range, 0, captured, &mut file)
        .and_then(|()| copier.finish(&mut file));
    copied.map_err(|error| match error {
        CopyError::Missing(address) => RawError::Missing(address),
        CopyError::Read(address, source) => RawError::Read { address, source },
        CopyError::Write(_, source) => failed(path)(source),
    })?;
    let len = mapping.range.len().0;
    file.set_len(len).map_err(failed(path))
}

fn write_index(index: &Index<'_>, path: &Path) -> io::Result<()> {
    let mut out = BufWriter::new(create(path)?);
    serde_json::to_writer(&mut out, index)?;
    out.write_all(b"\n")?;
    out.flush()
}

/// Makes the directory for its owner only, unless it is there.
fn make_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Makes a new file for its owner only.
fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

/// Makes an error of `path`.
fn failed(path: &Path) -> impl FnOnce(io::Error) -> RawError {
    move |source| RawError::Write {
        path: path.to_owned(),
        source,
    }
}
