//! `UFFDIO_POISON` (`userfaultfd_poison`).

use space::Errno;

use super::fill::{Source, Transfer, What};
use crate::machine::{Fd, Machine, Tid};
use crate::profile::Kernel;

impl Machine {
    /// Has each access to a range end as if its memory were broken.
    pub fn uffd_poison(&mut self, tid: Tid, fd: Fd, start: u64, len: u64, mode: u64) -> Transfer {
        if self.world.profile.kernel < Kernel::V6_12 {
            // An unknown call, as before UFFDIO_API.
            return Transfer::refused(Errno::EINVAL);
        }
        self.fill_simply(tid, fd, (start, len), mode, (What::Poison, Source::Poison))
    }
}
