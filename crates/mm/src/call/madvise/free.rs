//! `MADV_FREE` (`madvise_free_single_vma`, `madvise_free_pte_range`, `madvise_free_huge_pmd`).

use space::Errno;

use super::Part;
use super::dontneed::discardable;
use crate::entry::{Bits, Entry, Marker, Present};
use crate::folio::FolioFlags;
use crate::machine::{Machine, Mm, World};
use crate::stop::Stop;
use crate::table::{PMD, Slot};
use crate::thp;

impl Machine {
    pub(super) fn lazyfree(&mut self, part: &Part) -> Result<(), Stop> {
        let Some(end) = discardable(part)? else {
            return Ok(());
        };
        self.uffd_remove(part.tid, part.start, end)?;
        if !part.vma.is_anonymous() {
            return Err(Errno::EINVAL.into());
        }
        let (world, process) = self.halves(part.tid)?;
        let mm = &mut process.mm;
        let mut at = part.start;
        while let Some(run) = mm.tables.next_run(at, end) {
            at = run.end;
            let whole = run.end - run.start == world.profile.geometry().pmd_size();
            if run.slot.level == PMD && !whole {
                if thp::split_whole(world, mm, run.slot) {
                    at = run.start;
                }
                continue;
            }
            if run.slot.level > 0 {
                let alone = |present: Present| {
                    !present.has(Bits::SPECIAL) && world.frames.folio(present.pfn).mapcount == 1
                };
                match mm.tables.entry(run.slot) {
                    Entry::Present(present) if alone(present) => {
                        free(world, mm, run.slot, present);
                    }
                    _ => {}
                }
                continue;
            }
            let pages = (run.end - run.start) >> world.page_shift();
            let mut page = 0;
            while page < pages {
                let slot = Slot {
                    index: run.slot.index + usize::try_from(page).expect("few entries"),
                    ..run.slot
                };
                page += one(world, mm, slot, pages - page);
            }
        }
        Ok(())
    }
}

/// One entry of the lowest level, behind which `left` entries belong to the range, itself counted.
/// Returns how many were dealt with.
fn one(world: &mut World, mm: &mut Mm, slot: Slot, left: u64) -> u64 {
    let present = match mm.tables.entry(slot) {
        Entry::Present(present) => present,
        Entry::Swap { slot: place, .. } => {
            mm.tables.set(slot, Entry::None);
            crate::swap::put(world, place);
            return 1;
        }
        Entry::Hwpoison(_) => {
            mm.tables.set(slot, Entry::None);
            return 1;
        }
        Entry::Marker(marker) if marker.contains(Marker::POISONED) => {
            mm.tables.set(slot, Entry::None);
            return 1;
        }
        _ => return 1,
    };
    if present.has(Bits::SPECIAL) {
        return 1;
    }
    let Some(pages) = thp::split_part(world, mm, slot, present, left) else {
        return 1;
    };
    let folio = world.frames.folio(present.pfn);
    if folio
        .flags
        .intersects(FolioFlags::SWAPCACHE | FolioFlags::DIRTY)
    {
        if u64::from(folio.mapcount) != folio.pages() {
            return pages;
        }
        crate::swap::try_free(world, present.pfn);
        let folio = world.frames.folio(present.pfn);
        if folio.flags.contains(FolioFlags::SWAPCACHE) {
            return pages;
        }
    }
    for page in 0..pages {
        let index = slot.index + usize::try_from(page).expect("few entries");
        let place = Slot { index, ..slot };
        if let Entry::Present(present) = mm.tables.entry(place) {
            free(world, mm, place, present);
        }
    }
    pages
}

/// The page may be dropped from now on, until it is written again (`folio_mark_lazyfree`).
fn free(world: &mut World, mm: &mut Mm, slot: Slot, present: Present) {
    let clean = present.with(Bits::YOUNG | Bits::DIRTY, false);
    mm.tables.set_present(slot, clean);
    let folio = world.frames.folio_mut(present.pfn);
    folio.flags -= FolioFlags::DIRTY;
    folio.flags |= FolioFlags::LAZYFREE;
}
