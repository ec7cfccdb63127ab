//! Page faults: what happens when an access finds no entry that allows it.
//!
//! [`handle_mm_fault`] is asked once the mapping was found to allow the access. It changes the
//! page tables so that the access can be tried again, or says why it can't be.
//!
//! | here | Linux 6.18, `mm/memory.c` |
//! |---|---|
//! | [`handle_mm_fault`], `handle_pte_fault` | the same |
//! | [`anon`] | `do_anonymous_page` |
//! | [`file`](mod@file) | `do_read_fault`, `do_cow_fault`, `do_shared_fault`, `filemap_map_pages` |
//! | [`cow`] | `do_wp_page`, `wp_page_copy`, `wp_page_reuse` |
//! | [`marker`] | `handle_pte_marker` |
//! | [`swap`] | `do_swap_page` |
//! | [`uffd`] | `handle_userfault` of `fs/userfaultfd.c` |
//! | [`hugetlb`] | `hugetlb_fault` of `mm/hugetlb.c` |
//! | [`thp`] | `do_huge_pmd_anonymous_page`, `do_huge_pmd_wp_page` of `mm/huge_memory.c` |

pub(crate) mod anon;
pub(crate) mod cow;
pub(crate) mod file;
pub(crate) mod hugetlb;
pub(crate) mod marker;
pub(crate) mod swap;
pub(crate) mod thp;
pub(crate) mod uffd;

use bitflags::bitflags;
use space::Errno;

use crate::entry::{Bits, Entry, Present};
use crate::machine::{Mm, Tid, World};
use crate::stop::{Signal, Stop, Wait};
use crate::table::{PMD, Slot};
use crate::vma::{View, VmaFlags};

bitflags! {
    /// What is to be done, and by whom (`FAULT_FLAG_*`).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) struct FaultFlags: u8 {
        /// A store.
        const WRITE = 1;
        /// A reading pin, which must find a page of its own process.
        const UNSHARE = 1 << 1;
        /// The kernel accesses memory for a system call, not the program itself.
        const KERNEL = 1 << 2;
        /// Whoever asks can't sleep: no `FAULT_FLAG_ALLOW_RETRY`.
        const LOCKED = 1 << 3;
    }
}

/// Why an access can't be tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FaultStop {
    /// `VM_FAULT_SIGSEGV`.
    Segv,
    /// `VM_FAULT_SIGBUS`.
    Bus,
    /// `VM_FAULT_HWPOISON` and its large form: broken memory of this much.
    Hwpoison {
        /// Base-two logarithm of the size.
        shift: u32,
    },
    /// `VM_FAULT_RETRY` of `handle_userfault`: the thread sleeps.
    Blocked(Wait),
}

impl FaultStop {
    /// The signal for a thread whose access it was (`do_sigbus`, `bad_area_nosemaphore`).
    pub(crate) fn signal(self, world: &World) -> Result<Signal, Wait> {
        Ok(match self {
            Self::Segv => Signal::SegvMaperr,
            Self::Bus => Signal::BusAdrerr,
            Self::Hwpoison { shift } if world.profile.memory_failure => {
                Signal::BusMceerrAr { lsb: shift }
            }
            Self::Hwpoison { .. } => Signal::BusAdrerr,
            Self::Blocked(wait) => return Err(wait),
        })
    }

    /// The error for a system call that needed the page (`vm_fault_to_errno`).
    pub(crate) fn errno(self) -> Stop {
        match self {
            Self::Segv | Self::Bus | Self::Hwpoison { .. } => Errno::EFAULT.into(),
            Self::Blocked(wait) => Stop::Blocked(wait),
        }
    }
}

/// One fault (`struct vm_fault`).
pub(crate) struct Fault<'a> {
    pub(crate) world: &'a mut World,
    pub(crate) mm: &'a mut Mm,
    /// Who waits if there is something to wait for.
    pub(crate) tid: Tid,
    /// The mapping as it is now.
    pub(crate) vma: View,
    /// The address of the access, exactly.
    pub(crate) address: u64,
    pub(crate) flags: FaultFlags,
    /// The entry that was found (`orig_pte`).
    pub(crate) found: Entry,
}

impl Fault<'_> {
    pub(crate) fn is_write(&self) -> bool {
        self.flags.contains(FaultFlags::WRITE)
    }

    pub(crate) fn is_unshare(&self) -> bool {
        self.flags.contains(FaultFlags::UNSHARE)
    }

    /// The address of the page.
    pub(crate) fn page_address(&self) -> u64 {
        self.address & !(self.world.page_size() - 1)
    }

    /// The page offset of the page in its mapping's file.
    pub(crate) fn index(&self) -> u64 {
        self.vma.index_of(self.address, self.world.page_shift())
    }

    /// `vmf_orig_pte_uffd_wp`: there was a marker that the new entry takes over.
    pub(crate) fn found_uffd_marker(&self) -> bool {
        use crate::entry::Marker;
        matches!(self.found, Entry::Marker(marker) if marker.contains(Marker::UFFD_WP))
    }

    /// `pte_alloc`: the place of the page's entry.
    pub(crate) fn slot(&mut self) -> Slot {
        self.mm
            .tables
            .alloc_to(self.address, 0)
            .expect("a huge entry is handled before the lowest level")
    }

    /// `vmf_anon_prepare`: the mapping has a family from now on.
    pub(crate) fn anon_prepare(&mut self) {
        if self.vma.anon_vma.is_none() {
            let index = self.mm.vmas.find_index(self.address);
            let page_shift = self.world.page_shift();
            self.world
                .anon_vmas
                .prepare(&mut self.mm.vmas, index, page_shift);
            self.vma.anon_vma = self.mm.vmas.at(index).anon_vma;
        }
    }

    /// `vm_page_prot`, as the bits of an entry.
    pub(crate) fn page_prot(&self) -> Bits {
        page_prot(self.world, &self.vma)
    }

    /// `maybe_mkwrite(pte_mkdirty(entry))`.
    pub(crate) fn mkwrite(&self, entry: Present) -> Present {
        mkdirty(self.world, entry).with(Bits::WRITE, self.vma.has(VmaFlags::WRITE))
    }
}

/// `pte_mkdirty`, which says that it is soft-dirty, too.
pub(crate) fn mkdirty(world: &World, entry: Present) -> Present {
    entry
        .with(Bits::DIRTY, true)
        .with(Bits::SOFT_DIRTY, world.profile.soft_dirty)
}

/// `vm_get_page_prot` and `vma_set_page_prot`: what entries of a mapping may allow from the start.
pub(crate) fn page_prot(world: &World, vma: &View) -> Bits {
    let mut bits = Bits::empty();
    let shared_write = vma.has(VmaFlags::SHARED | VmaFlags::WRITE);
    bits.set(Bits::WRITE, shared_write && !wants_writenotify(world, vma));
    bits.set(Bits::EXEC, vma.has(VmaFlags::EXEC));
    bits.set(Bits::EXEC_ONLY, vma.has(VmaFlags::EXEC_ONLY));
    bits.set(Bits::PROT_NONE, !vma.flags.intersects(VmaFlags::ACCESS));
    bits
}

/// `vma_wants_writenotify`: the first write to each page of a shared mapping must fault.
pub(crate) fn wants_writenotify(world: &World, vma: &View) -> bool {
    vma.has(VmaFlags::SHARED | VmaFlags::WRITE)
        && ((soft_dirty_enabled(world, vma) && !vma.is_hugetlb()) || vma.has(VmaFlags::UFFD_WP))
}

/// `vma_soft_dirty_enabled`: writes are tracked since the last `clear_refs`.
pub(crate) fn soft_dirty_enabled(world: &World, vma: &View) -> bool {
    world.profile.soft_dirty && !vma.has(VmaFlags::SOFTDIRTY)
}

/// Resolves a fault at an address whose mapping allows the access.
pub(crate) fn handle_mm_fault(
    world: &mut World,
    mm: &mut Mm,
    tid: Tid,
    address: u64,
    flags: FaultFlags,
) -> Result<(), FaultStop> {
    let index = mm.vmas.find_index(address);
    let vma = mm.vmas.at(index).view();
    let mut fault = Fault {
        world,
        mm,
        tid,
        vma,
        address,
        flags,
        found: Entry::None,
    };
    if vma.is_hugetlb() {
        return hugetlb::fault(&mut fault);
    }
    // The upper tables are there from now on, also where the fault comes to nothing.
    fault.mm.tables.alloc_to(address, PMD);
    let slot = fault.mm.tables.walk(address, 0);
    let found = fault.mm.tables.entry(slot);
    if slot.level > 0 {
        // No table of the lowest level yet: a huge page fits, or is there.
        if let Some(done) = thp::fault(&mut fault, found) {
            return done;
        }
    }
    handle_pte_fault(&mut fault)
}

/// `handle_pte_fault`.
fn handle_pte_fault(fault: &mut Fault<'_>) -> Result<(), FaultStop> {
    let (slot, found) = fault.mm.tables.lookup(fault.address);
    if slot.level > 0 {
        return do_pte_missing(fault);
    }
    fault.found = found;
    let present = match found {
        Entry::None => return do_pte_missing(fault),
        Entry::Marker(marker) => return marker::handle(fault, slot, marker),
        Entry::Present(present) => present,
        Entry::Swap { slot: place, bits } => return swap::fault(fault, slot, place, bits),
        Entry::Hwpoison(_) => {
            let shift = fault.world.page_shift();
            return Err(FaultStop::Hwpoison { shift });
        }
        Entry::Migration { .. } | Entry::Table(_) => {
            unreachable!("no operation leaves a page on its way, or a table at the lowest level")
        }
    };
    if present.has(Bits::PROT_NONE) {
        return uffd::protnone(fault, slot, present);
    }
    let mut present = present;
    if fault.is_write() || fault.is_unshare() {
        if !present.has(Bits::WRITE) {
            return cow::do_wp_page(fault, slot, present);
        }
        if fault.is_write() {
            present = mkdirty(fault.world, present);
        }
    }
    fault
        .mm
        .tables
        .set_present(slot, present.with(Bits::YOUNG, true));
    Ok(())
}

/// `do_pte_missing`.
pub(crate) fn do_pte_missing(fault: &mut Fault<'_>) -> Result<(), FaultStop> {
    match fault.vma.file {
        None => anon::fault(fault),
        Some(file) => file::fault(fault, file),
    }
}
