//! Advice that sets flags of mappings (`madvise_vma_behavior`, `madvise_update_vma`).

use space::Errno;

use super::Part;
use crate::machine::{Mm, World};
use crate::uapi::madv;
use crate::vma::merge::Proposal;
use crate::vma::{View, VmaFlags};

pub(super) fn set(world: &mut World, mm: &mut Mm, part: &Part) -> Result<(), Errno> {
    let flags = changed(&part.vma, part.advice)?;
    if flags == part.vma.flags {
        return Ok(());
    }
    let index = mm.vmas.find_index(part.start);
    let page_shift = world.page_shift();
    let vma = mm.vmas.at(index);
    let mut proposal = Proposal::of(vma, part.start, part.end, page_shift);
    proposal.flags = flags;
    mm.modify(world, index, &proposal)?;
    Ok(())
}

fn changed(vma: &View, advice: i32) -> Result<VmaFlags, Errno> {
    let flags = vma.flags;
    let reading = VmaFlags::RAND_READ | VmaFlags::SEQ_READ;
    Ok(match advice {
        madv::NORMAL => flags - reading,
        madv::SEQUENTIAL => (flags - VmaFlags::RAND_READ) | VmaFlags::SEQ_READ,
        madv::RANDOM => (flags - VmaFlags::SEQ_READ) | VmaFlags::RAND_READ,
        madv::DONTFORK => flags | VmaFlags::DONTCOPY,
        madv::DOFORK => flags - VmaFlags::DONTCOPY,
        madv::WIPEONFORK => {
            if vma.file.is_some() || vma.has(VmaFlags::SHARED) {
                return Err(Errno::EINVAL);
            }
            flags | VmaFlags::WIPEONFORK
        }
        madv::KEEPONFORK => {
            if vma.has(VmaFlags::DROPPABLE) {
                return Err(Errno::EINVAL);
            }
            flags - VmaFlags::WIPEONFORK
        }
        madv::DONTDUMP => flags | VmaFlags::DONTDUMP,
        madv::DODUMP => {
            let special = vma.flags.intersects(VmaFlags::SPECIAL) && !vma.is_hugetlb();
            if special || vma.has(VmaFlags::DROPPABLE) {
                return Err(Errno::EINVAL);
            }
            flags - VmaFlags::DONTDUMP
        }
        madv::HUGEPAGE => (flags - VmaFlags::NOHUGEPAGE) | VmaFlags::HUGEPAGE,
        madv::NOHUGEPAGE => (flags - VmaFlags::HUGEPAGE) | VmaFlags::NOHUGEPAGE,
        madv::MERGEABLE => {
            // vma_ksm_compatible
            let never = VmaFlags::SHARED
                | VmaFlags::MAYSHARE
                | VmaFlags::SPECIAL
                | VmaFlags::HUGETLB
                | VmaFlags::DROPPABLE;
            if flags.intersects(never) {
                flags
            } else {
                flags | VmaFlags::MERGEABLE
            }
        }
        madv::UNMERGEABLE => flags - VmaFlags::MERGEABLE,
        _ => return Err(Errno::EINVAL),
    })
}
