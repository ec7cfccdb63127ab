//! Read and write protection (7.3): `UFFDIO_RWPROTECT` and `UFFDIO_SET_MODE`.
//!
//! A protected entry is not accessible (`PAGE_NONE`) and has the bit of write protection: which
//! of the two it means is said by the mapping's registration.

use space::Errno;

use super::range;
use super::writeprotect::check_mode;
use crate::machine::{Fd, Machine, Mm, Tid, World};
use crate::profile::Kernel;
use crate::protect::{Change, change_protection, tries_writable};
use crate::uapi::uffd::Features;
use crate::vma::{View, VmaFlags};

impl Machine {
    /// `UFFDIO_RWPROTECT`: protects the pages of a range from reading and writing, or lifts the
    /// protection and wakes who waits.
    ///
    /// # Errors
    ///
    /// As [`uffd_writeprotect`](Self::uffd_writeprotect); `EINVAL` before 7.3.
    pub fn uffd_rwprotect(
        &mut self,
        tid: Tid,
        fd: Fd,
        start: u64,
        len: u64,
        mode: u64,
    ) -> Result<(), Errno> {
        let uffd = self.uffd_ready(tid, fd)?;
        if self.world.profile.kernel < Kernel::V7_3 {
            return Err(Errno::EINVAL);
        }
        if self.is_changing(uffd) {
            return Err(Errno::EAGAIN);
        }
        range::check(&self.world, start, len)?;
        let protects = check_mode(mode)?;
        let pid = self.context(uffd).pid;
        let (world, process) = self.halves_of(pid)?;
        let mm = &mut process.mm;
        let end = start + len;
        let mut result = Err(Errno::ENOENT);
        let mut at = start;
        while let Some(vma) = mm.vmas.find(at).filter(|vma| vma.start < end) {
            let view = vma.view();
            if !view.has(VmaFlags::UFFD_RWP) {
                return Err(Errno::ENOENT);
            }
            let mask = (1_u64 << view.page_shift) - 1;
            if view.is_hugetlb() && (start | len) & mask != 0 {
                return Err(Errno::EINVAL);
            }
            let (from, to) = (start.max(view.start), end.min(view.end));
            protect_range(world, mm, &view, from, to, protects);
            result = Ok(());
            at = view.end;
        }
        result?;
        if mode == 0 {
            self.context_mut(uffd).wake(start, end);
        }
        Ok(())
    }

    /// `UFFDIO_SET_MODE`: turns `RWP_ASYNC` on or off. Who waits is woken when it is turned on.
    ///
    /// # Errors
    ///
    /// `EINVAL` before 7.3, for any other feature, for one that is to be turned both on and off, and
    /// where `RWP` was not asked for.
    pub fn uffd_set_mode(
        &mut self,
        tid: Tid,
        fd: Fd,
        enable: u64,
        disable: u64,
    ) -> Result<(), Errno> {
        let uffd = self.uffd_ready(tid, fd)?;
        let known = Features::RWP_ASYNC.bits();
        if self.world.profile.kernel < Kernel::V7_3
            || (enable | disable) & !known != 0
            || enable & disable != 0
            || !self.context(uffd).has(Features::RWP)
        {
            return Err(Errno::EINVAL);
        }
        let context = self.context_mut(uffd);
        if let Some(features) = &mut context.features {
            *features |= Features::from_bits_retain(enable);
            *features -= Features::from_bits_retain(disable);
        }
        if enable != 0 {
            context.wake(0, u64::MAX);
        }
        Ok(())
    }
}

/// `uffd_rwp_range`: protects a part of a mapping, or lifts the protection.
pub(super) fn protect_range(
    world: &mut World,
    mm: &mut Mm,
    vma: &View,
    start: u64,
    end: u64,
    protects: bool,
) {
    let change = if protects {
        Change::RwpProtect
    } else {
        Change::UffdResolve {
            try_writable: tries_writable(world, vma),
        }
    };
    change_protection(world, mm, vma, start, end, change);
}
