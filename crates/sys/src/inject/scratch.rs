//! Dead memory of a stopped process, to put frames in.

use std::os::fd::BorrowedFd;

use space::{Mapping, MappingFlags, PageRange, PageSize, Protection, Sharing, Vaddr};

use crate::raw::memory;

/// Bytes below a stack pointer that still belong to the function (the x86_64 ABI's red zone),
/// with as much again to spare.
const RED_ZONE: u64 = 256;

/// Finds `len` bytes of the main stack that no live frame can hold.
///
/// Best are pages that were never populated, below every stack pointer: nobody can have anything
/// there, and nobody takes a stack for zeros. Those that served before (`earlier`) serve again,
/// so that not each call populates more of them. Else the bytes below the lowest stack pointer, if
/// there is one in this stack: dead by the ABI. A process whose main stack is gone, or used to
/// its end, or not the kernel's own, has no such place.
pub(crate) fn find(
    mappings: &[Mapping],
    pagemap: BorrowedFd<'_>,
    page_size: PageSize,
    stack_pointers: &[Vaddr],
    earlier: Option<Vaddr>,
    len: u64,
) -> Option<Vaddr> {
    let stack = mappings.iter().find(|mapping| mapping.name == "[stack]")?;
    let writable = Protection::READ | Protection::WRITE;
    let odd = MappingFlags::USERFAULT_WAITS
        | MappingFlags::DONT_FORK
        | MappingFlags::WIPE_ON_FORK
        | MappingFlags::HUGETLB;
    if stack.sharing != Sharing::Private
        || !stack.protection.contains(writable)
        || stack.flags.intersects(odd)
    {
        return None;
    }
    let lowest = stack_pointers
        .iter()
        .filter(|&&pointer| stack.range.contains(pointer))
        .min();
    let below = lowest.copied().unwrap_or(stack.range.end());
    let still_dead =
        |start: &Vaddr| stack.range.contains(*start) && start.0 + len + RED_ZONE <= below.0;
    if let Some(start) = earlier.filter(|start| lowest.is_some() && still_dead(start)) {
        return Some(start);
    }
    unpopulated(stack.range, below, pagemap, page_size, len).or_else(|| {
        let start = lowest?.0.checked_sub(RED_ZONE)?.checked_sub(len)? & !0x3f;
        (start >= stack.range.start().0).then_some(Vaddr(start))
    })
}

/// The lowest run of never populated pages below `below` that holds `len` bytes: furthest from
/// where the stack may grow to.
fn unpopulated(
    stack: PageRange,
    below: Vaddr,
    pagemap: BorrowedFd<'_>,
    page_size: PageSize,
    len: u64,
) -> Option<Vaddr> {
    const ENTRY: u64 = 8;
    let pages = stack.pages(page_size).0;
    let mut entries = vec![0; usize::try_from(pages * ENTRY).ok()?];
    let offset = (stack.start().0 >> page_size.shift()) * ENTRY;
    let read = rustix::io::pread(pagemap, &mut entries, offset).ok()?;
    let below = below.0.checked_sub(RED_ZONE)?;
    let needed = len.div_ceil(page_size.bytes());
    let mut free = 0;
    for (entry, index) in entries[..read].as_chunks::<8>().0.iter().zip(0..) {
        let end = stack.start().0 + ((index + 1) << page_size.shift());
        if end > below {
            break;
        }
        free = if u64::from_ne_bytes(*entry) == 0 {
            free + 1
        } else {
            0
        };
        if free >= needed {
            return Some(Vaddr(end - (needed << page_size.shift())));
        }
    }
    None
}

/// Frames in the memory of a stopped process; what was there before comes back when they are
/// taken away.
#[derive(Debug)]
pub(crate) struct Scratch {
    pid: u32,
    start: Vaddr,
    before: Vec<u8>,
}

impl Scratch {
    /// Writes `bytes` at `start`.
    pub(crate) fn write(pid: u32, start: Vaddr, bytes: &[u8]) -> Result<Self, space::Errno> {
        let mut before = vec![0; bytes.len()];
        if memory::read_at(pid, start, &mut before)? != bytes.len() {
            return Err(space::Errno::EFAULT);
        }
        if memory::write_at(pid, start, bytes)? != bytes.len() {
            return Err(space::Errno::EFAULT);
        }
        Ok(Self { pid, start, before })
    }

    /// Returns where the frames lie, and how many bytes they take.
    pub(crate) fn place(&self) -> (Vaddr, u64) {
        (self.start, self.before.len() as u64)
    }

    /// Brings back what was there.
    pub(crate) fn take_away(self) -> Result<(), space::Errno> {
        match memory::write_at(self.pid, self.start, &self.before)? {
            written if written == self.before.len() => Ok(()),
            _ => Err(space::Errno::EFAULT),
        }
    }
}
