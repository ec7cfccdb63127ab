//! `MADV_GUARD_INSTALL` and `MADV_GUARD_REMOVE` (`madvise_guard_install`,
//! `madvise_guard_remove`).

use space::Errno;

use super::Part;
use crate::entry::{Entry, Marker};
use crate::machine::{Mm, World};
use crate::vma::VmaFlags;
use crate::zap::{Zap, zap_range};

/// `is_valid_guard_vma`.
fn is_valid(part: &Part, removes: bool) -> bool {
    let mut refused = VmaFlags::SPECIAL | VmaFlags::HUGETLB;
    if !removes {
        refused |= VmaFlags::LOCKED;
    }
    !part.vma.flags.intersects(refused)
}

pub(super) fn install(world: &mut World, mm: &mut Mm, part: &Part) -> Result<(), Errno> {
    if !is_valid(part, false) {
        return Err(Errno::EINVAL);
    }
    // The tables are no longer empty, so a child must get a copy of them.
    let index = mm.vmas.find_index(part.start);
    mm.vmas.at_mut(index).flags |= VmaFlags::MAYBE_GUARD;
    if part.vma.is_anonymous() {
        let page_shift = world.page_shift();
        world.anon_vmas.prepare(&mut mm.vmas, index, page_shift);
    }
    let view = mm.vmas.at(index).view();
    let how = Zap {
        reclaim_tables: false,
        ..Zap::DISCARD
    };
    let all_guards = (part.start..part.end)
        .step_by(world.frames.page_size())
        .all(|addr| is_guard(mm, addr));
    if all_guards {
        return Ok(());
    }
    zap_range(world, mm, &view, part.start, part.end, how);
    for addr in (part.start..part.end).step_by(world.frames.page_size()) {
        let slot = mm.tables.alloc_to(addr, 0).expect("the range was emptied");
        mm.tables.set(slot, Entry::Marker(Marker::GUARD));
    }
    Ok(())
}

pub(super) fn remove(world: &mut World, mm: &mut Mm, part: &Part) -> Result<(), Errno> {
    if !is_valid(part, true) {
        return Err(Errno::EINVAL);
    }
    for addr in (part.start..part.end).step_by(world.frames.page_size()) {
        if is_guard(mm, addr) {
            let (slot, _) = mm.tables.lookup(addr);
            mm.tables.set(slot, Entry::None);
        }
    }
    Ok(())
}

fn is_guard(mm: &Mm, addr: u64) -> bool {
    matches!(mm.tables.lookup(addr).1, Entry::Marker(marker) if marker.contains(Marker::GUARD))
}
