//! Mappings (VMAs): what a process may find at which addresses.
//!
//! [`Vma`] is one mapping, [`VmaMap`] the mappings of a process in order of address. Splitting is
//! in `split`, joining in `merge`, the families of anonymous memory in [`anon_vma`], and the
//! search for free addresses in `hole`.
//!
//! Linux reference: 6.18, `mm/vma.c`, `mm/rmap.c`, `include/linux/mm.h`.

pub mod anon_vma;
pub(crate) mod hole;
pub(crate) mod merge;
pub(crate) mod split;
pub(crate) mod stack;

#[cfg(test)]
mod tests;

use bitflags::bitflags;

pub use anon_vma::AnonVmaId;

use crate::file::FileId;
use crate::file::hugetlb::reserve::ReserveId;
use crate::uffd::UffdId;

bitflags! {
    /// `vm_flags`: the `VM_*` flags, at their values in the kernel where that has fixed ones.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct VmaFlags: u64 {
        /// Loads are allowed.
        const READ = 1;
        /// Stores are allowed.
        const WRITE = 1 << 1;
        /// Instruction fetches are allowed.
        const EXEC = 1 << 2;
        /// Stores reach the file.
        const SHARED = 1 << 3;
        /// `mprotect` may allow loads.
        const MAYREAD = 1 << 4;
        /// `mprotect` may allow stores.
        const MAYWRITE = 1 << 5;
        /// `mprotect` may allow fetches.
        const MAYEXEC = 1 << 6;
        /// Mapped with `MAP_SHARED`, though perhaps only to be read.
        const MAYSHARE = 1 << 7;
        /// Grows towards lower addresses.
        const GROWSDOWN = 1 << 8;
        /// Registered with a userfaultfd for missing pages.
        const UFFD_MISSING = 1 << 9;
        /// May hold guards, so that a child gets a copy of its tables. Joined mappings have it if
        /// one of them had it.
        const MAYBE_GUARD = 1 << 11;
        /// Registered with a userfaultfd for write protection.
        const UFFD_WP = 1 << 12;
        /// `mlock`ed.
        const LOCKED = 1 << 13;
        /// `MADV_SEQUENTIAL`.
        const SEQ_READ = 1 << 15;
        /// `MADV_RANDOM`.
        const RAND_READ = 1 << 16;
        /// `MADV_DONTFORK`.
        const DONTCOPY = 1 << 17;
        /// Can't be enlarged by `mremap`.
        const DONTEXPAND = 1 << 18;
        /// Locked, but only what is touched.
        const LOCKONFAULT = 1 << 19;
        /// Counts against the limit of memory that is promised.
        const ACCOUNT = 1 << 20;
        /// `MAP_NORESERVE`.
        const NORESERVE = 1 << 21;
        /// hugetlb pages.
        const HUGETLB = 1 << 22;
        /// `MAP_SYNC`, which any mapping takes and only persistent memory heeds.
        const SYNC = 1 << 23;
        /// `MADV_WIPEONFORK`.
        const WIPEONFORK = 1 << 25;
        /// `MADV_DONTDUMP`.
        const DONTDUMP = 1 << 26;
        /// New or written since `clear_refs`.
        const SOFTDIRTY = 1 << 27;
        /// `MADV_HUGEPAGE`.
        const HUGEPAGE = 1 << 29;
        /// `MADV_NOHUGEPAGE`.
        const NOHUGEPAGE = 1 << 30;
        /// `MADV_MERGEABLE`.
        const MERGEABLE = 1 << 31;
        /// Registered with a userfaultfd for minor faults.
        const UFFD_MINOR = 1 << 41;
        /// The protection key that lets nobody read or write (`execute_only_pkey`).
        const EXEC_ONLY = 1 << 32;
        /// hugetlb that may have small entries (HGM).
        const HUGETLB_HGM = 1 << 33;
        /// `MAP_DROPPABLE`.
        const DROPPABLE = 1 << 40;
        /// `mseal`ed.
        const SEALED = 1 << 42;
        /// Registered with a userfaultfd for read and write protection (7.3).
        const UFFD_RWP = 1 << 43;

        /// What may be done now.
        const ACCESS = Self::READ.bits() | Self::WRITE.bits() | Self::EXEC.bits();
        /// What `mprotect` may allow.
        const MAYACCESS = Self::MAYREAD.bits() | Self::MAYWRITE.bits() | Self::MAYEXEC.bits();
        /// Both flags of `mlock`.
        const LOCKED_MASK = Self::LOCKED.bits() | Self::LOCKONFAULT.bits();
        /// Mappings that are never joined (`VM_SPECIAL`, as far as it exists here).
        const SPECIAL = Self::DONTEXPAND.bits();
        /// What does not keep mappings from being joined (`VM_IGNORE_MERGE`).
        const IGNORE_MERGE = Self::SOFTDIRTY.bits() | Self::MAYBE_GUARD.bits();
        /// All registrations (`__VM_UFFD_FLAGS`).
        const UFFD = Self::UFFD_MISSING.bits() | Self::UFFD_WP.bits()
            | Self::UFFD_MINOR.bits() | Self::UFFD_RWP.bits();
    }
}

/// One mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vma {
    /// First address.
    pub start: u64,
    /// First address behind it.
    pub end: u64,
    /// What it is.
    pub flags: VmaFlags,
    /// `vm_pgoff`: the page offset of its start in the file, or what stands for it.
    pub pgoff: u64,
    /// The file behind it; shared anonymous memory has one, too.
    pub file: Option<FileId>,
    /// The family of its private pages, once it has some.
    pub anon_vma: Option<AnonVmaId>,
    /// All families whose pages it may map (`anon_vma_chain`), oldest first.
    pub chain: Vec<AnonVmaId>,
    /// The userfaultfd that it is registered with.
    pub uffd: Option<UffdId>,
    /// Base-two logarithm of the page size: larger than the base page's for hugetlb.
    pub page_shift: u32,
    /// hugetlb: what is promised to the private mapping, if this process made it
    /// (`HPAGE_RESV_OWNER`).
    pub reserve: Option<ReserveId>,
    /// hugetlb: its maker took a page from it, and what is not there stays so
    /// (`HPAGE_RESV_UNMAPPED`).
    pub reserve_lost: bool,
}

impl Vma {
    /// What page tables are changed by.
    #[inline]
    pub fn view(&self) -> View {
        View {
            start: self.start,
            end: self.end,
            flags: self.flags,
            pgoff: self.pgoff,
            file: self.file,
            anon_vma: self.anon_vma,
            uffd: self.uffd,
            page_shift: self.page_shift,
            reserve: self.reserve,
        }
    }

    /// Tells whether it covers an address.
    pub fn contains(&self, addr: u64) -> bool {
        self.start <= addr && addr < self.end
    }

    /// Its length in bytes.
    pub fn bytes(&self) -> u64 {
        self.end - self.start
    }

    /// Tells whether all of `flags` are set.
    #[inline]
    pub fn has(&self, flags: VmaFlags) -> bool {
        self.flags.contains(flags)
    }

    /// `vma_is_anonymous`: no file, not even one of shared anonymous memory.
    pub fn is_anonymous(&self) -> bool {
        self.file.is_none()
    }

    /// `vma_is_accessible`.
    pub fn is_accessible(&self) -> bool {
        self.flags.intersects(VmaFlags::ACCESS)
    }

    /// `is_vm_hugetlb_page`.
    pub fn is_hugetlb(&self) -> bool {
        self.has(VmaFlags::HUGETLB)
    }

    /// `vma_is_shmem`.
    pub fn is_shmem(&self) -> bool {
        self.file.is_some() && !self.is_hugetlb()
    }

    /// `is_cow_mapping`: private, and may be written one day.
    pub fn is_cow(&self) -> bool {
        self.flags & (VmaFlags::SHARED | VmaFlags::MAYWRITE) == VmaFlags::MAYWRITE
    }

    /// The page offset of an address: `linear_page_index`.
    pub fn index_of(&self, addr: u64, page_shift: u32) -> u64 {
        self.pgoff + ((addr - self.start) >> page_shift)
    }

    /// `vma_had_uncowed_parents`: it came by a fork and may map pages of its parent.
    pub fn had_uncowed_parents(&self) -> bool {
        self.anon_vma.is_some() && self.chain.len() != 1
    }

    /// `userfaultfd_armed`.
    pub fn uffd_armed(&self) -> bool {
        self.flags.intersects(VmaFlags::UFFD)
    }
}

/// What page tables are changed by: a mapping without what it owns, so that it can be held while
/// the rest of the process changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// First address.
    pub start: u64,
    /// First address behind it.
    pub end: u64,
    /// What it is.
    pub flags: VmaFlags,
    /// See [`Vma::pgoff`].
    pub pgoff: u64,
    /// The file behind it.
    pub file: Option<FileId>,
    /// The family of its private pages.
    pub anon_vma: Option<AnonVmaId>,
    /// The userfaultfd that it is registered with.
    pub uffd: Option<UffdId>,
    /// See [`Vma::page_shift`].
    pub page_shift: u32,
    /// See [`Vma::reserve`].
    pub reserve: Option<ReserveId>,
}

impl View {
    /// Tells whether all of `flags` are set.
    #[inline]
    pub fn has(&self, flags: VmaFlags) -> bool {
        self.flags.contains(flags)
    }

    /// `vma_is_anonymous`.
    pub fn is_anonymous(&self) -> bool {
        self.file.is_none()
    }

    /// `is_vm_hugetlb_page`.
    pub fn is_hugetlb(&self) -> bool {
        self.has(VmaFlags::HUGETLB)
    }

    /// `is_cow_mapping`.
    pub fn is_cow(&self) -> bool {
        self.flags & (VmaFlags::SHARED | VmaFlags::MAYWRITE) == VmaFlags::MAYWRITE
    }

    /// The page offset of an address: `linear_page_index`.
    pub fn index_of(&self, addr: u64, page_shift: u32) -> u64 {
        self.pgoff + ((addr - self.start) >> page_shift)
    }
}

/// The mappings of a process.
#[derive(Clone, Debug, Default)]
pub struct VmaMap {
    list: Vec<Vma>,
    /// Where the last search ended.
    recent: std::cell::Cell<usize>,
    /// Where mappings were cut since huge pages were last looked at: none lies across.
    pub(crate) cuts: Vec<u64>,
}

impl VmaMap {
    /// The mappings in order of address.
    pub fn iter(&self) -> std::slice::Iter<'_, Vma> {
        self.list.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Tells whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// `find_vma`: the index of the first mapping that ends behind `addr` (or the length).
    #[inline]
    pub fn find_index(&self, addr: u64) -> usize {
        let recent = self.recent.get();
        if self.list.get(recent).is_some_and(|vma| vma.contains(addr)) {
            return recent;
        }
        let index = self.list.partition_point(|vma| vma.end <= addr);
        self.recent.set(index);
        index
    }

    /// `vma_lookup`: the mapping that covers `addr`.
    #[inline]
    pub fn lookup(&self, addr: u64) -> Option<&Vma> {
        self.list
            .get(self.find_index(addr))
            .filter(|vma| vma.contains(addr))
    }

    /// As [`lookup`](Self::lookup), to be changed. The caller keeps the bounds.
    pub fn lookup_mut(&mut self, addr: u64) -> Option<&mut Vma> {
        let index = self.find_index(addr);
        self.list.get_mut(index).filter(|vma| vma.contains(addr))
    }

    /// `find_vma`: the first mapping that ends behind `addr`.
    pub fn find(&self, addr: u64) -> Option<&Vma> {
        self.list.get(self.find_index(addr))
    }

    /// The mappings that have addresses in `start..end`.
    pub fn overlapping(&self, start: u64, end: u64) -> &[Vma] {
        let first = self.find_index(start);
        let count = self.list[first..].partition_point(|vma| vma.start < end);
        &self.list[first..first + count]
    }

    /// Tells whether a mapping has addresses in `start..end` (`find_vma_intersection`).
    pub fn intersects(&self, start: u64, end: u64) -> bool {
        self.find(start).is_some_and(|vma| vma.start < end)
    }

    /// The mapping of an index.
    ///
    /// # Panics
    ///
    /// Panics where there is none.
    #[inline]
    pub fn at(&self, index: usize) -> &Vma {
        &self.list[index]
    }

    /// The mapping of an index, to be changed. The caller keeps the bounds.
    ///
    /// # Panics
    ///
    /// Panics where there is none.
    pub fn at_mut(&mut self, index: usize) -> &mut Vma {
        &mut self.list[index]
    }

    /// The mapping of an index, if there is one.
    pub fn get(&self, index: usize) -> Option<&Vma> {
        self.list.get(index)
    }

    /// Puts a mapping in; returns its index. The references it holds are the caller's affair.
    pub(crate) fn insert(&mut self, vma: Vma) -> usize {
        let index = self.find_index(vma.start);
        debug_assert!(
            self.list
                .get(index)
                .is_none_or(|next| vma.end <= next.start),
            "mappings don't overlap"
        );
        self.list.insert(index, vma);
        index
    }

    /// Takes a mapping out. The references it holds are the caller's affair.
    pub(crate) fn remove(&mut self, index: usize) -> Vma {
        self.list.remove(index)
    }
}
