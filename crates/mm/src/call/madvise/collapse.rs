//! `MADV_COLLAPSE` (`madvise_collapse`, `hpage_collapse_scan_pmd`, `collapse_huge_page`).

use space::Errno;

use super::Part;
use crate::entry::{Bits, Entry, Marker, Present, SwapBits};
use crate::fault::thp::is_suitable;
use crate::fault::{mkdirty, page_prot};
use crate::folio::{FolioFlags, Owner, ZERO_PFN};
use crate::machine::{Machine, Mm, World};
use crate::profile::Kernel;
use crate::stop::Stop;
use crate::table::PMD;
use crate::thp;
use crate::vma::{View, VmaFlags};

/// Why one huge page was not made (`enum scan_result`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The rest of the range is tried all the same.
    Here(Errno),
    /// The rest is not tried.
    Ends(Errno),
}

impl Machine {
    pub(super) fn collapse(&mut self, part: &Part) -> Result<(), Stop> {
        let (world, process) = self.halves(part.tid)?;
        let size = world.profile.geometry().pmd_size();
        if process.mm.thp_disabled || !is_allowed(&part.vma, size) {
            return Err(Errno::EINVAL.into());
        }
        let start = part.start.div_ceil(size) * size;
        let end = part.end & !(size - 1);
        if start > end {
            return Err(Errno::EINVAL.into());
        }
        let mut errno = Errno::EINVAL;
        let mut made = 0;
        let mut addr = start;
        while addr < end {
            let collapsed = match part.vma.file {
                None => {
                    let (world, process) = self.halves(part.tid)?;
                    collapse_one(world, &mut process.mm, &part.vma, addr)
                }
                Some(file) => {
                    let pid = self.pid_of(part.tid)?;
                    self.collapse_file(pid, &part.vma, file, addr)
                }
            };
            match collapsed {
                Ok(()) => made += 1,
                Err(Refusal::Here(why)) => errno = why,
                Err(Refusal::Ends(why)) => {
                    errno = why;
                    break;
                }
            }
            addr += size;
        }
        if made == (end - start) / size {
            Ok(())
        } else {
            Err(errno.into())
        }
    }
}

/// `thp_vma_allowable_order`, without what the administrator set.
fn is_allowed(vma: &View, size: u64) -> bool {
    let refused = VmaFlags::NOHUGEPAGE | VmaFlags::SPECIAL | VmaFlags::HUGETLB;
    let last = vma.end.saturating_sub(size) & !(size - 1);
    !vma.flags.intersects(refused)
        && is_suitable(vma, last, size)
        && (!vma.is_anonymous() || vma.anon_vma.is_some())
}

/// `hpage_collapse_scan_pmd`: what is in the way of a huge page.
fn scan(world: &World, mm: &Mm, vma: &View, addr: u64) -> Result<(), Refusal> {
    let armed = vma.flags.intersects(VmaFlags::UFFD);
    let mut writable = false;
    let mut unmapped = false;
    for page in 0..mm.tables.geometry().entries() {
        let at = addr + (u64::try_from(page).expect("few entries") << world.page_shift());
        let present = match mm.tables.lookup(at).1 {
            Entry::None => {
                if armed {
                    return Err(Refusal::Ends(Errno::EBUSY));
                }
                continue;
            }
            Entry::Present(present) => present,
            Entry::Marker(marker) if marker.contains(Marker::UFFD_WP) => {
                return Err(Refusal::Here(Errno::EINVAL));
            }
            Entry::Swap { bits, .. } => {
                if bits.contains(SwapBits::UFFD_WP) {
                    return Err(Refusal::Here(Errno::EINVAL));
                }
                continue;
            }
            _ => {
                unmapped = true;
                continue;
            }
        };
        if present.has(Bits::SPECIAL) {
            if armed {
                return Err(Refusal::Ends(Errno::EBUSY));
            }
            continue;
        }
        if present.has(Bits::UFFD_WP) {
            return Err(Refusal::Here(Errno::EINVAL));
        }
        writable |= present.has(Bits::WRITE);
        let folio = world.frames.folio(present.pfn);
        if !folio.is_anon() {
            return Err(Refusal::Ends(Errno::EINVAL));
        }
        // is_refcount_suitable
        let cached = folio.flags.contains(FolioFlags::SWAPCACHE);
        let expected = folio.mapcount + if cached { 1 << folio.order } else { 0 };
        if folio.refcount != expected {
            return Err(Refusal::Here(Errno::EAGAIN));
        }
    }
    // Up to 6.17 one page had to be writable.
    if !writable && world.profile.kernel < Kernel::V6_18 {
        return Err(Refusal::Here(Errno::EINVAL));
    }
    if unmapped {
        // __collapse_huge_page_swapin meets a guard or broken memory.
        return Err(Refusal::Ends(Errno::EINVAL));
    }
    Ok(())
}

/// Makes one huge page of what is mapped at `addr`.
fn collapse_one(world: &mut World, mm: &mut Mm, vma: &View, addr: u64) -> Result<(), Refusal> {
    // find_pmd_or_thp_or_none
    let slot = mm.tables.walk(addr, PMD);
    if slot.level > PMD {
        return Err(Refusal::Here(Errno::EINVAL));
    }
    match mm.tables.entry(slot) {
        Entry::Present(_) => return Ok(()),
        Entry::Table(_) => {}
        _ => return Err(Refusal::Ends(Errno::EINVAL)),
    }
    scan(world, mm, vma, addr)?;
    swap_in(world, mm, vma, addr);
    let owner = Owner::Anon {
        anon_vma: vma.anon_vma.expect("the mapping was checked"),
        index: vma.index_of(addr, world.page_shift()),
    };
    let order = thp::order(world);
    let pfn = world.frames.alloc(order, owner);
    for page in 0..1_u64 << order {
        let at = addr + (page << world.page_shift());
        let (place, entry) = mm.tables.lookup(at);
        if let Entry::Present(old) = entry {
            if old.pfn != ZERO_PFN {
                world.frames.copy(old.pfn, pfn.plus(page));
                world.frames.remove_rmap(old.pfn);
                world.frames.put(old.pfn, 1);
            }
            mm.tables.set(place, Entry::None);
        }
    }
    mm.tables.free_if_empty(addr);
    world.frames.add_rmap_entire(pfn);
    world.frames.set_exclusive(pfn, true);
    let entry = Present {
        pfn,
        bits: page_prot(world, vma) | Bits::HUGE | Bits::YOUNG,
    };
    let entry = mkdirty(world, entry).with(Bits::WRITE, vma.has(VmaFlags::WRITE));
    mm.tables.set_present(slot, entry);
    Ok(())
}

/// `__collapse_huge_page_swapin`: brings the swapped pages of the range back.
fn swap_in(world: &mut World, mm: &mut Mm, vma: &View, addr: u64) {
    for page in 0..mm.tables.geometry().entries() {
        let at = addr + (u64::try_from(page).expect("few entries") << world.page_shift());
        let (slot, entry) = mm.tables.lookup(at);
        if let Entry::Swap { slot: place, bits } = entry {
            crate::fault::swap::bring_back(world, mm, vma, (slot, at), (place, bits), false);
        }
    }
}
