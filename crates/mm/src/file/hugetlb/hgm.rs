//! High-granularity mapping (HGM): a page of hugetlb that is mapped by small entries, piece by piece.
//!
//! Proposed in 2022 and 2023 for the memory of virtual machines that are on their way, and never
//! merged: [`Profile::hgm`](crate::Profile::hgm) switches it on. `MADV_SPLIT` says that a shared mapping
//! may have small entries; `UFFDIO_CONTINUE` of less than a huge page makes them, and so do faults
//! beside them, and broken memory takes one of them only. `MADV_COLLAPSE` puts the huge entry back.
//!
//! Of the sizes between a base page and the mapping's own none is used. How mappings by pieces are
//! to be counted was the open question: see [`counts`](super::hgm_counts). The entries themselves are
//! counted here as those of a transparent huge page are.

use space::Errno;

use crate::entry::{Bits, Entry, Marker, Present};
use crate::file::FileId;
use crate::file::hugetlb;
use crate::folio::Pfn;
use crate::machine::{Mm, World};
use crate::table::Slot;
use crate::vma::{View, VmaFlags};
use crate::zap::Zap;

/// `vma_hugetlb_hgm`: whether a mapping may have small entries.
pub(crate) fn is_on(vma: &View) -> bool {
    vma.has(VmaFlags::HUGETLB_HGM)
}

/// `MADV_SPLIT` of a part of a mapping.
///
/// # Errors
///
/// `EINVAL` where HGM is not to be had: but of shared mappings of hugetlb, in whole pages.
pub(crate) fn split_flags(
    world: &World,
    vma: &View,
    start: u64,
    end: u64,
) -> Result<VmaFlags, Errno> {
    let mask = (1_u64 << vma.page_shift) - 1;
    let eligible = world.profile.hgm.is_some() && vma.has(VmaFlags::HUGETLB | VmaFlags::MAYSHARE);
    if !eligible || (start | end) & mask != 0 {
        return Err(Errno::EINVAL);
    }
    Ok(vma.flags | VmaFlags::HUGETLB_HGM)
}

/// The size that an event is told for, and that calls may ask for: `hugetlb_pte_size` at its smallest.
pub(crate) fn granularity(world: &World, vma: &View) -> u32 {
    if is_on(vma) {
        world.page_shift()
    } else {
        vma.page_shift
    }
}

/// `for_each_hgm_shift`: how much of `left` bytes `UFFDIO_CONTINUE` maps at once at `addr`.
pub(crate) fn step(world: &World, vma: &View, addr: u64, left: u64) -> u32 {
    let Some(hgm) = &world.profile.hgm else {
        return vma.page_shift;
    };
    let size = 1_u64 << vma.page_shift;
    let whole = addr & (size - 1) == 0 && left >= size;
    if is_on(vma) && (hgm.always_small || !whole) {
        world.page_shift()
    } else {
        vma.page_shift
    }
}

/// The place of the small entry of an address; what was said for the huge page is said for each of its
/// pieces then.
pub(crate) fn small_slot(world: &mut World, mm: &mut Mm, vma: &View, addr: u64) -> Slot {
    let size = 1_u64 << vma.page_shift;
    let place = hugetlb::slot(world, mm, vma, addr & !(size - 1));
    let whole = mm.tables.entry(place);
    if !matches!(whole, Entry::None | Entry::Table(_)) {
        split(world, mm, vma, addr & !(size - 1), place);
    }
    mm.tables
        .alloc_to(addr, 0)
        .expect("nothing larger is in the way any more")
}

/// Puts small entries in the place of a huge one, that say the same.
pub(crate) fn split(world: &mut World, mm: &mut Mm, vma: &View, addr: u64, place: Slot) {
    let whole = mm.tables.entry(place);
    mm.tables.set(place, Entry::None);
    if let Entry::Present(huge) = whole {
        let pieces = pieces(world, vma);
        world.frames.remove_rmap_entire(huge.pfn);
        world.frames.get(huge.pfn, pieces - 1);
    }
    for page in 0..u64::from(pieces(world, vma)) {
        let piece = match whole {
            Entry::Present(huge) => {
                world.frames.add_rmap(huge.pfn.plus(page));
                Entry::Present(Present {
                    pfn: huge.pfn.plus(page),
                    bits: huge.bits - Bits::HUGE,
                })
            }
            Entry::Hwpoison(pfn) => Entry::Hwpoison(pfn.plus(page)),
            other => other,
        };
        let at = addr + (page << world.page_shift());
        let slot = mm.tables.alloc_to(at, 0).expect("the huge entry is gone");
        mm.tables.set(slot, piece);
    }
}

fn pieces(world: &World, vma: &View) -> u32 {
    1 << (vma.page_shift - world.page_shift())
}

/// Maps one piece of what the file has there.
///
/// # Errors
///
/// `EFAULT` where the file has nothing, `EIO` where the piece is broken, `ENOMEM` where the page has
/// so many references that they might overflow.
pub(crate) fn map_piece(
    world: &mut World,
    mm: &mut Mm,
    vma: &View,
    addr: u64,
    protected: bool,
) -> Result<(), Errno> {
    let file = vma.file.expect("hugetlb has a file");
    let pfn = piece_of(world, vma, file, addr).ok_or(Errno::EFAULT)?;
    if crate::failure::is_broken(world, pfn) {
        return Err(Errno::EIO);
    }
    let most = world
        .profile
        .hgm
        .as_ref()
        .map_or(u32::MAX, |hgm| hgm.references_max);
    if world.frames.folio(pfn).refcount >= most {
        return Err(Errno::ENOMEM);
    }
    let slot = small_slot(world, mm, vma, addr);
    let mut entry = hugetlb::make_entry(world, vma, pfn, true);
    entry = entry.with(Bits::HUGE, false).with(Bits::DIRTY, true);
    if protected {
        entry = entry.mkuffd_wp();
    }
    mm.tables.set_present(slot, entry);
    world.frames.get(pfn, 1);
    world.frames.add_rmap(pfn);
    Ok(())
}

/// The frame that a file has for an address.
fn piece_of(world: &World, vma: &View, file: FileId, addr: u64) -> Option<Pfn> {
    let size = 1_u64 << vma.page_shift;
    let index = vma.index_of(addr & !(size - 1), world.page_shift());
    let first = world.files.get(file).page(index)?;
    Some(first.plus((addr & (size - 1)) >> world.page_shift()))
}

/// Takes the small entries of `start..end` out.
pub(crate) fn unmap(world: &mut World, mm: &mut Mm, vma: &View, start: u64, end: u64, how: Zap) {
    let marks_stay = !how.drop_markers && crate::zap::keeps_markers(vma);
    change(world, mm, start, end, |world, entry| {
        let marks = match entry {
            Entry::Present(present) => present.has(Bits::UFFD_WP),
            Entry::Marker(marker) => marker.contains(Marker::UFFD_WP),
            _ => false,
        };
        if let Entry::Present(present) = entry {
            crate::zap::unmap_page(world, present);
        }
        if marks && marks_stay {
            Entry::Marker(Marker::UFFD_WP)
        } else {
            Entry::None
        }
    });
    mm.tables.free_if_empty(start);
}

/// Changes each small entry of `start..end`, all of one huge page.
pub(crate) fn change(
    world: &mut World,
    mm: &mut Mm,
    start: u64,
    end: u64,
    mut how: impl FnMut(&mut World, Entry) -> Entry,
) {
    for addr in (start..end).step_by(world.frames.page_size()) {
        if let Some(slot) = mm.tables.find(addr, 0) {
            let changed = how(world, mm.tables.entry(slot));
            mm.tables.set(slot, changed);
        }
    }
}

/// `copy_hugetlb_page_range`: the child of a fork gets the pieces that its parent has.
pub(crate) fn copy(world: &mut World, from: &Mm, to: &mut Mm, copy: &View, addr: u64) {
    for page in 0..u64::from(pieces(world, copy)) {
        let at = addr + (page << world.page_shift());
        let given = match from.tables.lookup(at).1 {
            Entry::None => continue,
            Entry::Present(present) => {
                world.frames.get(present.pfn, 1);
                world.frames.add_rmap(present.pfn);
                let keeps = copy.has(VmaFlags::UFFD_WP) && present.has(Bits::UFFD_WP);
                Entry::Present(present.with(Bits::UFFD_WP, keeps))
            }
            Entry::Marker(Marker::UFFD_WP) if !copy.has(VmaFlags::UFFD_WP) => continue,
            other => other,
        };
        let slot = to
            .tables
            .alloc_to(at, 0)
            .expect("the child has no huge entry there");
        to.tables.set(slot, given);
    }
}

/// `hugetlb_collapse` of one huge page: the huge entry takes the place of the small ones, and what they
/// left out is mapped with it. A page that is broken in a part stays in pieces.
///
/// # Errors
///
/// `EINVAL` where some pieces are protected and others are not.
pub(crate) fn collapse(world: &mut World, mm: &mut Mm, vma: &View, addr: u64) -> Result<(), Errno> {
    let place = hugetlb::slot(world, mm, vma, addr);
    let Entry::Table(_) = mm.tables.entry(place) else {
        return Ok(());
    };
    let size = 1_u64 << vma.page_shift;
    let file = vma.file.expect("hugetlb has a file");
    let Some(pfn) = piece_of(world, vma, file, addr) else {
        return Ok(());
    };
    let (mut protected, mut plain, mut broken) = (false, false, false);
    change(world, mm, addr, addr + size, |_, entry| {
        match entry {
            Entry::Present(present) if present.has(Bits::UFFD_WP) => protected = true,
            Entry::Marker(marker) if marker.contains(Marker::UFFD_WP) => protected = true,
            Entry::Hwpoison(_) | Entry::Marker(_) => broken = true,
            _ => plain = true,
        }
        entry
    });
    if broken {
        return Ok(());
    }
    if protected && plain {
        return Err(Errno::EINVAL);
    }
    // The pieces go one by one, the last with the table; the page stays, for the file has it.
    unmap(world, mm, vma, addr, addr + size, Zap::UNMAP);
    let mut entry = hugetlb::make_entry(world, vma, pfn, true);
    if protected {
        entry = entry.mkuffd_wp();
    }
    let place = hugetlb::slot(world, mm, vma, addr);
    mm.tables.set_present(place, entry);
    world.frames.get(pfn, 1);
    world.frames.add_rmap_entire(pfn);
    Ok(())
}
