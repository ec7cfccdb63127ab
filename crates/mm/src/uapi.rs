//! Numbers of the system call interface, as programs pass them.
//!
//! Linux reference: 6.18, `include/uapi/linux/mman.h`, `include/uapi/asm-generic/mman*.h`.

pub mod pagemap;
pub mod uffd;

/// `PROT_*`.
pub mod prot {
    /// Loads.
    pub const READ: u64 = 1;
    /// Stores.
    pub const WRITE: u64 = 2;
    /// Fetches.
    pub const EXEC: u64 = 4;
    /// For atomic operations; has no effect.
    pub const SEM: u64 = 8;
    /// Change up to the start of a mapping that grows down.
    pub const GROWSDOWN: u64 = 0x0100_0000;
    /// Change up to the end of a mapping that grows up.
    pub const GROWSUP: u64 = 0x0200_0000;
}

/// `MAP_*`.
pub mod map {
    /// Stores reach the file.
    pub const SHARED: u64 = 1;
    /// Stores make copies.
    pub const PRIVATE: u64 = 2;
    /// As `SHARED`, but unknown flags fail.
    pub const SHARED_VALIDATE: u64 = 3;
    /// Private memory that may vanish.
    pub const DROPPABLE: u64 = 8;
    /// The bits that say which of these.
    pub const TYPE: u64 = 0xf;
    /// At this address and no other.
    pub const FIXED: u64 = 0x10;
    /// Without a file.
    pub const ANONYMOUS: u64 = 0x20;
    /// Grows towards lower addresses.
    pub const GROWSDOWN: u64 = 0x100;
    /// Locked.
    pub const LOCKED: u64 = 0x2000;
    /// Not counted as promised.
    pub const NORESERVE: u64 = 0x4000;
    /// Filled at once.
    pub const POPULATE: u64 = 0x8000;
    /// Takes the effect of `POPULATE` back.
    pub const NONBLOCK: u64 = 0x1_0000;
    /// A stack; today: no huge pages.
    pub const STACK: u64 = 0x2_0000;
    /// hugetlb pages.
    pub const HUGETLB: u64 = 0x4_0000;
    /// `MAP_SYNC`.
    pub const SYNC: u64 = 0x8_0000;
    /// As `FIXED`, but fails where something is mapped.
    pub const FIXED_NOREPLACE: u64 = 0x10_0000;
    /// Where the base-two logarithm of the huge page size stands.
    pub const HUGE_SHIFT: u32 = 26;
    /// Its bits.
    pub const HUGE_MASK: u64 = 0x3f;
    /// Flags that `SHARED_VALIDATE` knows (`LEGACY_MAP_MASK`): what any kernel knows but for
    /// `FIXED_NOREPLACE` and `SYNC`.
    pub const LEGACY_MASK: u64 = SHARED
        | PRIVATE
        | FIXED
        | ANONYMOUS
        | 0x800
        // `MAP_EXECUTABLE`; not a page size.
        | 0x1000
        | GROWSDOWN
        | LOCKED
        | NORESERVE
        | POPULATE
        | NONBLOCK
        | STACK
        | HUGETLB
        | 0x40
        | HUGE_MASK << HUGE_SHIFT;
}

/// `MREMAP_*`.
pub mod mremap {
    /// May move to another address.
    pub const MAYMOVE: u64 = 1;
    /// Moves to the address that is given.
    pub const FIXED: u64 = 2;
    /// Leaves the old mapping there, empty.
    pub const DONTUNMAP: u64 = 4;
}

/// `MADV_*`.
pub mod madv {
    /// No advice.
    pub const NORMAL: i32 = 0;
    /// Accesses are not in order.
    pub const RANDOM: i32 = 1;
    /// Accesses are in order.
    pub const SEQUENTIAL: i32 = 2;
    /// Will be needed.
    pub const WILLNEED: i32 = 3;
    /// Drops the pages.
    pub const DONTNEED: i32 = 4;
    /// May drop the pages.
    pub const FREE: i32 = 8;
    /// Makes a hole in the file.
    pub const REMOVE: i32 = 9;
    /// A child does not get it.
    pub const DONTFORK: i32 = 10;
    /// A child gets it.
    pub const DOFORK: i32 = 11;
    /// Pages may be joined with others (KSM).
    pub const MERGEABLE: i32 = 12;
    /// They may not.
    pub const UNMERGEABLE: i32 = 13;
    /// Huge pages, please.
    pub const HUGEPAGE: i32 = 14;
    /// No huge pages, please.
    pub const NOHUGEPAGE: i32 = 15;
    /// Not in a core dump.
    pub const DONTDUMP: i32 = 16;
    /// In a core dump.
    pub const DODUMP: i32 = 17;
    /// A child finds zeros.
    pub const WIPEONFORK: i32 = 18;
    /// A child finds what is there.
    pub const KEEPONFORK: i32 = 19;
    /// Not needed soon.
    pub const COLD: i32 = 20;
    /// Writes the pages out.
    pub const PAGEOUT: i32 = 21;
    /// Fills for reading.
    pub const POPULATE_READ: i32 = 22;
    /// Fills for writing.
    pub const POPULATE_WRITE: i32 = 23;
    /// As `DONTNEED`, also where locked.
    pub const DONTNEED_LOCKED: i32 = 24;
    /// Makes a huge page now.
    pub const COLLAPSE: i32 = 25;
    /// hugetlb may be mapped by small entries (proposed with HGM).
    pub const SPLIT: i32 = 26;
    /// Breaks the memory.
    pub const HWPOISON: i32 = 100;
    /// Takes the memory out of use.
    pub const SOFT_OFFLINE: i32 = 101;
    /// Any access gets SIGSEGV.
    pub const GUARD_INSTALL: i32 = 102;
    /// Takes that back.
    pub const GUARD_REMOVE: i32 = 103;
}

/// `MCL_*` and `MLOCK_*`.
pub mod mlock {
    /// `mlock2`: only what is touched.
    pub const ONFAULT: u64 = 1;
    /// `mlockall`: what is mapped now.
    pub const MCL_CURRENT: u64 = 1;
    /// `mlockall`: what will be mapped.
    pub const MCL_FUTURE: u64 = 2;
    /// `mlockall`: only what is touched.
    pub const MCL_ONFAULT: u64 = 4;
}

/// `MFD_*`, `F_SEAL_*`, `FALLOC_FL_*`.
pub mod file {
    /// Closed by `execve`; has no effect here.
    pub const MFD_CLOEXEC: u64 = 1;
    /// Seals may be added.
    pub const MFD_ALLOW_SEALING: u64 = 2;
    /// Of hugetlbfs.
    pub const MFD_HUGETLB: u64 = 4;
    /// Never executable.
    pub const MFD_NOEXEC_SEAL: u64 = 8;
    /// Executable.
    pub const MFD_EXEC: u64 = 0x10;
    /// No more seals.
    pub const SEAL_SEAL: u32 = 1;
    /// Does not shrink.
    pub const SEAL_SHRINK: u32 = 2;
    /// Does not grow.
    pub const SEAL_GROW: u32 = 4;
    /// Is not written.
    pub const SEAL_WRITE: u32 = 8;
    /// Is not written but through mappings that are there.
    pub const SEAL_FUTURE_WRITE: u32 = 0x10;
    /// The permission to execute does not change.
    pub const SEAL_EXEC: u32 = 0x20;
    /// All seals (`F_ALL_SEALS`).
    pub const SEALS_ALL: u32 =
        SEAL_SEAL | SEAL_SHRINK | SEAL_GROW | SEAL_WRITE | SEAL_FUTURE_WRITE | SEAL_EXEC;
    /// `fallocate` leaves the size.
    pub const FALLOC_KEEP_SIZE: u64 = 1;
    /// `fallocate` makes a hole.
    pub const FALLOC_PUNCH_HOLE: u64 = 2;
}
