//! Taking pages out of page tables: `zap_pte_range` and those who call it.
//!
//! Linux reference: 6.18, `mm/memory.c` (`unmap_vmas`, `zap_page_range_single`,
//! `unmap_mapping_range`, `zap_nonpresent_ptes`), `mm/pt_reclaim.c`.

use crate::entry::{Bits, Entry, Marker, Present, SwapBits};
use crate::file::FileId;
use crate::folio::FolioFlags;
use crate::machine::{Machine, Mm, World};
use crate::table::Slot;
use crate::vma::{View, VmaFlags};

/// What goes with the pages (`struct zap_details`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Zap {
    /// Private copies go, too.
    pub(crate) even_cows: bool,
    /// Markers go, too: the mapping or the end of the file does.
    pub(crate) drop_markers: bool,
    /// Tables that are empty afterwards are freed.
    pub(crate) reclaim_tables: bool,
}

impl Zap {
    /// `munmap`, `exit`: all goes.
    pub(crate) const UNMAP: Self = Self {
        even_cows: true,
        drop_markers: true,
        reclaim_tables: false,
    };
    /// `MADV_DONTNEED` and its like: what markers say stays.
    pub(crate) const DISCARD: Self = Self {
        even_cows: true,
        drop_markers: false,
        reclaim_tables: true,
    };
}

/// `zap_page_range_single`, `unmap_single_vma`: takes the pages of `start..end` out of one
/// mapping.
pub(crate) fn zap_range(
    world: &mut World,
    mm: &mut Mm,
    vma: &View,
    start: u64,
    end: u64,
    how: Zap,
) {
    let (start, end) = (start.max(vma.start), end.min(vma.end));
    if start >= end {
        return;
    }
    if vma.is_hugetlb() {
        crate::file::hugetlb::unmap_range(world, mm, vma, start, end, how);
        return;
    }
    let page_size = world.page_size();
    let mut at = start;
    while let Some(run) = mm.tables.next_run(at, end) {
        at = run.end;
        if run.slot.level > 0 {
            // A huge page goes as a whole, or is split first and then looked at again.
            if crate::thp::zap(world, mm, vma, run) {
                at = run.start;
            }
            continue;
        }
        let mut slot = run.slot;
        let mut addr = run.start;
        let mut skipped = false;
        while addr < run.end {
            if mm.tables.word(slot) != 0 {
                skipped |= zap_entry(world, mm, vma, slot, how);
            }
            slot.index += 1;
            addr += page_size;
        }
        // The kernel looks at whole tables only, and at those in which nothing was kept.
        let whole = run.end - run.start == mm.tables.geometry().pmd_size();
        let reclaims = how.reclaim_tables && world.profile.reclaims_tables;
        if reclaims && whole && !skipped {
            mm.tables.free_if_empty(run.start);
        }
    }
}

/// Takes one entry out; tells whether something was left there.
fn zap_entry(world: &mut World, mm: &mut Mm, vma: &View, slot: Slot, how: Zap) -> bool {
    let entry = mm.tables.entry(slot);
    let goes = match entry {
        Entry::None | Entry::Table(_) => return false,
        Entry::Present(present) => {
            let special = present.has(Bits::SPECIAL);
            let private = !special && world.frames.folio(present.pfn).is_anon();
            let goes = how.even_cows || !private;
            if goes && !special {
                unmap_page(world, present);
            }
            goes
        }
        Entry::Swap { slot: place, .. } => {
            if how.even_cows {
                crate::swap::put(world, place);
            }
            how.even_cows
        }
        Entry::Migration { .. } => true,
        Entry::Marker(marker) if marker.contains(Marker::UFFD_WP) => {
            vma.is_anonymous() || how.drop_markers
        }
        Entry::Marker(marker) if marker.contains(Marker::GUARD) => how.drop_markers,
        Entry::Marker(_) | Entry::Hwpoison(_) => how.even_cows,
    };
    if !goes {
        return true;
    }
    let marks = keeps_uffd_wp(vma, entry, how);
    let left = if marks {
        Entry::Marker(Marker::UFFD_WP)
    } else {
        Entry::None
    };
    mm.tables.set(slot, left);
    marks
}

/// One entry less maps the page.
pub(crate) fn unmap_page(world: &mut World, present: Present) {
    let folio = world.frames.folio_mut(present.pfn);
    if present.has(Bits::DIRTY) && !folio.is_anon() {
        folio.flags |= FolioFlags::DIRTY;
    }
    world.frames.remove_rmap(present.pfn);
    world.frames.put(present.pfn, 1);
    if world.profile.swap_pages > 0 {
        crate::swap::unmapped(world, present.pfn);
    }
}

/// `pte_install_uffd_wp_if_needed`: whether protection outlives the pages of a mapping. Entries may
/// be protected from a registration that is no more.
pub(crate) fn keeps_markers(vma: &View) -> bool {
    !vma.is_anonymous() && vma.flags.intersects(VmaFlags::UFFD_WP | VmaFlags::UFFD_RWP)
}

/// `zap_install_uffd_wp_if_needed`: the protection of a file's page outlives the entry.
fn keeps_uffd_wp(vma: &View, entry: Entry, how: Zap) -> bool {
    if vma.is_anonymous() || how.drop_markers || !keeps_markers(vma) {
        return false;
    }
    match entry {
        Entry::Present(present) => present.has(Bits::UFFD_WP),
        Entry::Swap { bits, .. } | Entry::Migration { bits, .. } => {
            bits.contains(SwapBits::UFFD_WP)
        }
        Entry::Marker(marker) => marker.is_protected(),
        Entry::None | Entry::Table(_) | Entry::Hwpoison(_) => false,
    }
}

impl Machine {
    /// `unmap_mapping_range`: takes the pages `first..behind` of a file out of all who map them.
    pub(crate) fn unmap_file(&mut self, file: FileId, first: u64, behind: u64, how: Zap) {
        let (world, processes) = self.all();
        let page_shift = world.page_shift();
        for process in processes {
            let mm = &mut process.mm;
            for index in 0..mm.vmas.len() {
                let vma = mm.vmas.at(index);
                if vma.file != Some(file) {
                    continue;
                }
                let view = vma.view();
                let behind_vma = view.pgoff + ((view.end - view.start) >> page_shift);
                let from = first.max(view.pgoff);
                let to = behind.min(behind_vma);
                if from < to {
                    let start = view.start + ((from - view.pgoff) << page_shift);
                    let end = view.start + ((to - view.pgoff) << page_shift);
                    zap_range(world, mm, &view, start, end, how);
                }
            }
        }
    }
}
