//! Whether registered buffers are still where they were registered.
//!
//! An io_uring pins pages and knows them by the address that they had. `mremap` moves them to
//! another, and nothing tells where to. But a pinned page of private memory is neither swapped out
//! nor dropped by the kernel, so where the page table has nothing, it is elsewhere. (A place that
//! was filled anew since looks as before.)

use std::fs::File;
use std::os::unix::fs::FileExt;

use space::{Mapping, PageRange, PageSize, Sharing};

use crate::uapi::pagemap::{PM_PRESENT, PM_SWAP};

/// Bytes of pagemap that are read at once.
const PIECE: usize = 4 << 10;

/// Tells whether memory that was registered at `range` is surely not there any more, or can't be
/// looked at.
pub(super) fn is_gone(
    tid: u32,
    mappings: &[Mapping],
    range: PageRange,
    page_size: PageSize,
) -> bool {
    let mut at = range.start();
    let next = mappings.partition_point(|mapping| mapping.range.end() <= at);
    for mapping in &mappings[next..] {
        let Some(piece) = mapping.range.intersection(range) else {
            break;
        };
        // What lies in a file is the same page wherever it is mapped.
        let empty = mapping.sharing == Sharing::Private
            && has_empty_entry(tid, piece, page_size).unwrap_or(true);
        if piece.start() != at || empty {
            return true;
        }
        at = piece.end();
    }
    at < range.end()
}

/// Tells whether there is a page without an entry in the page tables.
fn has_empty_entry(tid: u32, range: PageRange, page_size: PageSize) -> std::io::Result<bool> {
    let pagemap = File::open(format!("/proc/{tid}/pagemap"))?;
    let end = (range.end().0 >> page_size.shift()) * 8;
    let mut at = (range.start().0 >> page_size.shift()) * 8;
    let mut entries = [0; PIECE];
    while at < end {
        let len = usize::try_from(end - at).map_or(PIECE, |left| left.min(PIECE));
        pagemap.read_exact_at(&mut entries[..len], at)?;
        // A page that is on its way to another frame looks as if it were swapped out.
        let is_empty = |entry: &[u8; 8]| u64::from_ne_bytes(*entry) & (PM_PRESENT | PM_SWAP) == 0;
        if entries[..len].as_chunks().0.iter().any(is_empty) {
            return Ok(true);
        }
        at += len as u64;
    }
    Ok(false)
}
