//! The vocabulary that Onionskin's parts share: addresses, ranges of pages, mappings, error
//! numbers, and the small traits through which they meet.
//!
//! Nothing here does I/O or decides anything. Memory ([`AddressSpace`], [`PageSource`],
//! [`PageSink`]) is kept apart from tasks ([`Freeze`]): a virtual machine's memory has the first
//! without the second. A type that only two crates share belongs nearer to them.
#![forbid(unsafe_code)]

mod address;
mod errno;
mod mapping;
mod memory;
mod range;
mod range_set;
mod tasks;

pub use address::{ByteLen, PageCount, PageSize, Vaddr};
pub use errno::Errno;
pub use mapping::{Mapping, MappingFlags, Protection, Sharing};
pub use memory::{
    AddressSpace, PageFlags, PageRun, PageSink, PageSource, Rearm, Scan, Tracked, Tracking,
};
pub use range::PageRange;
pub use range_set::RangeSet;
pub use tasks::{Freeze, ProcessState, RegisterSet, StopLength, TaskState};
