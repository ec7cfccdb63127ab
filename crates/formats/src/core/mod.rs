//! The ELF core file, as `fs/binfmt_elf.c` of Linux writes it (`elf_core_dump`).
//!
//! # Layout
//!
//! | part | where | what |
//! |---|---|---|
//! | ELF header | 0 | `ET_CORE`, the process's machine |
//! | program headers | 64 | `PT_NOTE`, then a `PT_LOAD` for each part of each mapping, by address |
//! | notes | behind them | for each thread its registers, for the process what it ran and mapped |
//! | contents | next page | what the mappings held, in the order of the program headers |
//! | section header | the end | only with 65,535 segments or more: holds their number |
//!
//! A mapping is one segment, cut where that serves the reader: [`Dumped::Captured`] leaves a
//! segment without contents for what debuggers find in the mapped file, and a hole of 1 GiB or
//! more in memory without a file becomes a segment without contents too, which reads as zeros:
//! else a core of a sparse terabyte would not fit the largest file that a file system can hold.
//!
//! The contents are sparse: pages of zeros are not written.

use std::io::{self, BufWriter, Seek, SeekFrom, Write};

use space::{
    ByteLen, Errno, Mapping, PageSize, PageSource, ProcessState, RangeSet, Sharing, TaskState,
    Vaddr,
};
use thiserror::Error;

use crate::copy::{BUFFER, Copier, CopyError, runs_within};

mod arch;
mod elf;
mod notes;
mod plan;
mod record;
mod task_notes;
mod xstate;

use arch::Arch;
use notes::Notes;
use plan::Plan;

/// All of a core but the contents of the memory.
#[derive(Clone, Copy, Debug)]
pub struct CoreImage<'a> {
    /// The process.
    pub process: &'a ProcessState,
    /// Its threads. The first that is stopped with a signal comes first in the core, else the
    /// first one here: that is the thread debuggers show first.
    pub tasks: &'a [TaskState],
    /// Every mapping, sorted by address.
    pub mappings: &'a [CoreMapping],
    /// The base page size of the system that the process ran on.
    pub page_size: PageSize,
}

/// A mapping and how much of it the core holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoreMapping {
    /// The mapping.
    pub mapping: Mapping,
    /// What of it is dumped.
    pub dumped: Dumped,
}

impl CoreMapping {
    /// Chooses what of `mapping` is dumped by what of it was captured: nothing where nothing was,
    /// the captured pages of a private file mapping, all of other memory.
    pub fn by_captured(mapping: Mapping, captured: &RangeSet) -> Self {
        let dumped = if runs_within(captured, mapping.range).next().is_none() {
            Dumped::Nothing
        } else if mapping.has_file() && mapping.sharing == Sharing::Private {
            Dumped::Captured
        } else {
            Dumped::Whole
        };
        Self { mapping, dumped }
    }
}

/// What of a mapping a core holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dumped {
    /// All of it; pages that were not captured are zeros. Right for anonymous and shared memory,
    /// and for a private file mapping that was captured whole.
    Whole,
    /// The pages that were captured; the others are left to the mapped file, where a debugger
    /// looks for them. Right for a private file mapping of which the process's own pages were
    /// captured.
    Captured,
    /// The first page, if it was captured: the ELF header that tells a debugger which build of
    /// the file was mapped.
    FirstPage,
    /// Nothing: a debugger looks into the mapped file, if there is one.
    Nothing,
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CoreSummary {
    /// The number of segments, the one of the notes included.
    pub segments: u64,
    /// The length of the file, holes included.
    pub file_len: ByteLen,
    /// Bytes of memory contents that were written: pages of zeros are not.
    pub written: ByteLen,
    /// Bytes that were captured but are in no dumped part of a mapping.
    pub left_out: ByteLen,
}

/// Why a core could not be written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CoreError {
    /// The machine is neither `x86_64` (62) nor arm64 (183).
    #[error("no core can be written for ELF machine {0}: x86_64 (62) and arm64 (183) are known")]
    Machine(u16),
    /// The base page size is larger than any that is known.
    #[error("a base page size of {0} bytes is too large for a core")]
    PageSize(u64),
    /// There is no thread.
    #[error("the snapshot holds no thread: a core needs the registers of one at least")]
    NoTasks,
    /// A thread has no general registers, or not as many as the machine has.
    #[error("thread {tid} has {found} bytes of general registers, {expected} were expected")]
    Registers {
        /// The thread.
        tid: u32,
        /// Their size, 0 where there are none.
        found: usize,
        /// The size that the machine's registers take.
        expected: usize,
    },
    /// A thread is stopped with a signal that does not exist.
    #[error("thread {tid} is stopped with signal {signal}, which does not exist")]
    Signal {
        /// The thread.
        tid: u32,
        /// The number.
        signal: i32,
    },
    /// The mappings are not sorted by address, or overlap.
    #[error("the mapping at {0:#x} begins before the one in front of it ends")]
    Order(Vaddr),
    /// A range does not begin and end at a page boundary.
    #[error("the range at {0:#x} is no range of whole pages")]
    Misaligned(Vaddr),
    /// A mapping's name holds a zero byte, which the list of files can't express.
    #[error("the name of the mapping at {0:#x} holds a zero byte")]
    Name(Vaddr),
    /// One note, or all of them, or the file would be longer than the format can say.
    #[error("the {what} would be longer than an ELF core can express")]
    TooLarge {
        /// What would be.
        what: &'static str,
    },
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
    /// The core can't be written.
    #[error("the core can't be written at offset {offset}")]
    Write {
        /// Where in the file.
        offset: u64,
        /// What the system said.
        source: io::Error,
    },
}

impl From<CopyError> for CoreError {
    fn from(error: CopyError) -> Self {
        match error {
            CopyError::Missing(address) => Self::Missing(address),
            CopyError::Read(address, source) => Self::Read { address, source },
            CopyError::Write(offset, source) => Self::Write { offset, source },
        }
    }
}

/// Writes a core to `out`, from offset 0 on.
///
/// `out` must be empty: what is zero is seeked over, so that a file gets holes there. `captured`
/// says which pages `source` has; others are not asked for. `progress` gets the number of
/// captured bytes that were dealt with since it was last called. About 1 MiB is buffered.
///
/// # Errors
///
/// [`CoreError::Machine`] to [`CoreError::TooLarge`] where the image can't be expressed: nothing
/// was written then. The others leave an incomplete file.
pub fn write<W: Write + Seek>(
    image: &CoreImage<'_>,
    captured: &RangeSet,
    source: &dyn PageSource,
    out: &mut W,
    progress: &mut dyn FnMut(ByteLen),
) -> Result<CoreSummary, CoreError> {
    let arch = Arch::of(image.process.machine)?;
    check_ranges(image, captured)?;
    let notes = Notes::new(image, arch)?;
    let plan = Plan::new(image, captured, notes.len()?)?;

    write_headers(&plan, &notes, arch, image.page_size, out).map_err(at(0))?;
    let mut copier = Copier::new(source, image.page_size, progress);
    for segment in plan.segments() {
        if let Some(content) = segment.content() {
            copier.copy(content, segment.offset, captured, out)?;
        }
    }
    copier.finish(out)?;
    let written = copier.written();
    write_end(&plan, out)?;
    Ok(CoreSummary {
        segments: plan.segment_count(),
        file_len: plan.file_len(),
        written,
        left_out: ByteLen(captured.len().0 - plan.captured_len()),
    })
}

/// Refuses mappings and captured ranges that are out of order or not made of whole pages.
fn check_ranges(image: &CoreImage<'_>, captured: &RangeSet) -> Result<(), CoreError> {
    let page_size = image.page_size;
    if page_size.bytes() > BUFFER {
        return Err(CoreError::PageSize(page_size.bytes()));
    }
    let mut end = Vaddr(0);
    for CoreMapping { mapping, .. } in image.mappings {
        if mapping.range.start() < end {
            return Err(CoreError::Order(mapping.range.start()));
        }
        if mapping.has_file() && mapping.name.contains('\0') {
            return Err(CoreError::Name(mapping.range.start()));
        }
        end = mapping.range.end();
    }
    let mapped = image.mappings.iter().map(|dumped| dumped.mapping.range);
    let misaligned = mapped
        .chain(captured.iter())
        .find(|range| !range.start().is_aligned(page_size) || !range.end().is_aligned(page_size));
    match misaligned {
        Some(range) => Err(CoreError::Misaligned(range.start())),
        None => Ok(()),
    }
}

/// Writes the ELF header, the program headers and the notes.
fn write_headers<W: Write + Seek>(
    plan: &Plan,
    notes: &Notes<'_>,
    arch: Arch,
    page_size: PageSize,
    out: &mut W,
) -> io::Result<()> {
    out.seek(SeekFrom::Start(0))?;
    let mut out = BufWriter::new(out);
    let header = elf::Header {
        machine: arch.machine(),
        segments: plan.segment_count(),
        sections_at: plan.section_header_at(),
    };
    out.write_all(&header.to_bytes())?;
    out.write_all(&plan.note_segment().to_bytes())?;
    for segment in plan.segments() {
        out.write_all(&segment.header(page_size).to_bytes())?;
    }
    notes.write(&mut out)?;
    out.flush()
}

/// Brings the file to its length: with the section header that holds the number of segments, or
/// with a last zero where the contents end in a hole.
fn write_end<W: Write + Seek>(plan: &Plan, out: &mut W) -> Result<(), CoreError> {
    let result = match plan.section_header_at() {
        Some(offset) => out
            .seek(SeekFrom::Start(offset))
            .and_then(|_| out.write_all(&elf::segment_count_section(plan.segment_count_field()))),
        None => out.seek(SeekFrom::End(0)).and_then(|end| {
            if end < plan.file_len().0 {
                out.seek(SeekFrom::Start(plan.file_len().0 - 1))?;
                out.write_all(&[0])?;
            }
            Ok(())
        }),
    };
    result
        .and_then(|()| out.flush())
        .map_err(at(plan.file_len().0))
}

/// Makes an error of the output at `offset`.
fn at(offset: u64) -> impl FnOnce(io::Error) -> CoreError {
    move |source| CoreError::Write { offset, source }
}
