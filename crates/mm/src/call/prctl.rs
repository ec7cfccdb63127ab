//! `prctl`: what of it concerns memory.

use space::Errno;

use crate::machine::{Machine, Tid};

impl Machine {
    /// `PR_SET_THP_DISABLE`: whether a process, and those that it forks from now on, is to have no
    /// huge pages, whatever its mappings ask for.
    ///
    /// # Errors
    ///
    /// `ESRCH` where there is no such thread.
    pub fn disable_thp(&mut self, tid: Tid, disable: bool) -> Result<(), Errno> {
        let (_, process) = self.halves(tid)?;
        process.mm.thp_disabled = disable;
        Ok(())
    }
}
