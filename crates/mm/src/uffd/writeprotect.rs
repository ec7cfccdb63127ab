//! `UFFDIO_WRITEPROTECT` (`userfaultfd_writeprotect`, `mwriteprotect_range`).

use space::Errno;

use super::range;
use crate::machine::{Fd, Machine, Mm, Tid, World};
use crate::protect::{Change, change_protection, tries_writable};
use crate::uapi::uffd::mode;
use crate::vma::{View, VmaFlags};

impl Machine {
    /// Write protects the pages of a range, or lifts the protection and wakes who waits.
    ///
    /// # Errors
    ///
    /// `EINVAL` for an unknown mode, a bad range, or a cut hugetlb page; `EAGAIN` while the mappings
    /// change; `ENOENT` where a mapping is not registered for it, or there is none; `ESRCH` where the
    /// process is gone.
    pub fn uffd_writeprotect(
        &mut self,
        tid: Tid,
        fd: Fd,
        start: u64,
        len: u64,
        mode: u64,
    ) -> Result<(), Errno> {
        let uffd = self.uffd_ready(tid, fd)?;
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
            if !view.has(VmaFlags::UFFD_WP) {
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
}

/// Whether a mode of `WRITEPROTECT` or `RWPROTECT` protects.
///
/// # Errors
///
/// `EINVAL` for unknown bits, and for both: nobody is woken by protection.
pub(super) fn check_mode(mode: u64) -> Result<bool, Errno> {
    match mode {
        mode::PROTECT => Ok(true),
        0 | mode::PROTECT_DONTWAKE => Ok(false),
        _ => Err(Errno::EINVAL),
    }
}

/// `uffd_wp_range`: protects a part of a mapping, or lifts the protection.
pub(crate) fn protect_range(
    world: &mut World,
    mm: &mut Mm,
    vma: &View,
    start: u64,
    end: u64,
    protects: bool,
) {
    let change = if protects {
        Change::UffdProtect
    } else {
        Change::UffdResolve {
            try_writable: tries_writable(world, vma),
        }
    };
    change_protection(world, mm, vma, start, end, change);
}
