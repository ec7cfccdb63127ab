//! `UFFDIO_CONTINUE` (`userfaultfd_continue`).

use super::copy::protection_of;
use super::fill::{Source, Target, Transfer, What};
use super::range;
use crate::machine::{Fd, Machine, Tid};
use crate::uapi::uffd::mode;

impl Machine {
    /// Maps what the file behind a range has there.
    pub fn uffd_continue(&mut self, tid: Tid, fd: Fd, start: u64, len: u64, mode: u64) -> Transfer {
        let uffd = match self.uffd_ready(tid, fd) {
            Ok(uffd) => uffd,
            Err(errno) => return Transfer::refused(errno),
        };
        if self.is_changing(uffd) {
            return Transfer::changing(self.world.profile.kernel);
        }
        let checked = range::check(&self.world, start, len)
            .and_then(|()| protection_of(&self.world, mode, mode::DONTWAKE));
        match checked {
            Ok(protection) => self.fill_with(
                Target {
                    uffd,
                    start,
                    len,
                    protection,
                    what: What::Cache,
                    source: None,
                },
                mode,
                Source::Cache,
            ),
            Err(errno) => Transfer::refused(errno),
        }
    }
}
