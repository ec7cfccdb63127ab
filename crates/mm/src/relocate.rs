//! Moving page table entries to other addresses: `move_page_tables`.
//!
//! Linux reference: 6.18, `mm/mremap.c` (`move_page_tables`, `move_ptes`, `move_normal_pmd`).

use crate::entry::{Bits, Entry, Marker, SwapBits};
use crate::machine::{Mm, World};
use crate::table::PMD;
use crate::vma::View;

/// Moves the entries of `start..end` so that the first comes to `to`. What they map gets a new
/// address and nothing else, but that it counts as soft-dirty (unless its whole page table moves:
/// seen on 6.1 and 6.12), and that userfaultfd protection is lifted where the mapping won't stay
/// registered (`clears_wp`).
pub(crate) fn move_page_tables(
    world: &mut World,
    mm: &mut Mm,
    vma: &View,
    start: u64,
    end: u64,
    to: u64,
    clears_wp: bool,
) {
    if vma.is_hugetlb() {
        crate::file::hugetlb::move_range(world, mm, vma, start, end, to, clears_wp);
        return;
    }
    let page_size = world.page_size();
    let pmd_size = mm.tables.geometry().pmd_size();
    let aligned = (start ^ to) & (pmd_size - 1) == 0;
    let mut at = start;
    while let Some(run) = mm.tables.next_run(at, end) {
        at = run.end;
        let target = to + (run.start - start);
        if run.slot.level > 0 {
            if crate::thp::relocate(world, mm, vma, run, target, clears_wp) {
                at = run.start;
            }
            continue;
        }
        let whole = run.end - run.start == pmd_size;
        if whole && aligned && !clears_wp {
            let from = mm.tables.walk(run.start, PMD);
            let free = mm.tables.alloc_to(target, PMD);
            if let Some(free) = free.filter(|&slot| mm.tables.word(slot) == 0) {
                mm.tables.move_table(from, free);
                continue;
            }
        }
        // The new addresses get tables whether or not anything moves there.
        let mut at_target = target;
        while at_target < target + (run.end - run.start) {
            mm.tables.alloc_to(at_target, 0);
            at_target = (at_target & !(pmd_size - 1)) + pmd_size;
        }
        let mut slot = run.slot;
        let mut addr = run.start;
        while addr < run.end {
            let moved = moved_entry(world, mm.tables.entry(slot), clears_wp);
            if mm.tables.word(slot) != 0 {
                mm.tables.set(slot, Entry::None);
            }
            if moved != Entry::None {
                let place = mm.tables.alloc_to(to + (addr - start), 0);
                mm.tables
                    .set(place.expect("the new addresses were empty"), moved);
            }
            slot.index += 1;
            addr += page_size;
        }
    }
}

/// `move_soft_dirty_pte`, and what becomes of protection.
fn moved_entry(world: &World, entry: Entry, clears_wp: bool) -> Entry {
    match entry {
        Entry::Present(present) => {
            let dirty = present.has(Bits::SOFT_DIRTY) || world.profile.soft_dirty;
            let protected = present.has(Bits::UFFD_WP) && !clears_wp;
            let moved = present.with(Bits::SOFT_DIRTY, dirty);
            Entry::Present(moved.with(Bits::UFFD_WP, protected))
        }
        Entry::Swap { slot, mut bits } => {
            bits.set(
                SwapBits::SOFT_DIRTY,
                bits.contains(SwapBits::SOFT_DIRTY) || world.profile.soft_dirty,
            );
            bits.set(
                SwapBits::UFFD_WP,
                bits.contains(SwapBits::UFFD_WP) && !clears_wp,
            );
            Entry::Swap { slot, bits }
        }
        Entry::Marker(marker) if clears_wp && marker.contains(Marker::UFFD_WP) => Entry::None,
        Entry::Marker(marker) if clears_wp => Entry::Marker(marker - Marker::PROTECTED),
        other => other,
    }
}
