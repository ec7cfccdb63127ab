//! What a walk remembers that waits before it drops pages: for an `EVENT_REMOVE` to be read, or for the
//! lock of the file that gets a hole. The mappings are not locked meanwhile (`mark_mmap_lock_dropped`).

use crate::file::FileId;
use crate::machine::{Machine, Progress, Tid, World};
use crate::stop::Wait;

/// A walk that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Removal {
    /// What is waited for.
    pub(crate) wait: Wait,
    /// What is dropped then: from here.
    pub(crate) start: u64,
    /// To here.
    pub(crate) end: u64,
    /// A part of the range before it was not mapped.
    pub(crate) unmapped: bool,
    /// `MADV_REMOVE` needs no mapping any more: the hole, with a reference of the file.
    pub(crate) hole: Option<Hole>,
}

/// A hole in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hole {
    pub(crate) file: FileId,
    pub(crate) offset: u64,
    pub(crate) len: u64,
}

impl Removal {
    /// The call is no more.
    pub(crate) fn release(self, world: &mut World) {
        if let Some(hole) = self.hole {
            world.put_file(hole.file);
        }
    }
}

impl Machine {
    /// Where a walk stands that is issued again.
    pub(crate) fn removal(&self, tid: Tid) -> Option<Removal> {
        match self.progress(tid) {
            Some(&Progress::Removal(removal)) => Some(removal),
            _ => None,
        }
    }
}
