//! What the kernel tells about a process's memory: `/proc/PID/maps`, `pagemap`, `PAGEMAP_SCAN`,
//! `clear_refs`, `mincore`.
//!
//! Linux reference: 6.18, `fs/proc/task_mmu.c`, `mm/mincore.c`.

pub mod clear_refs;
pub mod maps;
pub mod mincore;
pub mod pagemap;
pub mod scan;
