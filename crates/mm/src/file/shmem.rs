//! tmpfs: files in base pages, which memfds and shared anonymous memory are.
//!
//! Linux reference: 6.18, `mm/shmem.c` (`shmem_get_folio_gfp`, `shmem_fault`,
//! `shmem_undo_range`, `shmem_fallocate`).

use std::ops::Range;

use space::Errno;

use crate::file::{Cached, FileId, clear_bytes, drop_cached};
use crate::folio::{FolioFlags, Owner, Pfn};
use crate::machine::{Machine, World};
use crate::zap::Zap;

/// `shmem_get_folio`: the page of a file, from the cache, from swap, or a new one of zeros.
pub(crate) fn get_or_make(world: &mut World, file: FileId, index: u64) -> Pfn {
    match world.files.get(file).pages.get(&index) {
        Some(Cached::Page(pfn)) => {
            let pfn = *pfn;
            world.frames.folio_mut(pfn).flags |= FolioFlags::UPTODATE;
            pfn
        }
        Some(Cached::Swap(slot)) => {
            let slot = *slot;
            let owner = Owner::File { file, index };
            let pfn = world.swap.read_file_page(&mut world.frames, slot, owner);
            insert(world, file, index, pfn);
            pfn
        }
        None => {
            let pfn = world.frames.alloc(0, Owner::File { file, index });
            insert(world, file, index, pfn);
            pfn
        }
    }
}

fn insert(world: &mut World, file: FileId, index: u64, pfn: Pfn) {
    let pages = &mut world.files.get_mut(file).pages;
    pages.insert(index, Cached::Page(pfn));
}

/// `shmem_setattr`: sets the size, and drops what lies behind.
pub(crate) fn truncate(machine: &mut Machine, id: FileId, size: u64) {
    let page_shift = machine.world.page_shift();
    let file = machine.world.files.get_mut(id);
    let old = std::mem::replace(&mut file.size, size);
    if size > old {
        return;
    }
    let first = size.div_ceil(1 << page_shift);
    if old > first << page_shift {
        unmap(machine, id, first, u64::MAX, true);
    }
    remove(machine, id, size, u64::MAX);
}

/// The part of `shmem_fallocate` that makes a hole.
pub(crate) fn punch_hole(machine: &mut Machine, id: FileId, offset: u64, len: u64) {
    let page_shift = machine.world.page_shift();
    let first = offset.div_ceil(1 << page_shift);
    let behind = (offset + len) >> page_shift;
    if behind == 0 {
        // `unmap_end` is below zero, which counts as very high: all that follows is unmapped.
        unmap(machine, id, first, u64::MAX, false);
    } else if first < behind {
        unmap(machine, id, first, behind, false);
    }
    remove(machine, id, offset, offset + len);
}

/// `unmap_mapping_range`.
fn unmap(machine: &mut Machine, id: FileId, first: u64, behind: u64, even_cows: bool) {
    let how = Zap {
        even_cows,
        drop_markers: false,
        reclaim_tables: false,
    };
    machine.unmap_file(id, first, behind, how);
}

/// `shmem_undo_range`: drops the pages that lie in a range of bytes, and clears the parts of
/// others.
fn remove(machine: &mut Machine, id: FileId, start: u64, end: u64) {
    let page_size = machine.world.page_size();
    let page_shift = machine.world.page_shift();
    let first = start.div_ceil(page_size);
    let behind = end >> page_shift;
    // Parts of pages: of one, or of the first and the last.
    let (head, tail) = (start >> page_shift, end >> page_shift);
    for index in [head, tail] {
        split_at_edge(machine, id, index, first..behind);
    }
    let part =
        |at: u64, from: u64, to: u64| (at, from - (at << page_shift), to - (at << page_shift));
    let mut parts = Vec::new();
    if head < first {
        parts.push(part(head, start, end.min(first << page_shift)));
    }
    if end & (page_size - 1) != 0 && (tail != head || head == first) && end != u64::MAX {
        parts.push(part(tail, tail << page_shift, end));
    }
    for (index, from, to) in parts {
        // shmem_get_partial_folio: what was only promised stays so.
        let pfn = match machine.world.files.get(id).pages.get(&index) {
            None => continue,
            Some(&Cached::Page(pfn)) => pfn,
            Some(Cached::Swap(_)) => get_or_make(&mut machine.world, id, index),
        };
        clear_bytes(&mut machine.world, pfn, from, to);
        machine.world.frames.folio_mut(pfn).flags |= FolioFlags::DIRTY;
    }
    if first >= behind {
        return;
    }
    let world = &mut machine.world;
    let pages = &world.files.get(id).pages;
    let gone: Vec<(u64, Cached)> = pages
        .range(first..behind)
        .map(|(&index, &cached)| (index, cached))
        .collect();
    for (index, cached) in gone {
        if is_kept(world, cached, first..behind) {
            let Cached::Page(pfn) = cached else { continue };
            clear_bytes(world, pfn, 0, page_size);
            continue;
        }
        world.files.get_mut(id).pages.remove(&index);
        drop_cached(world, index, cached);
    }
}

/// `truncate_inode_partial_folio`: a huge page that has pages in the range, and others, is split, so
/// that those in the range can go.
fn split_at_edge(machine: &mut Machine, id: FileId, index: u64, range: Range<u64>) {
    let Some(pfn) = machine.world.files.get(id).page(index) else {
        return;
    };
    if is_kept(&machine.world, Cached::Page(pfn), range) {
        machine.world.frames.get(pfn, 1);
        machine.split_everywhere(pfn);
        machine.world.frames.put(pfn, 1);
    }
}

/// Tells whether a page is one of a huge page that does not go as a whole.
fn is_kept(world: &World, cached: Cached, range: Range<u64>) -> bool {
    let Cached::Page(pfn) = cached else {
        return false;
    };
    let folio = world.frames.folio(pfn);
    let Owner::File { index, .. } = folio.owner else {
        return false;
    };
    folio.order > 0 && (index < range.start || index + folio.pages() > range.end)
}

/// `shmem_fallocate`: makes the pages of a range be there. They hold nothing until they are used.
///
/// # Errors
///
/// `ENOSPC` for more than there is memory.
pub(crate) fn allocate(world: &mut World, id: FileId, offset: u64, len: u64) -> Result<(), Errno> {
    let page_shift = world.page_shift();
    let first = offset >> page_shift;
    let behind = (offset + len).div_ceil(world.page_size());
    // The mount's limit (`max_blocks`) is half of memory.
    if behind - first > world.profile.memory_pages / 2 {
        return Err(Errno::ENOSPC);
    }
    for index in first..behind {
        if !world.files.get(id).pages.contains_key(&index) {
            let pfn = get_or_make(world, id, index);
            let folio = world.frames.folio_mut(pfn);
            folio.flags -= FolioFlags::UPTODATE;
            folio.flags |= FolioFlags::DIRTY;
        } else {
            // A page that another call made be there holds zeros from now on.
            let pfn = get_or_make(world, id, index);
            world.frames.folio_mut(pfn).flags |= FolioFlags::DIRTY;
        }
    }
    Ok(())
}
