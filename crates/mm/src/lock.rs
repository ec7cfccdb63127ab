//! Locks that a call keeps while it sleeps on a userfaultfd: whoever wants one of them meanwhile
//! sleeps, too.
//!
//! Linux reference: 6.18, `mm/shmem.c` (`shmem_file_write_iter` takes `inode_lock`, as what changes a
//! file's size does), `fs/pipe.c` (`pipe->mutex`).

use crate::file::FileId;
use crate::machine::Tid;
use crate::pipe::PipeId;
use crate::stop::{Stop, Wait};

/// What is locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lock {
    /// `inode->i_rwsem`.
    File(FileId),
    /// `pipe->mutex`.
    Pipe(PipeId),
}

/// A lock that a sleeping thread has.
#[derive(Clone, Copy, Debug)]
struct Held {
    lock: Lock,
    tid: Tid,
    wait: Wait,
}

/// The locks that sleeping threads have.
#[derive(Clone, Debug, Default)]
pub(crate) struct Locks(Vec<Held>);

impl Locks {
    /// Fails where another thread sleeps with the lock: who wants it waits for what that one waits
    /// for.
    pub(crate) fn check(&self, lock: Lock, tid: Tid) -> Result<(), Stop> {
        let other = |held: &&Held| held.lock == lock && held.tid != tid;
        match self.0.iter().find(other) {
            Some(held) => Err(Stop::Blocked(held.wait)),
            None => Ok(()),
        }
    }

    /// A call that had the lock comes to an end, or to a wait: then it keeps the lock.
    pub(crate) fn settle<T>(&mut self, lock: Lock, tid: Tid, result: &Result<T, Stop>) {
        self.0.retain(|held| held.lock != lock || held.tid != tid);
        if let Err(Stop::Blocked(wait)) = *result {
            self.0.push(Held { lock, tid, wait });
        }
    }

    /// Threads that are no more have no locks.
    pub(crate) fn forget_threads(&mut self, gone: impl Fn(Tid) -> bool) {
        self.0.retain(|held| !gone(held.tid));
    }
}
