//! Which machine is modelled: a kernel, an architecture, a configuration. A profile is data; the
//! code asks it at the places where machines differ, and nowhere else.

use crate::entry::Codec;
use crate::table::Geometry;

/// A kernel version that the model knows the differences of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kernel {
    /// Linux 6.1 (long term).
    V6_1,
    /// Linux 6.12 (long term).
    V6_12,
    /// Linux 6.18 (long term): the one the model is compared with.
    V6_18,
    /// Linux 7.3, with RWP.
    V7_3,
}

/// An architecture and its page size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arch {
    /// x86_64, pages of 4 KiB.
    X86_64,
    /// arm64, pages of 4 KiB.
    Arm64Page4K,
    /// arm64, pages of 16 KiB.
    Arm64Page16K,
    /// arm64, pages of 64 KiB.
    Arm64Page64K,
}

impl Arch {
    /// The shape of its page tables, for 48-bit addresses.
    pub fn geometry(self) -> Geometry {
        let (page_shift, levels) = match self {
            Self::X86_64 | Self::Arm64Page4K => (12, 4),
            Self::Arm64Page16K => (14, 4),
            Self::Arm64Page64K => (16, 3),
        };
        Geometry { page_shift, levels }
    }

    /// How its entries are written.
    pub fn codec(self) -> Codec {
        match self {
            Self::X86_64 => Codec::X86_64,
            Self::Arm64Page4K | Self::Arm64Page16K | Self::Arm64Page64K => Codec::Arm64 {
                page_shift: self.geometry().page_shift,
            },
        }
    }

    /// The first address that no process has.
    pub fn task_size(self) -> u64 {
        match self {
            // The highest page below the hole is kept free.
            Self::X86_64 => (1 << 47) - self.geometry().page_size(),
            Self::Arm64Page4K | Self::Arm64Page16K | Self::Arm64Page64K => 1 << 48,
        }
    }
}

/// `/sys/kernel/mm/transparent_hugepage/enabled`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThpMode {
    /// Huge pages wherever they fit.
    Always,
    /// Where `MADV_HUGEPAGE` asks for them.
    Madvise,
    /// Nowhere.
    Never,
}

/// How merging treats `VM_SOFTDIRTY`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MergeSoftDirty {
    /// The merged mapping keeps the flag of the one that is extended.
    KeepTarget,
    /// The merged mapping has the flag if one of them had it (6.19 and later).
    Sticky,
}

/// When a write to shared private memory may use the page instead of copying it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CowPolicy {
    /// One mapping, whoever else holds a reference (up to 5.7; hugetlb up to this day).
    Mapcount,
    /// One mapping, and whoever takes a reference to read breaks the sharing first (5.8).
    EarlyBreak,
    /// One reference (5.9 to 5.18).
    Refcount,
    /// As `EarlyBreak`, with exact counts of swap: what was proposed against `Refcount`.
    AndreaAccurate,
    /// One reference, and a page that is writable with more of them is pinned: it is copied at
    /// fork, and never made read-only.
    LinusStrict,
    /// The page is marked exclusive, or there is one reference (5.19 and later).
    AnonExclusive,
}

/// How mappings of a hugetlb page by pieces are counted: the designs of the HGM series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HgmCounting {
    /// One mapping for each entry of the page's own level, one reference for each piece (RFC v1).
    PerEntry,
    /// One mapping and one reference for each piece (v1).
    TotalReferences,
    /// As for transparent huge pages: each base page has a count of its own (v2).
    ThpLike,
    /// One mapping and one reference for all pieces together.
    OneLogical,
}

/// High-granularity mapping of hugetlb, which was proposed and never merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hgm {
    /// Nothing is ever mapped as a whole: `MADV_SPLIT` unmaps its range, and then the size of each
    /// entry is known.
    pub always_small: bool,
    /// From so many references of a page on, no more pieces of it are mapped (half of `INT_MAX`).
    pub references_max: u32,
}

/// A pool of hugetlb pages of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HugePool {
    /// Base-two logarithm of the size.
    pub shift: u32,
    /// How many there are (`nr_hugepages`).
    pub pages: u64,
    /// How many more may be taken from other memory (`nr_overcommit_hugepages`).
    pub overcommit: u64,
}

/// Everything that can differ between modelled machines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// The version.
    pub kernel: Kernel,
    /// The architecture.
    pub arch: Arch,
    /// `CONFIG_MEM_SOFT_DIRTY`.
    pub soft_dirty: bool,
    /// `CONFIG_MEMORY_FAILURE`.
    pub memory_failure: bool,
    /// `CONFIG_ANON_VMA_NAME` and the like do not matter; this is `CONFIG_PT_RECLAIM`: tables
    /// that `MADV_DONTNEED` leaves empty are freed.
    pub reclaims_tables: bool,
    /// Protection keys: memory that may only be executed can't be read (x86_64 with `ospke`).
    pub execute_only: bool,
    /// Pages of swap, 0 for none.
    pub swap_pages: u64,
    /// Pages of memory, for the overcommit heuristic.
    pub memory_pages: u64,
    /// Huge pages for private memory.
    pub thp: ThpMode,
    /// hugetlb pools, the default size first.
    pub huge_pools: Vec<HugePool>,
    /// Pages around a read fault of a file that are mapped with it (`fault_around_bytes`).
    pub fault_around_pages: u64,
    /// `vm.max_map_count`.
    pub map_count_max: usize,
    /// Lowest address of a mapping without privileges (`vm.mmap_min_addr`).
    pub mmap_min_addr: u64,
    /// How merging treats `VM_SOFTDIRTY`.
    pub merge_soft_dirty: MergeSoftDirty,
    /// High-granularity mapping, which no kernel has.
    pub hgm: Option<Hgm>,
    /// A mapping without pages takes in a neighbour that has some (6.16 and later).
    pub merges_into_untouched: bool,
    /// `mmap` asks the mapping behind the new one first whether it takes it in (before 6.12).
    pub mmap_joins_next_first: bool,
    /// `mremap` looks at all arguments before it unmaps anything, and moves several mappings at
    /// once (6.17 and later).
    pub mremap_moves_many: bool,
    /// `MADV_COLLAPSE` maps a huge page of a file also where no page table above it is there yet.
    pub collapse_makes_tables: bool,
    /// `PAGEMAP_SCAN` counts an empty entry of a page table as written in any mapping, and not only in
    /// one that is registered for write protection or where it is asked for nothing else.
    pub scans_empty_as_written: bool,
    /// `CONFIG_HAVE_ARCH_USERFAULTFD_WP`: a userfaultfd can protect pages (arm64: 6.10 and later).
    pub uffd_wp: bool,
    /// When a page is used and when it is copied.
    pub cow: CowPolicy,
    /// The same for hugetlb.
    pub cow_hugetlb: CowPolicy,
}

/// The sizes of hugetlb pages that one huge entry maps, the default size first.
fn huge_shifts(arch: Arch) -> [u32; 2] {
    let geometry = arch.geometry();
    [geometry.shift(1), geometry.shift(2)]
}

impl Profile {
    /// The machine of a kernel and an architecture with the usual configuration.
    pub fn new(kernel: Kernel, arch: Arch) -> Self {
        let is_x86 = arch == Arch::X86_64;
        let geometry = arch.geometry();
        Self {
            kernel,
            arch,
            soft_dirty: is_x86,
            memory_failure: true,
            reclaims_tables: is_x86 && kernel >= Kernel::V6_18,
            execute_only: false,
            swap_pages: 0,
            memory_pages: 1 << 22,
            thp: ThpMode::Madvise,
            huge_pools: huge_shifts(arch)
                .map(|shift| HugePool {
                    shift,
                    pages: 0,
                    overcommit: 0,
                })
                .to_vec(),
            fault_around_pages: ((1 << 16) >> geometry.page_shift).max(1),
            map_count_max: 65530,
            mmap_min_addr: 1 << 16,
            merge_soft_dirty: if kernel > Kernel::V6_18 {
                MergeSoftDirty::Sticky
            } else {
                MergeSoftDirty::KeepTarget
            },
            hgm: None,
            merges_into_untouched: kernel >= Kernel::V6_18,
            mmap_joins_next_first: kernel < Kernel::V6_12,
            mremap_moves_many: kernel >= Kernel::V6_18,
            collapse_makes_tables: kernel >= Kernel::V6_18,
            scans_empty_as_written: kernel >= Kernel::V6_18,
            uffd_wp: is_x86 || kernel >= Kernel::V6_12,
            cow: CowPolicy::AnonExclusive,
            cow_hugetlb: CowPolicy::Mapcount,
        }
    }

    /// The shape of page tables.
    pub fn geometry(&self) -> Geometry {
        self.arch.geometry()
    }

    /// The size of a page.
    pub fn page_size(&self) -> u64 {
        self.geometry().page_size()
    }
}
