//! `MADV_SPLIT` and `MADV_COLLAPSE` of hugetlb, as the HGM series has them.

use space::Errno;

use super::Part;
use crate::file::hugetlb::hgm;
use crate::machine::{Mm, World};
use crate::vma::merge::Proposal;
use crate::zap::{Zap, zap_range};

/// The mapping may have small entries from now on. Nothing is mapped by them yet.
pub(super) fn split(world: &mut World, mm: &mut Mm, part: &Part) -> Result<(), Errno> {
    let flags = hgm::split_flags(world, &part.vma, part.start, part.end)?;
    if flags == part.vma.flags {
        return Ok(());
    }
    let index = mm.vmas.find_index(part.start);
    let page_shift = world.page_shift();
    let mut proposal = Proposal::of(mm.vmas.at(index), part.start, part.end, page_shift);
    proposal.flags = flags;
    let index = mm.modify(world, index, &proposal)?;
    if world.profile.hgm.is_some_and(|hgm| hgm.always_small) {
        let view = mm.vmas.at(index).view();
        zap_range(world, mm, &view, part.start, part.end, Zap::DISCARD);
    }
    Ok(())
}

/// Each huge page that lies in the range gets its huge entry back.
pub(super) fn collapse(world: &mut World, mm: &mut Mm, part: &Part) -> Result<(), Errno> {
    let size = 1_u64 << part.vma.page_shift;
    let start = part.start.next_multiple_of(size);
    let end = part.end & !(size - 1);
    if start > end {
        return Err(Errno::EINVAL);
    }
    for addr in (start..end).step_by(usize::try_from(size).map_err(|_| Errno::EINVAL)?) {
        hgm::collapse(world, mm, &part.vma, addr)?;
    }
    Ok(())
}
