//! Mappings: what the kernel calls a VMA, as `/proc/PID/maps` and `smaps` show it.

use bitflags::bitflags;
use serde::{Deserialize, Serialize};

use crate::{PageRange, PageSize};

bitflags! {
    /// What a process may do with a mapping.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
    #[serde(transparent)]
    pub struct Protection: u8 {
        /// Loads are allowed.
        const READ = 1;
        /// Stores are allowed.
        const WRITE = 2;
        /// Instruction fetches are allowed.
        const EXEC = 4;
    }
}

/// Whether stores reach the file (and everyone who maps it) or stay with the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sharing {
    /// `MAP_PRIVATE`: a store makes a copy.
    Private,
    /// `MAP_SHARED`: a store reaches the file.
    Shared,
}

bitflags! {
    /// What `VmFlags` of `smaps` says beyond protection and sharing.
    ///
    /// Read when the mapping was last looked at in full; `madvise` may change them unseen.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
    #[serde(transparent)]
    pub struct MappingFlags: u16 {
        /// `ht`: memory of hugetlbfs.
        const HUGETLB = 1;
        /// `dd`: `MADV_DONTDUMP`.
        const DONT_DUMP = 1 << 1;
        /// `dc`: `MADV_DONTFORK`, a child does not get it.
        const DONT_FORK = 1 << 2;
        /// `wf`: `MADV_WIPEONFORK`, a child finds zeros.
        const WIPE_ON_FORK = 1 << 3;
        /// `io`: memory of a device; reading it may have effects.
        const IO = 1 << 4;
        /// `pf`: page frames without a `struct page`.
        const PFN_MAP = 1 << 5;
        /// `um`, `uw` or `ui`: registered with a userfaultfd.
        const USERFAULT = 1 << 6;
        /// `um` or `ui`: accesses may wait for the handler of that userfaultfd.
        const USERFAULT_WAITS = 1 << 7;
        /// `gd`: grows downwards, a stack.
        const GROWS_DOWN = 1 << 8;
        /// `lo`: locked in memory.
        const LOCKED = 1 << 9;
        /// The file has no name any more (its link count is zero), as anonymous shared memory
        /// and memfds.
        const UNLINKED = 1 << 10;
        /// At least one page of a private file mapping is the process's own copy, so that the
        /// kernel's dump would take the whole mapping.
        const HAS_OWN_PAGES = 1 << 11;
        /// The first page holds an ELF header.
        const ELF_HEADER = 1 << 12;
    }
}

/// One mapping of a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mapping {
    /// The addresses it covers.
    pub range: PageRange,
    /// What the process may do with it.
    pub protection: Protection,
    /// Whether stores reach the file.
    pub sharing: Sharing,
    /// Byte offset in the file of the first address; 0 without a file.
    pub file_offset: u64,
    /// Major and minor number of the file's device; `(0, 0)` without a file.
    pub device: (u32, u32),
    /// Inode number of the file; 0 without a file.
    pub inode: u64,
    /// The file's name, or the kernel's name for the mapping as `[stack]`, or empty. Bytes that
    /// are no UTF-8 are replaced.
    pub name: String,
    /// What else is known.
    pub flags: MappingFlags,
    /// The size of the pages behind it: the base page size but for hugetlb.
    pub page_size: PageSize,
}

impl Mapping {
    /// Tells whether a file stands behind the mapping (shared anonymous memory has one too).
    pub fn has_file(&self) -> bool {
        self.inode != 0
    }

    /// Tells whether both describe the same memory: all but the flags that come from `smaps`.
    pub fn same_place(&self, other: &Self) -> bool {
        self.range == other.range
            && self.protection == other.protection
            && self.sharing == other.sharing
            && self.file_offset == other.file_offset
            && self.device == other.device
            && self.inode == other.inode
            && self.name == other.name
    }
}
