//! Userfaultfds: contexts, their queues, and the calls on them, one file for each.
//!
//! | here | Linux 6.18 |
//! |---|---|
//! | [`api`] | `userfaultfd`, `userfaultfd_api` |
//! | `register`, `unregister` | `userfaultfd_register`, `userfaultfd_unregister` |
//! | [`fill`] | `mfill_atomic`: what the next four have in common |
//! | [`copy`], `zeropage`, `continue_`, `poison` | `userfaultfd_copy` and so on |
//! | `writeprotect` | `userfaultfd_writeprotect`, `mwriteprotect_range` |
//! | `rwprotect` | 7.3: `userfaultfd_rwprotect`, `userfaultfd_set_mode` |
//! | `move_` | `userfaultfd_move`, `move_pages` |
//! | `wake`, `read`, `release` | `userfaultfd_wake`, `_read`, `_release` |
//! | `event` | the hooks of `munmap`, `mremap`, `fork` and `madvise` |
//!
//! Faults are in `fault/uffd.rs`.
//!
//! Linux reference: `fs/userfaultfd.c`, `mm/userfaultfd.c`, `include/uapi/linux/userfaultfd.h`.

pub mod api;
mod context;
mod continue_;
pub mod copy;
pub(crate) mod event;
pub mod fill;
mod hugetlb;
mod move_;
pub mod msg;
mod poison;
mod range;
mod read;
mod register;
mod release;
mod rwprotect;
mod unregister;
mod wake;
mod writeprotect;
mod zeropage;

#[cfg(test)]
mod rwp_tests;
#[cfg(test)]
mod tests;

pub use api::UffdApi;
pub use context::{UffdId, Uffds};
pub use copy::UffdCopy;
pub use fill::Transfer;
pub use msg::UffdMsg;

pub(crate) use context::{Context, Prepared};
pub(crate) use writeprotect::protect_range;

use crate::machine::{Machine, World};
use crate::stop::Wait;
use crate::uapi::uffd::Features;
use crate::vma::{View, VmaFlags};

/// `userfaultfd_wp_use_markers`: whether protecting what is not there leaves markers.
pub(crate) fn uses_markers(world: &World, vma: &View) -> bool {
    vma.has(VmaFlags::UFFD_WP)
        && (!vma.is_anonymous() || world.uffds.has(vma.uffd, Features::WP_UNPOPULATED))
}

/// `userfaultfd_wp_async`: a write lifts the mapping's protection itself.
pub(crate) fn is_wp_async(world: &World, vma: &View) -> bool {
    world.uffds.has(vma.uffd, Features::WP_ASYNC)
}

impl Machine {
    /// Tells whether what a thread waits for has not come yet.
    pub fn is_blocked(&self, wait: Wait) -> bool {
        self.world.uffds.waits(wait)
    }
}
