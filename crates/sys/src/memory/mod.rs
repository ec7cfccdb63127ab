//! The memory of a process: reading it, scanning it, tracking its writes.

mod anchor;
mod entries;
mod files;
mod frames;
mod reader;
mod scan;
mod soft_dirty;
mod write_protect;

pub(crate) use anchor::Anchor;
pub(crate) use entries::PagemapEntries;
pub(crate) use files::{SharedFiles, is_special};
pub use reader::MemoryReader;
pub(crate) use scan::PagemapScanner;
pub(crate) use soft_dirty::SoftDirty;
pub(crate) use write_protect::WriteProtect;
