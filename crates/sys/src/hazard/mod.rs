//! Signs that a process has memory written past its page tables.
//!
//! Write protection is noticed when a store goes through the page tables of the process. Devices
//! and parts of the kernel write by other ways: into pages pinned earlier, or through mappings of
//! their own. [`inspect`] looks for signs of that: what a descriptor refers to, which mappings
//! are shared with the kernel, which buffers io_uring has registered, how much memory is pinned.
//!
//! Signs prove presence, never absence. Not to be seen from outside are: buffers pinned by a
//! descriptor that was passed to another process and accounted nowhere; rings of provided
//! buffers in memory of the process (`IORING_REGISTER_PBUF_RING` with `IOU_PBUF_RING_INC`);
//! another process that writes with `process_vm_writev` or `/proc/PID/mem` at the same instant
//! as a page is armed. KVM's guests are no hazard: their page tables follow the process's own.
//!
//! Linux reference (6.18): `io_uring/fdinfo.c`, `fs/aio.c` (the ring), `mm/gup.c` (pins),
//! `net/xdp/xdp_umem.c`.

mod account;
mod descriptors;
mod held;
mod hidden;
mod kernel_shared;
mod kind;
mod moved;
mod others;
mod ring;
mod scan;
#[cfg(test)]
mod tests;

use space::{PageRange, RangeSet};

pub use account::unaccounted_pins;
pub use kind::Kind;
pub use others::Others;
pub use ring::{Ring, RingError};
pub use scan::{inspect, inspect_process};

/// When the writes happen that page tables don't show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Danger {
    /// While the process runs: what was written since a page was armed may go unnoticed. Copying
    /// the page while all tasks stand still is safe.
    WhileTracked,
    /// Even while all tasks stand still: the page may change while it is copied.
    EvenFrozen,
}

/// Memory whose content in a snapshot can't be proven to be that of one instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unproven {
    /// Where it may be: the writable mappings where nothing more is known.
    pub ranges: Vec<PageRange>,
    /// Why, for a person to read.
    pub reason: String,
    /// When it may be written.
    pub danger: Danger,
}

/// What was found in a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hazards {
    /// Pages that are known to be written by other ways, with the reason. Ranges may overlap.
    /// They are to be copied while all tasks stand still, whatever tracking says of them.
    pub pinned: Vec<(PageRange, String)>,
    /// What can't be made safe by copying in the freeze, or is not known exactly.
    pub unproven: Vec<Unproven>,
    /// Descriptors of userfaultfds that the process holds.
    pub userfaultfds: Vec<u32>,
    /// Threads of the process that run only in the kernel, to poll or work for io_uring.
    pub workers: Vec<u32>,
    /// All that was mapped.
    pub mapped: RangeSet,
}
