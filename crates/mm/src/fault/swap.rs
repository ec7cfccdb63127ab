//! A page that is on a swap device (`do_swap_page`).

use super::{Fault, FaultStop, cow, mkdirty, page_prot, soft_dirty_enabled};
use crate::entry::{Bits, Present, SwapBits, SwapSlot};
use crate::folio::Owner;
use crate::machine::{Mm, World};
use crate::swap;
use crate::table::Slot;
use crate::vma::{View, VmaFlags};

pub(super) fn fault(
    fault: &mut Fault<'_>,
    slot: Slot,
    place: SwapSlot,
    bits: SwapBits,
) -> Result<(), FaultStop> {
    fault.anon_prepare();
    let write = fault.is_write();
    if swap::is_broken(fault.world, place) {
        return Err(FaultStop::Hwpoison {
            shift: fault.world.page_shift(),
        });
    }
    let at = (slot, fault.address);
    let entry = bring_back(fault.world, fault.mm, &fault.vma, at, (place, bits), write);
    if write && !entry.has(Bits::WRITE) {
        return cow::do_wp_page(fault, slot, entry);
    }
    Ok(())
}

/// Maps the page of a swap entry at its place; returns the new entry.
pub(crate) fn bring_back(
    world: &mut World,
    mm: &mut Mm,
    vma: &View,
    (slot, addr): (Slot, u64),
    (place, bits): (SwapSlot, SwapBits),
    write: bool,
) -> Present {
    let family = vma.anon_vma.expect("what was swapped out has a family");
    let owner = Owner::Anon {
        // __folio_set_anon: a page that others may map belongs to the oldest family.
        anon_vma: if bits.contains(SwapBits::EXCLUSIVE) {
            family
        } else {
            world.anon_vmas.root(family)
        },
        index: vma.index_of(addr, world.page_shift()),
    };
    let pfn = swap::read(world, place, owner);
    world.frames.get(pfn, 1);
    world.frames.add_rmap(pfn);
    let alone_with_cache = world.frames.folio(pfn).refcount == 2;
    swap::put(world, place);
    let locked = vma.has(VmaFlags::LOCKED);
    if swap::is_full(world) || locked || (write && alone_with_cache) {
        swap::try_free(world, pfn);
    }
    let mut entry = Present {
        pfn,
        bits: page_prot(world, vma) | Bits::YOUNG,
    };
    entry = entry.with(Bits::SOFT_DIRTY, bits.contains(SwapBits::SOFT_DIRTY));
    if bits.contains(SwapBits::UFFD_WP) {
        entry = entry.mkuffd_wp();
    }
    let exclusive = bits.contains(SwapBits::EXCLUSIVE);
    if exclusive || world.frames.folio(pfn).refcount == 1 {
        world.frames.set_exclusive(pfn, true);
        let tracked = soft_dirty_enabled(world, vma) && !entry.has(Bits::SOFT_DIRTY);
        let protected = vma.has(VmaFlags::UFFD_WP) && entry.has(Bits::UFFD_WP);
        if vma.has(VmaFlags::WRITE) && !tracked && !protected {
            entry = entry.with(Bits::WRITE, true);
            if write {
                entry = mkdirty(world, entry);
            }
        }
    }
    mm.tables.set_present(slot, entry);
    entry
}
