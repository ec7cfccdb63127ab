//! Huge pages for the cases that need them, given back at the end.
//!
//! The pool itself is left as it is: only how far it may grow on demand is raised, so that no page
//! stays behind even if the tool is killed.

use std::{fs, io};

/// How many huge pages programs may have at once.
const PAGES: u64 = 64;
const LIMIT: &str = "/proc/sys/vm/nr_overcommit_hugepages";

/// The pool could not be raised.
#[derive(Debug, thiserror::Error)]
#[error("{LIMIT} can't be changed: {0}")]
pub struct PoolError(#[from] io::Error);

/// While it lives, huge pages can be had.
#[derive(Debug)]
pub struct HugePool {
    /// The limit before.
    before: u64,
}

impl HugePool {
    /// Raises the limit.
    ///
    /// # Errors
    ///
    /// Fails without the right to.
    pub fn raise() -> Result<Self, PoolError> {
        let text = fs::read_to_string(LIMIT)?;
        let before: u64 = text.trim().parse().map_err(io::Error::other)?;
        if before < PAGES {
            fs::write(LIMIT, PAGES.to_string())?;
        }
        Ok(Self { before })
    }
}

impl Drop for HugePool {
    fn drop(&mut self) {
        if self.before < PAGES {
            // Nothing more can be done about it; the limit holds no memory.
            drop(fs::write(LIMIT, self.before.to_string()));
        }
    }
}
