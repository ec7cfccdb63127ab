//! `UFFDIO_WAKE` (`userfaultfd_wake`).

use space::Errno;

use super::range;
use crate::machine::{Fd, Machine, Tid};

impl Machine {
    /// Lets the threads go whose faults lie in a range.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a bad range.
    pub fn uffd_wake(&mut self, tid: Tid, fd: Fd, start: u64, len: u64) -> Result<(), Errno> {
        let uffd = self.uffd_ready(tid, fd)?;
        range::check(&self.world, start, len)?;
        self.context_mut(uffd).wake(start, start + len);
        Ok(())
    }
}
