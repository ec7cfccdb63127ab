//! A write to a page that is there but may not be written (`do_wp_page`), and the reading pin
//! that wants a page of its own (`FAULT_FLAG_UNSHARE`).
//!
//! Whether a page of private memory is used or copied is the policy of [`CowPolicy`]: see
//! [`may_reuse`].

use super::{Fault, FaultStop, anon, uffd};
use crate::entry::{Bits, Present};
use crate::folio::{FolioFlags, FrameFlags, Pfn, ZERO_PFN};
use crate::machine::World;
use crate::profile::CowPolicy;
use crate::table::Slot;
use crate::vma::VmaFlags;

pub(super) fn do_wp_page(
    fault: &mut Fault<'_>,
    slot: Slot,
    mut present: Present,
) -> Result<(), FaultStop> {
    if !fault.is_unshare() && fault.vma.has(VmaFlags::UFFD_WP) && present.has(Bits::UFFD_WP) {
        if !uffd::is_wp_async(fault) {
            return uffd::handle(fault, VmaFlags::UFFD_WP);
        }
        present = present.with(Bits::UFFD_WP, false);
        fault.mm.tables.set_present(slot, present);
    }
    if fault
        .vma
        .flags
        .intersects(VmaFlags::SHARED | VmaFlags::MAYSHARE)
    {
        // wp_page_shared: shmem has no page_mkwrite.
        fault.world.frames.folio_mut(present.pfn).flags |= FolioFlags::DIRTY;
        reuse(fault, slot, present);
        return Ok(());
    }
    if fault.world.profile.swap_pages > 0 {
        try_free_swap(fault.world, present);
    }
    if may_reuse(fault.world, present) {
        if fault.world.profile.cow == CowPolicy::AnonExclusive {
            fault.world.frames.set_exclusive(present.pfn, true);
        }
        if !fault.is_unshare() {
            reuse(fault, slot, present);
        }
        return Ok(());
    }
    copy(fault, slot, present)
}

/// The part of `wp_can_reuse_anon_folio` that takes a page out of the swap cache: it may be used if
/// nobody has its slot.
fn try_free_swap(world: &mut World, present: Present) {
    if present.has(Bits::SPECIAL) || world.frames.is_exclusive(present.pfn) {
        return;
    }
    let folio = world.frames.folio(present.pfn);
    if folio.flags.contains(FolioFlags::SWAPCACHE) && folio.refcount == 2 {
        crate::swap::try_free(world, present.pfn);
    }
}

/// Tells whether a private page that is mapped read-only may become writable as it is
/// (`PageAnonExclusive`, `wp_can_reuse_anon_folio`).
pub(crate) fn may_reuse(world: &World, present: Present) -> bool {
    if present.has(Bits::SPECIAL) {
        return false;
    }
    let folio = world.frames.folio(present.pfn);
    if !folio.is_anon() {
        return false;
    }
    let alone = folio.refcount == 1;
    match world.profile.cow {
        CowPolicy::Mapcount | CowPolicy::EarlyBreak | CowPolicy::AndreaAccurate => {
            folio.mapcount == 1
        }
        CowPolicy::Refcount | CowPolicy::LinusStrict => alone,
        CowPolicy::AnonExclusive => {
            let exclusive = world.frames.is_exclusive(present.pfn);
            // A large folio may be used by the last one who maps any of it.
            exclusive || alone || (folio.order > 0 && reuse_large(world, present.pfn))
        }
    }
}

/// `__wp_can_reuse_large_anon_folio`: every reference is a mapping, and all are of one process.
fn reuse_large(world: &World, pfn: Pfn) -> bool {
    let folio = world.frames.folio(pfn);
    // The kernel compares owners of the mappings (`_mm_id`); a page that is mapped once while
    // the folio has no other references can't be anybody else's, and one process maps a page
    // of private memory once.
    folio.refcount == folio.mapcount
        && folio.entire_mapcount <= 1
        && (0..folio.pages()).all(|page| {
            let frame = world.frames.frame(folio.first.plus(page));
            frame.mapcount + folio.entire_mapcount <= 1
        })
}

/// `wp_page_reuse`.
fn reuse(fault: &mut Fault<'_>, slot: Slot, present: Present) {
    let entry = fault.mkwrite(present.with(Bits::YOUNG, true));
    fault.mm.tables.set_present(slot, entry);
}

/// `wp_page_copy`.
fn copy(fault: &mut Fault<'_>, slot: Slot, old: Present) -> Result<(), FaultStop> {
    fault.anon_prepare();
    let broken = fault
        .world
        .frames
        .frame(old.pfn)
        .flags
        .contains(FrameFlags::HWPOISON);
    if broken {
        return Err(FaultStop::Hwpoison {
            shift: fault.world.page_shift(),
        });
    }
    let pfn = anon::new_page(fault);
    if old.pfn != ZERO_PFN {
        fault.world.frames.copy(old.pfn, pfn);
    }
    let entry = Present {
        pfn,
        bits: fault.page_prot() | Bits::YOUNG,
    };
    let entry = if fault.is_unshare() {
        let entry = entry.with(Bits::SOFT_DIRTY, old.has(Bits::SOFT_DIRTY));
        if old.has(Bits::UFFD_WP) {
            entry.mkuffd_wp()
        } else {
            entry
        }
    } else {
        fault.mkwrite(entry)
    };
    fault.mm.tables.set_present(slot, entry);
    unmap_old(fault.world, old);
    Ok(())
}

fn unmap_old(world: &mut World, old: Present) {
    if !old.has(Bits::SPECIAL) {
        world.frames.remove_rmap(old.pfn);
        world.frames.put(old.pfn, 1);
    }
}
