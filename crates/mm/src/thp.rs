//! Transparent huge pages: huge entries of private memory, and their splitting.
//!
//! A huge entry maps a folio as a whole. It is split into entries of the lowest level, which map
//! the same folio page by page, as soon as something concerns a part of it.
//!
//! Linux reference: 6.18, `mm/huge_memory.c`.

use crate::entry::{Bits, Entry, Marker, Present};
use crate::fault::thp::is_suitable;
use crate::fault::{mkdirty, page_prot};
use crate::folio::{FolioFlags, Owner, Pfn, ZERO_PFN};
use crate::machine::{Mm, World};
use crate::protect::{Change, change_present};
use crate::rmap;
use crate::table::{PMD, Run, Slot};
use crate::vma::{View, VmaFlags};

/// Base-two logarithm of the number of base pages in a huge one (`HPAGE_PMD_ORDER`).
pub(crate) fn order(world: &World) -> u8 {
    u8::try_from(world.profile.geometry().level_bits()).expect("an order is small")
}

/// The huge zero page (`mm_get_huge_zero_folio`). It is made when it is first wanted, and stays.
pub(crate) fn zero_page(world: &mut World) -> Pfn {
    if let Some(pfn) = world.huge_zero {
        return pfn;
    }
    let order = order(world);
    let pfn = world.frames.alloc(order, Owner::Kernel);
    world.huge_zero = Some(pfn);
    pfn
}

/// Whether a run is all that a huge entry maps.
fn is_whole(world: &World, run: Run) -> bool {
    run.end - run.start == world.profile.geometry().pmd_size()
}

/// The huge entry of a run; `None` where it is none.
fn huge(mm: &Mm, run: Run) -> Option<Present> {
    match mm.tables.entry(run.slot) {
        Entry::Present(present) if run.slot.level == PMD => Some(present),
        _ => None,
    }
}

/// `__split_huge_pmd_locked`: puts a table in the place of a huge entry, whose entries map the
/// same pages and allow the same.
pub(crate) fn split(world: &mut World, mm: &mut Mm, slot: Slot) {
    let Entry::Present(huge) = mm.tables.entry(slot) else {
        return;
    };
    mm.tables.set(slot, Entry::None);
    if !huge.has(Bits::SPECIAL) && !world.frames.folio(huge.pfn).is_anon() {
        // The page of a file is found again by faults.
        unmap_huge(world, huge);
        return;
    }
    let table = mm.tables.put_table(slot);
    let is_zero = huge.has(Bits::SPECIAL);
    let bits = if is_zero {
        let kept = Bits::EXEC | Bits::PROT_NONE | Bits::UFFD_WP | Bits::SPECIAL;
        (huge.bits & kept) | Bits::YOUNG
    } else {
        huge.bits - Bits::HUGE
    };
    let exclusive = !is_zero && world.frames.is_exclusive(huge.pfn);
    if !is_zero {
        world.frames.remove_rmap_entire(huge.pfn);
    }
    let entries = mm.tables.geometry().entries();
    for index in 0..entries {
        let page = u64::try_from(index).expect("few entries");
        let pfn = if is_zero {
            ZERO_PFN
        } else {
            let pfn = huge.pfn.plus(page);
            world.frames.add_rmap(pfn);
            world.frames.set_exclusive(pfn, exclusive);
            pfn
        };
        let place = Slot {
            table,
            index,
            level: 0,
        };
        mm.tables.set_present(place, Present { pfn, bits });
    }
    if !is_zero {
        let pages = u32::try_from(entries).expect("few entries");
        world.frames.get(huge.pfn, pages - 1);
    }
}

/// `vma_adjust_trans_huge`: splits what lies across the new ends of mappings.
pub(crate) fn apply_cuts(world: &mut World, mm: &mut Mm) {
    let size = world.profile.geometry().pmd_size();
    while let Some(addr) = mm.vmas.cuts.pop() {
        if addr & (size - 1) == 0 {
            continue;
        }
        let hugetlb = mm
            .vmas
            .lookup(addr)
            .is_some_and(crate::vma::Vma::is_hugetlb);
        if let (Some(slot), false) = (mm.tables.find(addr, PMD), hugetlb) {
            split(world, mm, slot);
        }
    }
}

/// `zap_huge_pmd`: takes a huge entry out if the run covers it; splits it otherwise
/// (`__split_huge_pmd`) and says so.
pub(crate) fn zap(world: &mut World, mm: &mut Mm, _vma: &View, run: Run) -> bool {
    let Some(present) = huge(mm, run) else {
        return false;
    };
    if !is_whole(world, run) {
        split(world, mm, run.slot);
        return true;
    }
    mm.tables.set(run.slot, Entry::None);
    if !present.has(Bits::SPECIAL) {
        unmap_huge(world, present);
    }
    false
}

/// One huge entry less maps the page.
pub(crate) fn unmap_huge(world: &mut World, present: Present) {
    let folio = world.frames.folio_mut(present.pfn);
    if present.has(Bits::DIRTY) && !folio.is_anon() {
        folio.flags |= FolioFlags::DIRTY;
    }
    world.frames.remove_rmap_entire(present.pfn);
    world.frames.put(present.pfn, 1);
}

/// `try_to_unmap` of a file's page from one process, where small entries map it: what is protected
/// leaves a marker.
pub(crate) fn unmap_small(world: &mut World, mm: &mut Mm, pfn: Pfn) {
    for mapped in rmap::mappings(world, mm, pfn) {
        if mapped.slot.level > 0 {
            continue;
        }
        let marks = mapped.present.has(Bits::UFFD_WP) && crate::zap::keeps_markers(&mapped.vma);
        let left = if marks {
            Entry::Marker(Marker::UFFD_WP)
        } else {
            Entry::None
        };
        mm.tables.set(mapped.slot, left);
        crate::zap::unmap_page(world, mapped.present);
    }
}

/// `do_set_pmd`: maps the huge page of a file as a whole at a fault's or a call's address; tells
/// whether that could be done.
pub(crate) fn map_file(
    world: &mut World,
    mm: &mut Mm,
    vma: &View,
    addr: u64,
    pfn: Pfn,
    write: bool,
) -> bool {
    let size = world.profile.geometry().pmd_size();
    let addr = addr & !(size - 1);
    let folio = world.frames.folio(pfn);
    let (first, pages) = (folio.first, folio.pages());
    let refused = mm.thp_disabled || vma.has(VmaFlags::NOHUGEPAGE);
    let broken = (0..pages).any(|page| crate::failure::is_broken(world, first.plus(page)));
    if refused || broken || folio.order != order(world) || !is_suitable(vma, addr, size) {
        return false;
    }
    let Some(slot) = mm.tables.alloc_to(addr, PMD) else {
        return false;
    };
    if mm.tables.word(slot) != 0 {
        return false;
    }
    let mut entry = Present {
        pfn: first,
        bits: page_prot(world, vma) | Bits::HUGE | Bits::YOUNG,
    };
    if write {
        entry = mkdirty(world, entry).with(Bits::WRITE, vma.has(VmaFlags::WRITE));
    }
    mm.tables.set_present(slot, entry);
    world.frames.get(first, 1);
    world.frames.add_rmap_entire(first);
    true
}

/// `change_huge_pmd`: changes a huge entry if the run covers it; splits it otherwise and says so.
pub(crate) fn change(world: &mut World, mm: &mut Mm, vma: &View, run: Run, change: Change) -> bool {
    let Some(present) = huge(mm, run) else {
        return false;
    };
    // pgtable_split_needed: the protection of a file's pages is kept in small entries.
    let by_pages = change == Change::UffdProtect && !vma.is_anonymous();
    if by_pages || !is_whole(world, run) {
        split(world, mm, run.slot);
        return true;
    }
    let changed = change_present(world, vma, present, change);
    mm.tables.set_present(run.slot, changed);
    false
}

/// `copy_huge_pmd`: gives the child a huge entry of the parent; splits it where that can't be
/// (it is pinned) and says so.
pub(crate) fn copy(
    world: &mut World,
    from: &mut Mm,
    to: &mut Mm,
    _source: &View,
    copy: &View,
    run: Run,
) -> bool {
    let Some(present) = huge(from, run) else {
        return false;
    };
    if !copy.is_anonymous() {
        // The child finds it by faults.
        return false;
    }
    if !is_whole(world, run) {
        split(world, from, run.slot);
        return true;
    }
    if !present.has(Bits::SPECIAL) {
        let pinned = from.has_pinned && world.frames.folio(present.pfn).maybe_pinned();
        if pinned && world.frames.is_exclusive(present.pfn) {
            split(world, from, run.slot);
            return true;
        }
        world.frames.set_exclusive(present.pfn, false);
        world.frames.get(present.pfn, 1);
        world.frames.add_rmap_entire(present.pfn);
    }
    let parent = present.with(Bits::WRITE, false);
    from.tables.set_present(run.slot, parent);
    let mut given = parent.with(Bits::YOUNG, false);
    if !copy.has(VmaFlags::UFFD_WP) {
        given = given.with(Bits::UFFD_WP, false);
    }
    let target = to
        .tables
        .alloc_to(run.start, PMD)
        .expect("a child has no larger entry in the way");
    to.tables.set_present(target, given);
    false
}

/// `move_huge_pmd`: moves a huge entry that the run covers to `to`; splits it where that is not
/// aligned and says so.
pub(crate) fn relocate(
    world: &mut World,
    mm: &mut Mm,
    _vma: &View,
    run: Run,
    to: u64,
    clears_wp: bool,
) -> bool {
    let Some(present) = huge(mm, run) else {
        return false;
    };
    let aligned = to & (world.profile.geometry().pmd_size() - 1) == 0;
    let target = (is_whole(world, run) && aligned)
        .then(|| mm.tables.alloc_to(to, PMD))
        .flatten()
        .filter(|&target| mm.tables.word(target) == 0);
    let Some(target) = target else {
        split(world, mm, run.slot);
        return true;
    };
    let dirty = present.has(Bits::SOFT_DIRTY) || world.profile.soft_dirty;
    let protected = present.has(Bits::UFFD_WP) && !clears_wp;
    let moved = present
        .with(Bits::SOFT_DIRTY, dirty)
        .with(Bits::UFFD_WP, protected);
    mm.tables.set(run.slot, Entry::None);
    mm.tables.set_present(target, moved);
    false
}

/// `split_folio` of what a huge entry maps: splits entry and folio if nobody else has any of it;
/// tells whether there are small pages now.
pub(crate) fn split_whole(world: &mut World, mm: &mut Mm, slot: Slot) -> bool {
    let Entry::Present(present) = mm.tables.entry(slot) else {
        return false;
    };
    if present.has(Bits::SPECIAL) || world.frames.folio(present.pfn).mapcount > 1 {
        return false;
    }
    split(world, mm, slot);
    if world.frames.folio(present.pfn).is_anon() {
        split_folio(world, present.pfn);
        return true;
    }
    let folio = world.frames.folio(present.pfn);
    if folio.refcount == folio.cache_references() {
        world.frames.get(present.pfn, 1);
        split_mapped(world, present.pfn);
        world.frames.put(present.pfn, 1);
    }
    true
}

/// A folio of which a range has only a part is split, if nobody else has any of it. `left`
/// entries of the range begin with that of `slot`. Returns how many entries, from that one on,
/// are one folio; `None` where the page of the entry is to be left alone.
pub(crate) fn split_part(
    world: &mut World,
    mm: &Mm,
    slot: Slot,
    present: Present,
    left: u64,
) -> Option<u64> {
    let folio = world.frames.folio(present.pfn);
    let pages = folio.pages();
    if pages == 1 {
        return Some(1);
    }
    let follows = |page: u64| {
        let index = slot.index + usize::try_from(page).expect("few entries");
        let place = Slot { index, ..slot };
        index < mm.tables.geometry().entries()
            && matches!(mm.tables.entry(place), Entry::Present(next) if next.pfn == folio.first.plus(page))
    };
    let covered =
        present.pfn == folio.first && folio.pages() <= left && (0..folio.pages()).all(follows);
    if covered {
        return Some(pages);
    }
    split_folio(world, present.pfn).then_some(1)
}

/// `__split_unmapped_folio`: makes the pages of a folio that nobody maps as a whole folios of their
/// own. Pages that nobody has are freed. The caller's reference goes to `pfn`.
pub(crate) fn split_mapped(world: &mut World, pfn: Pfn) {
    let folio = world.frames.folio(pfn);
    let (first, pages) = (folio.first, folio.pages());
    let cached = matches!(folio.owner, Owner::File { .. });
    world.frames.split(first);
    for page in 0..pages {
        let at = first.plus(page);
        // The first has the caller's reference and those of the page cache for all pages.
        if page > 0 && cached {
            world.frames.get(at, 1);
            world.frames.put(first, 1);
        }
        if at == pfn {
            world.frames.get(at, 1);
            continue;
        }
        if page > 0 && world.frames.folio(at).refcount == 0 {
            world.frames.get(at, 1);
            world.frames.put(at, 1);
        }
    }
    world.frames.put(first, 1);
}

/// `split_folio`: makes the pages of a folio that one process has page by page folios of their own;
/// tells whether that could be done. Pages that nobody maps any more are freed.
pub(crate) fn split_folio(world: &mut World, pfn: Pfn) -> bool {
    let folio = world.frames.folio(pfn);
    let pages = folio.pages();
    let first = folio.first;
    let shared = (0..pages).any(|page| world.frames.frame(first.plus(page)).mapcount > 1);
    if folio.entire_mapcount > 0 || shared || folio.refcount != folio.mapcount {
        return false;
    }
    // The reference of the caller keeps the first page while the folio is split.
    world.frames.get(first, 1);
    world.frames.split(first);
    for page in 1..pages {
        let at = first.plus(page);
        if world.frames.folio(at).refcount == 0 {
            world.frames.get(at, 1);
            world.frames.put(at, 1);
        }
    }
    world.frames.put(first, 1);
    true
}
