//! `UFFDIO_ZEROPAGE` (`userfaultfd_zeropage`).

use space::Errno;

use super::fill::{Source, Target, Transfer, What};
use super::range;
use crate::machine::{Fd, Machine, Tid};
use crate::uapi::uffd::mode;
use crate::vma::VmaFlags;

impl Machine {
    /// Fills a range with pages of zeros.
    pub fn uffd_zeropage(&mut self, tid: Tid, fd: Fd, start: u64, len: u64, mode: u64) -> Transfer {
        self.fill_simply(tid, fd, (start, len), mode, (What::Zero, Source::Zero))
    }

    /// A call that fills and has no mode but to wake nobody.
    pub(super) fn fill_simply(
        &mut self,
        tid: Tid,
        fd: Fd,
        (start, len): (u64, u64),
        mode: u64,
        (what, source): (What, Source),
    ) -> Transfer {
        let uffd = match self.uffd_ready(tid, fd) {
            Ok(uffd) => uffd,
            Err(errno) => return Transfer::refused(errno),
        };
        if self.is_changing(uffd) {
            return Transfer::changing(self.world.profile.kernel);
        }
        if let Err(errno) = range::check(&self.world, start, len) {
            return Transfer::refused(errno);
        }
        if mode & !mode::DONTWAKE != 0 {
            return Transfer::refused(Errno::EINVAL);
        }
        self.fill_with(
            Target {
                uffd,
                start,
                len,
                protection: VmaFlags::empty(),
                what,
                source: None,
            },
            mode,
            source,
        )
    }

    /// The rest of a call that fills a range with the same everywhere.
    pub(super) fn fill_with(&mut self, target: Target, mode: u64, source: Source) -> Transfer {
        let pid = self.context(target.uffd).pid;
        if let Err(errno) = self.process(pid) {
            return Transfer::refused(errno);
        }
        let filled = self.fill(&target, 0, |_, _| Ok(source.clone()));
        self.end_fill(&target, mode & mode::DONTWAKE != 0, filled)
    }
}
