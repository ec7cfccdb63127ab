//! `UFFDIO_REGISTER` (`userfaultfd_register`).

use space::Errno;

use super::{UffdId, range};
use crate::machine::{Fd, Machine, Mm, Tid, World};
use crate::profile::Kernel;
use crate::uapi::uffd::{Features, ioctl, register};
use crate::vma::merge::Proposal;
use crate::vma::{Vma, VmaFlags};

impl Machine {
    /// Registers a range with a userfaultfd; returns the calls that the range takes.
    ///
    /// # Errors
    ///
    /// `EINVAL` for an unknown mode or none, a bad range, nothing mapped in it, a mapping that the
    /// mode is not for, or a cut hugetlb page; `EPERM` for a mapping that can't be made writable;
    /// `EBUSY` where another userfaultfd has it; `ENOMEM` where the process is gone or too many
    /// mappings would be left.
    pub fn uffd_register(
        &mut self,
        tid: Tid,
        fd: Fd,
        start: u64,
        len: u64,
        mode: u64,
    ) -> Result<u64, Errno> {
        let uffd = self.uffd_ready(tid, fd)?;
        let flags = mode_flags(&self.world, mode)?;
        range::check(&self.world, start, len)?;
        let end = start + len;
        let context = self.context(uffd);
        if flags.contains(VmaFlags::UFFD_RWP) && !context.has(Features::RWP) {
            return Err(Errno::EINVAL);
        }
        let pid = context.pid;
        let (world, process) = self.halves_of(pid).map_err(|_| Errno::ENOMEM)?;
        let mm = &mut process.mm;
        let first = start_of(mm, start, end)?;
        let mut hugetlb = false;
        for vma in mm.vmas.overlapping(first, end) {
            if !can_userfault(world, vma, flags) {
                return Err(Errno::EINVAL);
            }
            if !vma.has(VmaFlags::MAYWRITE) {
                return Err(Errno::EPERM);
            }
            let mask = (1_u64 << vma.page_shift) - 1;
            if vma.is_hugetlb() && end <= vma.end && end & mask != 0 {
                return Err(Errno::EINVAL);
            }
            if vma.uffd.is_some_and(|other| other != uffd) {
                return Err(Errno::EBUSY);
            }
            hugetlb |= vma.is_hugetlb();
        }
        register_range(world, mm, uffd, flags, start, end)?;
        Ok(range_ioctls(world.profile.kernel, mode, hugetlb))
    }
}

/// The flags of mappings for a mode.
fn mode_flags(world: &World, mode: u64) -> Result<VmaFlags, Errno> {
    let mut left = mode;
    let mut flags = VmaFlags::empty();
    for (bit, flag, since) in [
        (register::MISSING, VmaFlags::UFFD_MISSING, Kernel::V6_1),
        (register::WP, VmaFlags::UFFD_WP, Kernel::V6_1),
        (register::MINOR, VmaFlags::UFFD_MINOR, Kernel::V6_1),
        (register::RWP, VmaFlags::UFFD_RWP, Kernel::V7_3),
    ] {
        let has = flag != VmaFlags::UFFD_WP || world.profile.uffd_wp;
        if mode & bit != 0 && has && world.profile.kernel >= since {
            flags |= flag;
            left -= bit;
        }
    }
    // Both kinds of protection share one bit of an entry.
    let both = flags.contains(VmaFlags::UFFD_WP | VmaFlags::UFFD_RWP);
    if mode == 0 || left != 0 || both {
        return Err(Errno::EINVAL);
    }
    Ok(flags)
}

/// The first address in `start..end` that is mapped, which may not cut a hugetlb page.
///
/// # Errors
///
/// `EINVAL`.
pub(super) fn start_of(mm: &Mm, start: u64, end: u64) -> Result<u64, Errno> {
    let vma = mm
        .vmas
        .find(start)
        .filter(|vma| vma.start < end)
        .ok_or(Errno::EINVAL)?;
    let mask = (1_u64 << vma.page_shift) - 1;
    if vma.is_hugetlb() && start & mask != 0 {
        return Err(Errno::EINVAL);
    }
    Ok(start.max(vma.start))
}

/// `vma_can_userfault`. With `WP_ASYNC` alone any kind of mapping would do; all kinds that there
/// are here do anyway.
pub(super) fn can_userfault(world: &World, vma: &Vma, flags: VmaFlags) -> bool {
    if vma.has(VmaFlags::DROPPABLE) && world.profile.kernel >= Kernel::V6_12 {
        return false;
    }
    !(flags.contains(VmaFlags::UFFD_MINOR) && vma.is_anonymous())
}

/// `userfaultfd_register_range`.
fn register_range(
    world: &mut World,
    mm: &mut Mm,
    uffd: UffdId,
    flags: VmaFlags,
    start: u64,
    end: u64,
) -> Result<(), Errno> {
    let page_shift = world.page_shift();
    let mut at = start;
    loop {
        let index = mm.vmas.find_index(at);
        let Some(vma) = mm.vmas.get(index).filter(|vma| vma.start < end) else {
            return Ok(());
        };
        if vma.uffd == Some(uffd) && vma.has(flags) {
            at = vma.end;
        } else {
            let mut proposal = Proposal::of(vma, at.max(vma.start), end.min(vma.end), page_shift);
            proposal.flags = (vma.flags - VmaFlags::UFFD) | flags;
            proposal.uffd = Some(uffd);
            let index = mm.modify(world, index, &proposal)?;
            at = mm.vmas.at(index).end;
        }
        if at >= end {
            return Ok(());
        }
    }
}

/// `UFFD_API_RANGE_IOCTLS` and `UFFD_API_RANGE_IOCTLS_BASIC`, as far as the mode needs them.
fn range_ioctls(kernel: Kernel, mode: u64, hugetlb: bool) -> u64 {
    let mut ioctls =
        ioctl::WAKE | ioctl::COPY | ioctl::ZEROPAGE | ioctl::WRITEPROTECT | ioctl::CONTINUE;
    if kernel >= Kernel::V6_12 {
        ioctls |= ioctl::POISON | ioctl::MOVE;
    }
    if kernel >= Kernel::V7_3 {
        ioctls |= ioctl::RWPROTECT;
    }
    if hugetlb {
        ioctls &= !(ioctl::ZEROPAGE | ioctl::MOVE);
    }
    for (bit, call) in [
        (register::WP, ioctl::WRITEPROTECT),
        (register::MINOR, ioctl::CONTINUE),
        (register::RWP, ioctl::RWPROTECT),
    ] {
        if mode & bit == 0 {
            ioctls &= !call;
        }
    }
    ioctls
}
