//! hugetlbfs: files made of huge pages from pools, and what mappings of them have of their own.
//!
//! Linux reference: 6.18, `mm/hugetlb.c`, `fs/hugetlbfs/inode.c`.

pub(crate) mod hgm;
pub mod hgm_counts;
pub(crate) mod orphan;
pub mod pool;
pub mod reserve;
mod truncate;

use std::collections::BTreeSet;

use space::Errno;

use crate::entry::{Bits, Entry, Marker, Present, SwapBits};
use crate::fault::page_prot;
use crate::file::{Cached, FileId, FileKind};
use crate::folio::{FolioFlags, Owner, Pfn};
use crate::machine::{Mm, World};
use crate::protect::{Change, change_swapped};
use crate::table::Slot;
use crate::vma::{View, Vma, VmaFlags};
use crate::zap::Zap;

pub(crate) use reserve::close_vma;
pub(crate) use truncate::allocate;

/// What a hugetlb file has besides its pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HugeFile {
    /// Base-two logarithm of its pages' size.
    pub shift: u32,
    /// The pages, counted in huge ones, that are promised to shared mappings, or there.
    pub reserved: BTreeSet<u64>,
}

/// The level of the tables at which a huge page of this size has its entry.
pub(crate) fn level(world: &World, shift: u32) -> u32 {
    let geometry = world.profile.geometry();
    (shift - geometry.page_shift) / geometry.level_bits()
}

/// `hugetlb_walk`: the place of a huge page's entry, if there is a table for it.
pub(crate) fn find(world: &World, mm: &Mm, vma: &View, addr: u64) -> Option<Slot> {
    mm.tables.find(addr, level(world, vma.page_shift))
}

/// `huge_pte_alloc`.
pub(crate) fn slot(world: &World, mm: &mut Mm, vma: &View, addr: u64) -> Slot {
    mm.tables
        .alloc_to(addr, level(world, vma.page_shift))
        .expect("a mapping of hugetlb has huge entries only")
}

/// `hugetlb_file_setup`: a file of pages of this size, not yet promised.
pub(crate) fn make_file(world: &mut World, shift: u32, name: String, size: u64) -> FileId {
    let kind = FileKind::Hugetlb(HugeFile {
        shift,
        reserved: BTreeSet::new(),
    });
    world.files.create(kind, name, size)
}

/// `hugetlb_file_setup` for a mapping without a file; `size` is the logarithm from the flags of
/// `mmap`, 0 for the default size.
///
/// # Errors
///
/// `EINVAL` where there are no pages of that size.
pub(crate) fn anonymous_file(world: &mut World, size: u64, len: u64) -> Result<FileId, Errno> {
    let shift = world.frames.pools.shift_of(size).ok_or(Errno::EINVAL)?;
    let mask = (1_u64 << shift) - 1;
    let size = len.wrapping_add(mask) & !mask;
    let name = "/anon_hugepage (deleted)".to_owned();
    Ok(make_file(world, shift, name, size))
}

/// `hugetlbfs_file_mmap`: checks offsets, reserves pages, grows the file, and marks the mapping.
///
/// # Errors
///
/// `EINVAL` for an offset inside of a page, `ENOMEM` where the pool has not enough.
pub(crate) fn map_file(world: &mut World, vma: &mut Vma, file: FileId) -> Result<(), Errno> {
    let page_shift = world.page_shift();
    let shift = world.files.get(file).page_shift(page_shift);
    vma.flags |= VmaFlags::HUGETLB | VmaFlags::DONTEXPAND;
    vma.page_shift = shift;
    if vma.pgoff & ((1 << (shift - page_shift)) - 1) != 0 {
        return Err(Errno::EINVAL);
    }
    let start = vma.pgoff << page_shift;
    let end = start
        .checked_add(vma.bytes())
        .filter(|&end| i64::try_from(end).is_ok())
        .ok_or(Errno::EINVAL)?;
    if !vma.has(VmaFlags::NORESERVE) {
        let (from, to) = (start >> shift, end >> shift);
        let private = (!vma.has(VmaFlags::MAYSHARE)).then_some(&mut *vma);
        reserve::reserve(world, file, from, to, private)?;
    }
    let file = world.files.get_mut(file);
    if vma.has(VmaFlags::WRITE) {
        file.size = file.size.max(end);
    }
    Ok(())
}

/// The last reference of a hugetlb file is gone: gives its reservations back (`hugetlbfs_evict_inode`;
/// `pages` of the file were freed).
pub(crate) fn release(world: &mut World, mut file: HugeFile, pages: u64) {
    reserve::unreserve(world, &mut file, 0, None, pages);
}

/// `hugetlb_add_to_page_cache`.
pub(crate) fn add_to_cache(world: &mut World, file: FileId, index: u64, pfn: Pfn) {
    let folio = world.frames.folio_mut(pfn);
    folio.owner = Owner::File { file, index };
    folio.flags -= FolioFlags::RESERVED;
    let pages = &mut world.files.get_mut(file).pages;
    pages.insert(index, Cached::Page(pfn));
}

/// `hugetlb_add_new_anon_rmap`: a new page is mapped by one process alone.
pub(crate) fn add_anon_rmap(world: &mut World, vma: &View, addr: u64, pfn: Pfn) {
    let index = vma.index_of(addr, world.page_shift());
    let anon_vma = vma.anon_vma.expect("the family was prepared");
    let folio = world.frames.folio_mut(pfn);
    folio.owner = Owner::Anon { anon_vma, index };
    folio.flags -= FolioFlags::RESERVED;
    world.frames.add_rmap_entire(pfn);
    world.frames.set_exclusive(pfn, true);
}

/// `make_huge_pte`: a new entry, writable if that is asked for and allowed.
pub(crate) fn make_entry(world: &World, vma: &View, pfn: Pfn, write: bool) -> Present {
    let entry = Present {
        pfn,
        bits: (page_prot(world, vma) - Bits::WRITE) | Bits::HUGE | Bits::YOUNG,
    };
    if write && vma.has(VmaFlags::WRITE) {
        entry.with(Bits::WRITE | Bits::DIRTY, true)
    } else {
        entry
    }
}

/// `__unmap_hugepage_range`: takes the pages of `start..end` out of one mapping.
pub(crate) fn unmap_range(
    world: &mut World,
    mm: &mut Mm,
    vma: &View,
    start: u64,
    end: u64,
    how: Zap,
) {
    for addr in pages(vma, start, end) {
        let Some(slot) = find(world, mm, vma, addr) else {
            continue;
        };
        let entry = mm.tables.entry(slot);
        if let Entry::Table(_) = entry {
            hgm::unmap(world, mm, vma, addr, addr + (1 << vma.page_shift), how);
            continue;
        }
        let marks = match entry {
            Entry::None => continue,
            Entry::Present(present) => present.has(Bits::UFFD_WP),
            Entry::Marker(marker) => marker.contains(Marker::UFFD_WP),
            Entry::Swap { bits, .. } | Entry::Migration { bits, .. } => {
                bits.contains(SwapBits::UFFD_WP)
            }
            Entry::Hwpoison(_) | Entry::Table(_) => false,
        };
        let left = if marks && !how.drop_markers {
            Entry::Marker(Marker::UFFD_WP)
        } else {
            Entry::None
        };
        mm.tables.set(slot, left);
        if let Entry::Present(present) = entry {
            if present.has(Bits::DIRTY) {
                world.frames.folio_mut(present.pfn).flags |= FolioFlags::DIRTY;
            }
            world.frames.remove_rmap_entire(present.pfn);
            reserve::restore_on_unmap(world, vma, addr, present.pfn);
            world.frames.put(present.pfn, 1);
        }
    }
}

/// `hugetlb_change_protection`.
pub(crate) fn change_protection(
    world: &mut World,
    mm: &mut Mm,
    vma: &View,
    start: u64,
    end: u64,
    change: Change,
) {
    let protects = change == Change::UffdProtect;
    for addr in pages(vma, start, end) {
        let place = if protects {
            slot(world, mm, vma, addr)
        } else {
            match find(world, mm, vma, addr) {
                Some(place) => place,
                None => continue,
            }
        };
        if let Entry::Table(_) = mm.tables.entry(place) {
            let size = 1 << vma.page_shift;
            hgm::change(world, mm, addr, addr + size, |world, entry| match entry {
                Entry::Present(present) => {
                    Entry::Present(change_present(world, vma, present, change))
                }
                Entry::None if protects => Entry::Marker(Marker::UFFD_WP),
                Entry::Marker(Marker::UFFD_WP) if matches!(change, Change::UffdResolve { .. }) => {
                    Entry::None
                }
                other => other,
            });
            continue;
        }
        let changed = match mm.tables.entry(place) {
            Entry::Present(present) => Entry::Present(change_present(world, vma, present, change)),
            Entry::Migration { pfn, bits, .. } => Entry::Migration {
                pfn,
                write: false,
                bits: change_swapped(bits, change),
            },
            Entry::Marker(marker) => {
                let lifts = matches!(change, Change::UffdResolve { .. });
                if !lifts || !marker.contains(Marker::UFFD_WP) {
                    continue;
                }
                Entry::None
            }
            Entry::None if protects => Entry::Marker(Marker::UFFD_WP),
            Entry::None | Entry::Table(_) | Entry::Swap { .. } | Entry::Hwpoison(_) => continue,
        };
        mm.tables.set(place, changed);
    }
}

/// `huge_pte_modify` and what follows it. A huge page never becomes writable here but by what
/// its mapping's entries may from the start.
fn change_present(world: &World, vma: &View, present: Present, change: Change) -> Present {
    let untried = match change {
        Change::Protection { .. } => Change::Protection {
            try_writable: false,
        },
        Change::UffdResolve { .. } => Change::UffdResolve {
            try_writable: false,
        },
        other => other,
    };
    crate::protect::change_present(world, vma, present, untried)
}

/// `copy_hugetlb_page_range`: gives the child the entries of the parent.
///
/// # Errors
///
/// `ENOMEM` where a pinned page would have to be copied and the pool is empty.
pub(crate) fn copy_range(
    world: &mut World,
    from: &mut Mm,
    to: &mut Mm,
    source: &View,
    copy: &View,
) -> Result<(), Errno> {
    let keeps_wp = copy.has(VmaFlags::UFFD_WP);
    for addr in pages(source, source.start, source.end) {
        let Some(place) = find(world, from, source, addr) else {
            continue;
        };
        let entry = from.tables.entry(place);
        if let Entry::Table(_) = entry {
            hgm::copy(world, from, to, copy, addr);
            continue;
        }
        let target = slot(world, to, copy, addr);
        let given = match entry {
            Entry::None | Entry::Table(_) | Entry::Swap { .. } => continue,
            Entry::Marker(mut marker) => {
                marker &= Marker::POISONED
                    | if keeps_wp {
                        Marker::UFFD_WP
                    } else {
                        Marker::empty()
                    };
                if marker.is_empty() {
                    continue;
                }
                Entry::Marker(marker)
            }
            Entry::Hwpoison(pfn) => Entry::Hwpoison(pfn),
            Entry::Migration { .. } => unreachable!("no operation leaves a page on its way"),
            Entry::Present(present) => {
                let given = share(world, from, source, copy, addr, place, present)?;
                Entry::Present(given)
            }
        };
        to.tables.set(target, given);
    }
    Ok(())
}

/// The child's entry for a page of the parent.
fn share(
    world: &mut World,
    from: &mut Mm,
    source: &View,
    copy: &View,
    addr: u64,
    place: Slot,
    present: Present,
) -> Result<Present, Errno> {
    let keeps_wp = copy.has(VmaFlags::UFFD_WP);
    let pfn = present.pfn;
    if world.frames.folio(pfn).is_anon() {
        let pinned = from.has_pinned && world.frames.folio(pfn).maybe_pinned();
        if pinned && world.frames.is_exclusive(pfn) {
            let new = reserve::alloc(world, copy, addr, true).ok_or(Errno::ENOMEM)?;
            copy_folio(world, pfn, new);
            add_anon_rmap(world, copy, addr, new);
            let entry = make_entry(world, copy, new, true);
            let protected = keeps_wp && present.has(Bits::UFFD_WP);
            return Ok(if protected { entry.mkuffd_wp() } else { entry });
        }
        world.frames.set_exclusive(pfn, false);
    }
    world.frames.get(pfn, 1);
    world.frames.add_rmap_entire(pfn);
    let mut given = present;
    if source.is_cow() {
        given = given.with(Bits::WRITE, false);
        from.tables.set_present(place, given);
    }
    if !keeps_wp {
        given = given.with(Bits::UFFD_WP, false);
    }
    Ok(given)
}

/// `move_hugetlb_page_tables`: moves the entries of `start..end` so that the first comes to `to`.
pub(crate) fn move_range(
    world: &mut World,
    mm: &mut Mm,
    vma: &View,
    start: u64,
    end: u64,
    to: u64,
    clears_wp: bool,
) {
    for addr in pages(vma, start, end) {
        let Some(from) = find(world, mm, vma, addr) else {
            continue;
        };
        let entry = mm.tables.entry(from);
        if entry == Entry::None {
            continue;
        }
        let target = slot(world, mm, vma, addr - start + to);
        if let Entry::Table(_) = entry {
            if clears_wp {
                let behind = addr + (1 << vma.page_shift);
                hgm::change(world, mm, addr, behind, |_, entry| match entry {
                    Entry::Present(present) => Entry::Present(present.with(Bits::UFFD_WP, false)),
                    Entry::Marker(Marker::UFFD_WP) => Entry::None,
                    other => other,
                });
            }
            mm.tables.move_table(from, target);
            continue;
        }
        mm.tables.set(from, Entry::None);
        let moved = match entry {
            Entry::Present(present) if clears_wp => {
                Entry::Present(present.with(Bits::UFFD_WP, false))
            }
            Entry::Marker(marker) if clears_wp && marker.contains(Marker::UFFD_WP) => Entry::None,
            other => other,
        };
        mm.tables.set(target, moved);
    }
}

/// `copy_user_large_folio`: copies the bytes of a huge page.
pub(crate) fn copy_folio(world: &mut World, from: Pfn, to: Pfn) {
    for page in 0..world.frames.folio(from).pages() {
        world.frames.copy(from.plus(page), to.plus(page));
    }
}

/// Addresses in the huge pages of `start..end`, of which the first and the last may be there in part.
fn pages(vma: &View, start: u64, end: u64) -> impl Iterator<Item = u64> + use<> {
    let size = 1_u64 << vma.page_shift;
    let count = (end - start).div_ceil(size);
    (0..count).map(move |page| start + page * size)
}

#[cfg(test)]
mod hgm_tests;
#[cfg(test)]
mod tests;
