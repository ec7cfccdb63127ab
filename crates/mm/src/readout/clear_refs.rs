//! `/proc/PID/clear_refs` (`clear_refs_write`).

use space::Errno;

use crate::entry::{Bits, Entry, Present, SwapBits};
use crate::machine::{Machine, Mm, Pid, World};
use crate::table::Slot;
use crate::vma::{View, VmaFlags};

/// `CLEAR_REFS_ALL`: the marks of access, everywhere.
const ALL: i32 = 1;
/// `CLEAR_REFS_ANON`: those of private memory without files.
const ANON: i32 = 2;
/// `CLEAR_REFS_MAPPED`: those of files.
const MAPPED: i32 = 3;
/// `CLEAR_REFS_SOFT_DIRTY`: the marks of writing.
const SOFT_DIRTY: i32 = 4;
/// `CLEAR_REFS_MM_HIWATER_RSS`: the record of memory in use, which is not modelled.
const HIGH_WATER: i32 = 5;

impl Machine {
    /// Writes a number to `clear_refs`: 4 makes all pages soft-clean.
    ///
    /// # Errors
    ///
    /// `EINVAL` for an unknown number.
    pub fn clear_refs(&mut self, pid: Pid, value: i32) -> Result<(), Errno> {
        let (world, process) = self.halves_of(pid)?;
        if !(ALL..=HIGH_WATER).contains(&value) {
            return Err(Errno::EINVAL);
        }
        if value == HIGH_WATER {
            return Ok(());
        }
        let mm = &mut process.mm;
        for index in 0..mm.vmas.len() {
            if value == SOFT_DIRTY {
                mm.vmas.at_mut(index).flags -= VmaFlags::SOFTDIRTY;
            }
            let view = mm.vmas.at(index).view();
            let skipped = (value == ANON && !view.is_anonymous())
                || (value == MAPPED && view.is_anonymous())
                // The walk has nothing for entries of hugetlbfs.
                || view.is_hugetlb();
            if !skipped {
                clear_mapping(world, mm, &view, value);
            }
        }
        Ok(())
    }
}

/// `clear_refs_pte_range`.
fn clear_mapping(world: &World, mm: &mut Mm, vma: &View, value: i32) {
    let mut at = vma.start;
    while let Some(run) = mm.tables.next_run(at, vma.end) {
        at = run.end;
        let mut slot = run.slot;
        let mut addr = run.start;
        while addr < run.end {
            if value == SOFT_DIRTY {
                clear_soft_dirty(world, mm, vma, slot);
            } else if let Entry::Present(present) = mm.tables.entry(slot) {
                let cleared = present.with(Bits::YOUNG, present.has(Bits::SPECIAL));
                mm.tables.set_present(slot, cleared);
            }
            if slot.level > 0 {
                break;
            }
            slot.index += 1;
            addr += world.page_size();
        }
    }
}

/// `clear_soft_dirty`: the next write will fault, and be seen.
fn clear_soft_dirty(world: &World, mm: &mut Mm, vma: &View, slot: Slot) {
    if !world.profile.soft_dirty {
        return;
    }
    match mm.tables.entry(slot) {
        Entry::Present(present) if !is_pinned(world, mm, vma, present) => {
            let entry = present
                .with(Bits::WRITE, false)
                .with(Bits::SOFT_DIRTY, false);
            mm.tables.set_present(slot, entry);
        }
        Entry::Swap { slot: place, bits } => mm.tables.set(
            slot,
            Entry::Swap {
                slot: place,
                bits: bits - SwapBits::SOFT_DIRTY,
            },
        ),
        _ => {}
    }
}

/// `pte_is_pinned`: a device that writes to the page would not be seen.
fn is_pinned(world: &World, mm: &Mm, vma: &View, present: Present) -> bool {
    present.has(Bits::WRITE)
        && !present.has(Bits::HUGE)
        && vma.is_cow()
        && mm.has_pinned
        && !present.has(Bits::SPECIAL)
        && world.frames.folio(present.pfn).maybe_pinned()
}
