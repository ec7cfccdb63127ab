//! Changing what entries allow: `change_protection`, for `mprotect` and userfaultfd.
//!
//! Linux reference: 6.18, `mm/mprotect.c` (`change_pte_range`, `can_change_pte_writable`).

use crate::entry::{Bits, Entry, Marker, Present, SwapBits};
use crate::fault::{page_prot, soft_dirty_enabled, wants_writenotify};
use crate::machine::{Mm, World};
use crate::table::Slot;
use crate::vma::{View, VmaFlags};

/// What is changed besides the protection (`MM_CP_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// `mprotect`: only the protection of the mapping.
    Protection {
        /// `MM_CP_TRY_CHANGE_WRITABLE`: what may become writable does so at once.
        try_writable: bool,
    },
    /// `MM_CP_UFFD_WP`: protects.
    UffdProtect,
    /// `MM_CP_UFFD_RWP` (7.3): protects from reading, too.
    RwpProtect,
    /// `MM_CP_UFFD_WP_RESOLVE`: lifts the protection.
    UffdResolve {
        /// As in `Protection`.
        try_writable: bool,
    },
}

/// `vma_wants_manual_pte_write_upgrade`: whether faults would make pages writable one by one.
pub(crate) fn tries_writable(world: &World, vma: &View) -> bool {
    if vma.has(VmaFlags::SHARED) {
        wants_writenotify(world, vma)
    } else {
        vma.has(VmaFlags::WRITE)
    }
}

/// Gives the entries of `start..end` the protection of their mapping, and changes what is asked
/// for besides. The mapping has its new flags already.
pub(crate) fn change_protection(
    world: &mut World,
    mm: &mut Mm,
    vma: &View,
    start: u64,
    end: u64,
    change: Change,
) {
    if vma.is_hugetlb() {
        crate::file::hugetlb::change_protection(world, mm, vma, start, end, change);
        return;
    }
    let page_size = world.page_size();
    let makes_markers = change == Change::UffdProtect && crate::uffd::uses_markers(world, vma);
    let mut at = start;
    while at < end {
        if makes_markers {
            // Where there is no table yet, one is made; a huge entry needs none.
            let _ = mm.tables.alloc_to(at, 0);
        }
        let Some(run) = mm.tables.next_run(at, end) else {
            break;
        };
        at = run.end;
        if run.slot.level > 0 {
            if crate::thp::change(world, mm, vma, run, change) {
                at = run.start;
            }
            continue;
        }
        let mut slot = run.slot;
        let mut addr = run.start;
        while addr < run.end {
            change_entry(world, mm, vma, slot, change, makes_markers);
            slot.index += 1;
            addr += page_size;
        }
    }
}

fn change_entry(
    world: &World,
    mm: &mut Mm,
    vma: &View,
    slot: Slot,
    change: Change,
    makes_markers: bool,
) {
    let changed = match mm.tables.entry(slot) {
        Entry::Present(present) => Entry::Present(change_present(world, vma, present, change)),
        Entry::Marker(marker) => {
            let lifts = matches!(change, Change::UffdResolve { .. });
            if !lifts || marker.intersects(Marker::POISONED | Marker::GUARD) {
                return;
            }
            Entry::None
        }
        Entry::Swap { slot, bits } => Entry::Swap {
            slot,
            bits: change_swapped(bits, change),
        },
        Entry::Migration { pfn, bits, .. } => Entry::Migration {
            pfn,
            write: false,
            bits: change_swapped(bits, change),
        },
        Entry::None if makes_markers => Entry::Marker(Marker::UFFD_WP),
        Entry::None | Entry::Table(_) | Entry::Hwpoison(_) => return,
    };
    mm.tables.set(slot, changed);
}

pub(crate) fn change_swapped(mut bits: SwapBits, change: Change) -> SwapBits {
    match change {
        Change::Protection { .. } => {}
        Change::UffdProtect | Change::RwpProtect => bits |= SwapBits::UFFD_WP,
        Change::UffdResolve { .. } => bits -= SwapBits::UFFD_WP,
    }
    bits
}

/// `pte_modify` and what follows it: the new form of an entry that is there.
pub(crate) fn change_present(
    world: &World,
    vma: &View,
    present: Present,
    change: Change,
) -> Present {
    let kept =
        Bits::SPECIAL | Bits::YOUNG | Bits::DIRTY | Bits::SOFT_DIRTY | Bits::UFFD_WP | Bits::HUGE;
    let mut entry = Present {
        pfn: present.pfn,
        bits: (present.bits & kept) | page_prot(world, vma),
    };
    let try_writable = match change {
        Change::Protection { try_writable } => try_writable,
        Change::UffdProtect => {
            entry = entry.mkuffd_wp();
            false
        }
        Change::RwpProtect => {
            entry = entry.mkuffd_wp().with(Bits::PROT_NONE, true);
            false
        }
        Change::UffdResolve { try_writable } => {
            entry = entry.with(Bits::UFFD_WP, false);
            try_writable
        }
    };
    if try_writable && !entry.has(Bits::WRITE) && can_become_writable(world, vma, entry) {
        entry = entry.with(Bits::WRITE, true);
    }
    entry
}

/// `can_change_pte_writable`.
pub(crate) fn can_become_writable(world: &World, vma: &View, entry: Present) -> bool {
    if entry.has(Bits::PROT_NONE)
        || !vma.has(VmaFlags::WRITE)
        || (soft_dirty_enabled(world, vma) && !entry.has(Bits::SOFT_DIRTY))
        || (vma.has(VmaFlags::UFFD_WP) && entry.has(Bits::UFFD_WP))
    {
        return false;
    }
    if vma.has(VmaFlags::SHARED) {
        return entry.has(Bits::DIRTY);
    }
    !entry.has(Bits::SPECIAL)
        && world.frames.folio(entry.pfn).is_anon()
        && world.frames.is_exclusive(entry.pfn)
}
