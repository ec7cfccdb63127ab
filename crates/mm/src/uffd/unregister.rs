//! `UFFDIO_UNREGISTER` (`userfaultfd_unregister`).

use space::Errno;

use super::register::{can_userfault, start_of};
use super::{protect_range, range};
use crate::machine::{Fd, Machine, Mm, Tid, World};
use crate::profile::Kernel;
use crate::vma::VmaFlags;
use crate::vma::merge::Proposal;

impl Machine {
    /// Ends the registration of a range.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a bad range, nothing mapped in it, a cut hugetlb page, or a mapping that another
    /// userfaultfd has; `ENOMEM` where the process is gone or too many mappings would be left.
    pub fn uffd_unregister(&mut self, tid: Tid, fd: Fd, start: u64, len: u64) -> Result<(), Errno> {
        let uffd = self.uffd_ready(tid, fd)?;
        range::check(&self.world, start, len)?;
        let end = start + len;
        let pid = self.context(uffd).pid;
        let (world, process) = self.halves_of(pid).map_err(|_| Errno::ENOMEM)?;
        let mm = &mut process.mm;
        let first = start_of(mm, start, end)?;
        for vma in mm.vmas.overlapping(first, end) {
            let foreign = vma.uffd.is_some_and(|other| other != uffd);
            if foreign && world.profile.kernel >= Kernel::V6_18 {
                return Err(Errno::EINVAL);
            }
            if !can_userfault(world, vma, vma.flags) {
                return Err(Errno::EINVAL);
            }
        }
        let mut at = start;
        while at < end {
            let index = mm.vmas.find_index(at);
            let Some(vma) = mm.vmas.get(index).filter(|vma| vma.start < end) else {
                break;
            };
            let Some(own) = vma.uffd else {
                at = vma.end;
                continue;
            };
            let (from, to) = (at.max(vma.start), end.min(vma.end));
            if vma.has(VmaFlags::UFFD_MISSING)
                && let Some(context) = world.uffds.find_mut(own)
            {
                context.wake(from, to);
            }
            let index = clear(world, mm, index, from, to)?;
            at = mm.vmas.at(index).end;
        }
        Ok(())
    }
}

/// `userfaultfd_clear_vma`: a part of the mapping of an index is registered no more, and lifts its
/// protection; returns the index of the mapping that now covers the start of the part.
///
/// # Errors
///
/// `ENOMEM` with too many mappings.
pub(super) fn clear(
    world: &mut World,
    mm: &mut Mm,
    index: usize,
    start: u64,
    end: u64,
) -> Result<usize, Errno> {
    let vma = mm.vmas.at(index);
    let mut proposal = Proposal::of(vma, start, end, world.page_shift());
    proposal.flags -= VmaFlags::UFFD;
    proposal.uffd = None;
    let view = vma.view();
    if view.has(VmaFlags::UFFD_WP) {
        protect_range(world, mm, &view, start, end, false);
    }
    if view.has(VmaFlags::UFFD_RWP) {
        super::rwprotect::protect_range(world, mm, &view, start, end, false);
    }
    mm.modify(world, index, &proposal)
}
