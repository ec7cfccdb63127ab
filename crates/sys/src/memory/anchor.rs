//! Whether an id still leads to the memory that a file belongs to.
//!
//! `process_vm_readv` takes a process's id, and reads another program's memory where the process
//! has called `execve` since, or ended and left its id to another. `/proc/PID/mem` belongs to the
//! memory that there was when it was opened, but is slower. So both are asked for the random bytes
//! that the kernel gave the program when it started (`AT_RANDOM`), and must tell the same.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;

use space::{Errno, Vaddr};

use crate::raw::memory;

/// How many random bytes there are.
const LEN: usize = 16;

/// Where the random bytes of a program lie.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Anchor(Vaddr);

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// The same memory.
    Same,
    /// Another, or none.
    Other,
    /// The program has unmapped the bytes: nothing tells.
    Nothing,
}

impl Anchor {
    /// Reads `/proc/PID/auxv`.
    pub(crate) fn find(pid: u32) -> Result<Self, Errno> {
        const AT_RANDOM: u64 = 25;
        let mut auxv = Vec::new();
        File::open(format!("/proc/{pid}/auxv"))?.read_to_end(&mut auxv)?;
        let words: Vec<u64> = (auxv.as_chunks().0.iter())
            .map(|word| u64::from_ne_bytes(*word))
            .collect();
        let pair = words.chunks_exact(2).find(|pair| pair[0] == AT_RANDOM);
        pair.map(|pair| Self(Vaddr(pair[1]))).ok_or(Errno::ENOENT)
    }

    /// Tells whether `pid` has the memory that `mem` belongs to.
    pub(crate) fn look(self, pid: u32, mem: &File) -> Found {
        /// The program may just be writing there.
        const TRIES: usize = 3;
        for _ in 0..TRIES {
            let (mut ours, mut theirs) = ([0; LEN], [0; LEN]);
            match mem.read_at(&mut ours, self.0.0) {
                Ok(LEN) => {}
                // The memory is gone.
                Ok(_) => return Found::Other,
                Err(_) => return Found::Nothing,
            }
            if memory::read_at(pid, self.0, &mut theirs) == Ok(LEN) && ours == theirs {
                return Found::Same;
            }
        }
        Found::Other
    }
}
