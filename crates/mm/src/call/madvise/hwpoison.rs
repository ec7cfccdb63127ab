//! `MADV_HWPOISON` and `MADV_SOFT_OFFLINE` (`madvise_inject_error`).

use space::Errno;

use crate::machine::{Machine, Tid};
use crate::stop::Stop;

impl Machine {
    pub(super) fn inject_error(
        &mut self,
        _tid: Tid,
        _start: u64,
        _end: u64,
        _advice: i32,
    ) -> Result<(), Stop> {
        Err(Errno::EINVAL.into())
    }
}
