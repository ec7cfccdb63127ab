//! Memory that can be tracked, read and written: the seam between the engine and whatever holds
//! the pages (a live process, the model, a fake, a store).

use std::sync::Arc;

use bitflags::bitflags;

use crate::{ByteLen, Errno, Mapping, PageRange, PageSize};

bitflags! {
    /// What a scan tells of a page. The bits are those of the kernel's `PAGE_IS_*`
    /// (`include/uapi/linux/fs.h`, `PAGEMAP_SCAN`).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct PageFlags: u64 {
        /// Lies in a mapping whose writes are tracked by asynchronous write protection.
        const TRACKED = 1;
        /// Was written since it was armed, or was never armed. In a tracked mapping a page that
        /// is not there may count as written too, see [`AddressSpace::absent_is_written`].
        const WRITTEN = 1 << 1;
        /// Belongs to a file or to shared memory.
        const FILE = 1 << 2;
        /// Is in the page tables.
        const PRESENT = 1 << 3;
        /// Is swapped out, or holds a marker.
        const SWAPPED = 1 << 4;
        /// Is the kernel's shared page of zeros.
        const ZERO = 1 << 5;
        /// Is mapped by a huge entry.
        const HUGE = 1 << 6;
        /// Has its soft-dirty bit set.
        const SOFT_DIRTY = 1 << 7;
        /// Is a guard page (`MADV_GUARD_INSTALL`; Linux 6.15).
        const GUARD = 1 << 8;
    }
}

/// Neighbouring pages of which a scan told the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRun {
    /// The pages.
    pub range: PageRange,
    /// What was asked for and holds for each of them.
    pub flags: PageFlags,
}

/// What a scan does to the pages that it reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rearm {
    /// Looks only.
    Keep,
    /// Looks only, and fails with [`Errno::EPERM`] where a mapping's writes are not tracked by
    /// asynchronous write protection (any more).
    KeepIfTracked,
    /// Arms each reported page again, in the same step in which it is reported.
    Rearm,
}

/// What a scan looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scan {
    /// A page is reported only if it has all of these.
    pub all_of: PageFlags,
    /// A page is reported only if it has one of these, unless empty.
    pub any_of: PageFlags,
    /// The flags to report. [`PageFlags::FILE`] is dear: it costs a cache miss a page.
    pub report: PageFlags,
    /// Whether to arm what is reported.
    pub rearm: Rearm,
}

/// How writes are tracked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tracking {
    /// `UFFD_FEATURE_WP_ASYNC` with `PAGEMAP_SCAN`: reporting and arming are one atomic step.
    WriteProtect,
    /// Soft-dirty bits: reading and clearing are two steps, so the tasks must stand still; all
    /// ranges are cleared at once.
    SoftDirty,
    /// Not at all.
    None,
}

/// What came of the wish to track a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tracked {
    /// Writes to it are tracked from now on.
    Yes(PageRange),
    /// It can't be tracked, for that reason (`EBUSY`: it belongs to another userfaultfd).
    No(PageRange, Errno),
}

/// A source of page contents.
pub trait PageSource {
    /// Reads the bytes of `ranges`, in order and one behind the other, into the start of `buf`.
    ///
    /// Stops before the first page that can't be read and returns the number of bytes before
    /// it: a multiple of the page size, less than asked where a page is missing.
    ///
    /// # Errors
    ///
    /// [`Errno::ESRCH`] where the process is gone, [`Errno::EFAULT`] where the very first page
    /// can't be read.
    ///
    /// # Panics
    ///
    /// May panic if `buf` is shorter than the ranges.
    fn read(&self, ranges: &[PageRange], buf: &mut [u8]) -> Result<ByteLen, Errno>;
}

/// A taker of page contents.
pub trait PageSink {
    /// What may go wrong.
    type Error;

    /// Takes the content of `range`: what was taken for these pages before is replaced.
    ///
    /// # Errors
    ///
    /// Those of the sink; after one, the sink is good for nothing but to be dropped.
    fn put(&self, range: PageRange, bytes: &[u8]) -> Result<(), Self::Error>;

    /// Takes note that all of `range` reads as zeros.
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put).
    fn put_zeros(&self, range: PageRange) -> Result<(), Self::Error>;

    /// Takes note that nothing is there any more: what was taken for these pages is dropped.
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put).
    fn discard(&self, range: PageRange) -> Result<(), Self::Error>;
}

/// The memory of a process, as the engine sees it.
///
/// Shaped for batches: a call takes many ranges, or a scan could not keep up with the bare ioctl.
pub trait AddressSpace: PageSource {
    /// What other threads read the memory through.
    type Reader: PageSource + Send + Sync + 'static;

    /// Returns a reader of the same memory, for other threads.
    fn reader(&self) -> Arc<Self::Reader>;

    /// Returns the base page size.
    fn page_size(&self) -> PageSize;

    /// Returns how writes are tracked here.
    fn tracking(&self) -> Tracking;

    /// Tells whether a scan of tracked private anonymous memory reports all that is not there as
    /// written, holes in the page tables included. Kernels differ in this.
    fn absent_is_written(&self) -> bool;

    /// Lists the mappings, sorted by address.
    ///
    /// # Errors
    ///
    /// [`Errno::ESRCH`] where the memory is gone (exit or `execve`).
    fn mappings(&mut self) -> Result<Vec<Mapping>, Errno>;

    /// Reports to `out`, in order of address, the pages of `mapping` that have content: those in
    /// the page tables, and for a file or shared memory those that the file has data for. Nothing
    /// is populated by the question.
    ///
    /// # Errors
    ///
    /// [`Errno::ESRCH`] where the memory is gone, [`Errno::EACCES`] where the file behind shared
    /// memory may not be looked at, so that only the page tables were asked.
    fn file_pages(&mut self, mapping: &Mapping, out: &mut Vec<PageRange>) -> Result<(), Errno>;

    /// Has writes to `ranges` tracked from now on; none of their pages is armed by this alone.
    /// Each range lies within one mapping. Asking again for a tracked range is harmless.
    ///
    /// # Errors
    ///
    /// [`Errno::ESRCH`] where the memory is gone. What happens to each range goes to `outcome`; one
    /// that is not mentioned there could not be tried just now, and may be asked for again.
    fn track(&mut self, ranges: &[PageRange], outcome: &mut Vec<Tracked>) -> Result<(), Errno>;

    /// Reports the pages of `ranges` that `scan` looks for, in order of address, to `out`.
    ///
    /// With [`Tracking::SoftDirty`], a scan that rearms clears the bits of the whole process:
    /// it is asked for all that is tracked at once, while the tasks stand still.
    ///
    /// # Errors
    ///
    /// [`Errno::ESRCH`] where the memory is gone, [`Errno::EINVAL`] where the kernel does not
    /// know what is asked for, [`Errno::EPERM`] as [`Rearm::KeepIfTracked`] says.
    fn scan(
        &mut self,
        scan: &Scan,
        ranges: &[PageRange],
        out: &mut Vec<PageRun>,
    ) -> Result<(), Errno>;
}
