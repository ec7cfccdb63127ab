//! `MADV_COLD` and `MADV_PAGEOUT` (`madvise_cold_or_pageout_pte_range`), and what becomes of the
//! pages that are given to the reclaim (`shrink_folio_list`, `try_to_unmap_one`).
//!
//! What the reclaim does is done at once here; the kernel writes to swap in the background.

use space::Errno;

use super::Part;
use crate::entry::{Bits, Entry, Marker, Present, SwapBits};
use crate::file::{Cached, FileId, drop_cached};
use crate::folio::{FolioFlags, Owner};
use crate::machine::{Machine, Mm, World};
use crate::stop::Stop;
use crate::table::{PMD, Slot};
use crate::thp;
use crate::uapi::madv;
use crate::vma::{View, VmaFlags};

impl Machine {
    pub(super) fn pageout(&mut self, part: &Part) -> Result<(), Stop> {
        // can_madv_lru_vma
        if part
            .vma
            .flags
            .intersects(VmaFlags::LOCKED | VmaFlags::HUGETLB)
        {
            return Err(Errno::EINVAL.into());
        }
        let (world, process) = self.halves(part.tid)?;
        let mm = &mut process.mm;
        let mut at = part.start;
        while let Some(run) = mm.tables.next_run(at, part.end) {
            at = run.end;
            let whole = run.end - run.start == world.profile.geometry().pmd_size();
            if run.slot.level == PMD && (!whole || world.swap.free_pages() > 0) {
                if thp::split_whole(world, mm, run.slot) {
                    at = run.start;
                }
                continue;
            }
            if run.slot.level > 0 {
                huge(world, mm, part, run.slot);
                continue;
            }
            let pages = (run.end - run.start) >> world.page_shift();
            let mut page = 0;
            while page < pages {
                let slot = Slot {
                    index: run.slot.index + usize::try_from(page).expect("few entries"),
                    ..run.slot
                };
                page += match mm.tables.entry(slot) {
                    Entry::Present(present) => one(world, mm, part, slot, present, pages - page),
                    _ => 1,
                };
            }
        }
        Ok(())
    }
}

/// A huge entry, all of which is meant.
fn huge(world: &mut World, mm: &mut Mm, part: &Part, slot: Slot) {
    let Entry::Present(present) = mm.tables.entry(slot) else {
        return;
    };
    if present.has(Bits::SPECIAL) || world.frames.folio(present.pfn).mapcount > 1 {
        return;
    }
    if part.advice == madv::COLD {
        let old = present.with(Bits::YOUNG, false);
        mm.tables.set_present(slot, old);
        return;
    }
    let folio = world.frames.folio(present.pfn);
    if folio.flags.contains(FolioFlags::MLOCKED) {
        return;
    }
    if !folio.is_anon() {
        // Without swap it stays in memory, but it was taken out of the page tables first.
        mm.tables.set(slot, Entry::None);
        thp::unmap_huge(world, present);
        return;
    }
    let clean = !present.has(Bits::DIRTY) && !folio.flags.contains(FolioFlags::DIRTY);
    let lazy = folio.flags.contains(FolioFlags::LAZYFREE);
    if lazy && clean && folio.refcount == folio.mapcount {
        mm.tables.set(slot, Entry::None);
        world.frames.remove_rmap_entire(present.pfn);
        world.frames.put(present.pfn, 1);
    } else {
        world.frames.folio_mut(present.pfn).flags -= FolioFlags::LAZYFREE;
    }
}

/// One entry of the lowest level, behind which `left` entries belong to the range, itself counted.
/// Returns how many were dealt with.
fn one(
    world: &mut World,
    mm: &mut Mm,
    part: &Part,
    slot: Slot,
    present: Present,
    left: u64,
) -> u64 {
    if present.has(Bits::SPECIAL) {
        return 1;
    }
    let Some(pages) = thp::split_part(world, mm, slot, present, left) else {
        return 1;
    };
    let folio = world.frames.folio(present.pfn);
    if u64::from(folio.mapcount) == folio.pages() {
        if part.advice == madv::COLD {
            let old = present.with(Bits::YOUNG, false);
            mm.tables.set_present(slot, old);
        } else if pages == 1 && !folio.flags.contains(FolioFlags::MLOCKED) {
            reclaim(world, mm, &part.vma, slot, present);
        }
    }
    pages
}

/// `shrink_folio_list` for one page that is mapped once.
fn reclaim(world: &mut World, mm: &mut Mm, vma: &View, slot: Slot, present: Present) {
    match world.frames.folio(present.pfn).owner {
        Owner::Kernel => {}
        Owner::File { file, index } => {
            unmap(world, mm, vma, slot, present);
            drop_or_write(world, file, index);
        }
        Owner::Anon { .. } => reclaim_anon(world, mm, slot, present),
    }
}

/// `try_to_unmap_one` for a page of a file.
fn unmap(world: &mut World, mm: &mut Mm, vma: &View, slot: Slot, present: Present) {
    let marks = present.has(Bits::UFFD_WP) && crate::zap::keeps_markers(vma);
    let left = if marks {
        Entry::Marker(Marker::UFFD_WP)
    } else {
        Entry::None
    };
    mm.tables.set(slot, left);
    crate::zap::unmap_page(world, present);
}

/// `__remove_mapping` of a clean page; a dirty one goes to swap, if there is some.
fn drop_or_write(world: &mut World, file: FileId, index: u64) {
    let Some(&Cached::Page(pfn)) = world.files.get(file).pages.get(&index) else {
        return;
    };
    let folio = world.frames.folio(pfn);
    if folio.order > 0 || folio.refcount != folio.cache_references() {
        return;
    }
    let kept = if folio.flags.contains(FolioFlags::DIRTY) {
        let content = world.frames.frame(pfn).content.clone();
        let Some(slot) = world.swap.write(content) else {
            return;
        };
        Some(Cached::Swap(slot))
    } else {
        None
    };
    let pages = &mut world.files.get_mut(file).pages;
    match kept {
        Some(kept) => pages.insert(index, kept),
        None => pages.remove(&index),
    };
    drop_cached(world, index, Cached::Page(pfn));
}

fn reclaim_anon(world: &mut World, mm: &mut Mm, slot: Slot, present: Present) {
    let pfn = present.pfn;
    let folio = world.frames.folio(pfn);
    if folio.flags.contains(FolioFlags::LAZYFREE) {
        let dirty = present.has(Bits::DIRTY) || folio.flags.contains(FolioFlags::DIRTY);
        if dirty || folio.refcount != folio.mapcount {
            let folio = world.frames.folio_mut(pfn);
            folio.flags -= FolioFlags::LAZYFREE;
            folio.flags.set(FolioFlags::DIRTY, dirty);
            return;
        }
        mm.tables.set(slot, Entry::None);
        crate::zap::unmap_page(world, present);
        return;
    }
    if folio.maybe_pinned() || folio.flags.contains(FolioFlags::SWAPCACHE) {
        return;
    }
    let content = world.frames.frame(pfn).content.clone();
    let Some(place) = world.swap.write(content) else {
        return;
    };
    let mut bits = SwapBits::empty();
    bits.set(SwapBits::EXCLUSIVE, world.frames.is_exclusive(pfn));
    bits.set(SwapBits::SOFT_DIRTY, present.has(Bits::SOFT_DIRTY));
    bits.set(SwapBits::UFFD_WP, present.has(Bits::UFFD_WP));
    mm.tables.set(slot, Entry::Swap { slot: place, bits });
    world.frames.set_exclusive(pfn, false);
    world.frames.remove_rmap(pfn);
    crate::swap::keep_if_referenced(world, place, pfn);
}
