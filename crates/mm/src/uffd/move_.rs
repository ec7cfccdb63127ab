//! `UFFDIO_MOVE` (`userfaultfd_move`, `move_pages`): pages of private memory change their address
//! without being copied.

use space::Errno;

use super::fill::Transfer;
use super::{UffdCopy, UffdId, range};
use crate::entry::{Bits, Entry, Present, SwapBits, SwapSlot};
use crate::fault::page_prot;
use crate::folio::{Owner, ZERO_PFN};
use crate::machine::{Fd, Machine, Mm, Tid, World};
use crate::profile::Kernel;
use crate::table::{PMD, Slot};
use crate::uapi::uffd::mode;
use crate::vma::{View, VmaFlags};

impl Machine {
    /// Moves pages of the caller's own memory to a registered range.
    pub fn uffd_move(&mut self, tid: Tid, fd: Fd, args: UffdCopy) -> Transfer {
        let uffd = match self.check_move(tid, fd, &args) {
            Ok(uffd) => uffd,
            Err(left) => return left,
        };
        let moved = match self.move_pages(uffd, &args) {
            Ok(moved) => moved,
            Err(errno) => return Transfer::failed(errno),
        };
        if args.mode & mode::DONTWAKE == 0 {
            self.context_mut(uffd).wake(args.dst, args.dst + moved);
        }
        Transfer::done(moved, args.len)
    }

    fn check_move(&self, tid: Tid, fd: Fd, args: &UffdCopy) -> Result<UffdId, Transfer> {
        let uffd = self.uffd_ready(tid, fd).map_err(Transfer::refused)?;
        let invalid = Transfer::refused(Errno::EINVAL);
        if self.world.profile.kernel < Kernel::V6_12 {
            // An unknown call.
            return Err(invalid);
        }
        if self.is_changing(uffd) {
            return Err(Transfer::failed(Errno::EAGAIN));
        }
        let pid = self.context(uffd).pid;
        if self.pid_of(tid) != Ok(pid) {
            return Err(invalid);
        }
        range::check(&self.world, args.dst, args.len).map_err(Transfer::refused)?;
        range::check(&self.world, args.src, args.len).map_err(Transfer::refused)?;
        if args.mode & !(mode::DONTWAKE | mode::ALLOW_SRC_HOLES) != 0 {
            return Err(invalid);
        }
        Ok(uffd)
    }

    /// `move_pages`: how many bytes were moved, or why none.
    fn move_pages(&mut self, uffd: UffdId, args: &UffdCopy) -> Result<u64, Errno> {
        let pid = self.context(uffd).pid;
        let changing = self.is_changing(uffd);
        let (world, process) = self.halves_of(pid)?;
        let mm = &mut process.mm;
        let (dst_vma, src_vma) = lock_mappings(world, mm, args)?;
        if changing {
            return Err(Errno::EAGAIN);
        }
        check_areas(world, uffd, &dst_vma, &src_vma, args)?;
        let holes = args.mode & mode::ALLOW_SRC_HOLES != 0;
        let mut mover = Mover {
            dst_vma,
            holes,
            dst: args.dst,
            src: args.src,
            left: args.len,
        };
        while mover.left > 0 {
            match mover.step(world, mm) {
                Ok(bytes) => {
                    mover.dst += bytes;
                    mover.src += bytes;
                    mover.left -= bytes;
                }
                Err(errno) if mover.left == args.len => return Err(errno),
                Err(_) => break,
            }
        }
        Ok(args.len - mover.left)
    }
}

/// `uffd_move_lock`: the mappings of the two addresses, that of the destination with a family.
fn lock_mappings(world: &mut World, mm: &mut Mm, args: &UffdCopy) -> Result<(View, View), Errno> {
    let index = mm.vmas.find_index(args.dst);
    let dst = mm
        .vmas
        .get(index)
        .filter(|vma| vma.contains(args.dst))
        .ok_or(Errno::ENOENT)?;
    if !dst.has(VmaFlags::SHARED) {
        let page_shift = world.page_shift();
        world.anon_vmas.prepare(&mut mm.vmas, index, page_shift);
    }
    let src = mm.vmas.lookup(args.src).ok_or(Errno::ENOENT)?;
    Ok((mm.vmas.at(index).view(), src.view()))
}

/// `validate_move_areas` and the checks before it.
fn check_areas(
    world: &World,
    uffd: UffdId,
    dst: &View,
    src: &View,
    args: &UffdCopy,
) -> Result<(), Errno> {
    let allowed = |vma: &View| {
        !vma.flags.intersects(VmaFlags::SHARED | VmaFlags::HUGETLB) && vma.is_anonymous()
    };
    let alike = VmaFlags::ACCESS | VmaFlags::LOCKED;
    let fits = args.src + args.len <= src.end && args.dst + args.len <= dst.end;
    let good = fits
        && allowed(src)
        && allowed(dst)
        && src.flags & alike == dst.flags & alike
        && page_prot(world, src) == page_prot(world, dst)
        && src.has(VmaFlags::WRITE)
        && dst.uffd == Some(uffd);
    if good { Ok(()) } else { Err(Errno::EINVAL) }
}

/// How far a move came.
struct Mover {
    dst_vma: View,
    /// `UFFDIO_MOVE_MODE_ALLOW_SRC_HOLES`.
    holes: bool,
    dst: u64,
    src: u64,
    left: u64,
}

impl Mover {
    /// One step of the loop of `move_pages`; returns how many bytes it did.
    fn step(&self, world: &mut World, mm: &mut Mm) -> Result<u64, Errno> {
        loop {
            let src = match mm.tables.find(self.src, PMD) {
                Some(slot) => slot,
                None if !self.holes => return Err(Errno::ENOENT),
                None => self.upper(mm, self.src),
            };
            let dst = self.upper(mm, self.dst);
            if matches!(mm.tables.entry(dst), Entry::Present(_)) {
                return Err(Errno::EEXIST);
            }
            let Entry::Present(huge) = mm.tables.entry(src) else {
                return self.step_small(world, mm, src);
            };
            let size = mm.tables.geometry().pmd_size();
            let whole = (self.src | self.dst) & (size - 1) == 0 && self.left >= size;
            if whole && mm.tables.entry(dst) == Entry::None {
                self.move_huge(world, mm, (src, dst), huge)?;
                return Ok(size);
            }
            if !huge.has(Bits::SPECIAL) && !world.frames.is_exclusive(huge.pfn) {
                return Err(Errno::EBUSY);
            }
            crate::thp::split(world, mm, src);
        }
    }

    /// The place of an address at the second level.
    fn upper(&self, mm: &mut Mm, addr: u64) -> Slot {
        mm.tables
            .alloc_to(addr, PMD)
            .expect("private memory has no pages that are larger")
    }

    fn step_small(&self, world: &mut World, mm: &mut Mm, upper: Slot) -> Result<u64, Errno> {
        if mm.tables.entry(upper) == Entry::None && !self.holes {
            return Err(Errno::ENOENT);
        }
        let there = "no huge entry is in the way";
        let src = mm.tables.alloc_to(self.src, 0).expect(there);
        let dst = mm.tables.alloc_to(self.dst, 0).expect(there);
        if mm.tables.entry(dst) != Entry::None {
            return Err(Errno::EEXIST);
        }
        match mm.tables.entry(src) {
            Entry::None if self.holes => {}
            Entry::None => return Err(Errno::ENOENT),
            Entry::Present(present) if present.has(Bits::SPECIAL) => {
                let bits = page_prot(world, &self.dst_vma) | Bits::SPECIAL | Bits::YOUNG;
                let entry = Present {
                    pfn: ZERO_PFN,
                    bits,
                };
                mm.tables.set(src, Entry::None);
                mm.tables.set_present(dst, entry);
            }
            Entry::Present(present) => self.move_present(world, mm, (src, dst), present)?,
            Entry::Swap { slot, bits } => {
                self.move_swapped(world, mm, (src, dst), (slot, bits))?;
            }
            Entry::Marker(_) | Entry::Hwpoison(_) => return Err(Errno::EFAULT),
            Entry::Migration { .. } | Entry::Table(_) => {
                unreachable!(
                    "no operation leaves a page on its way, or a table at the lowest level"
                )
            }
        }
        Ok(world.page_size())
    }

    /// The page offset that a page has in the destination.
    fn owner(&self, world: &World) -> Owner {
        Owner::Anon {
            anon_vma: self.dst_vma.anon_vma.expect("the family was prepared"),
            index: self.dst_vma.index_of(self.dst, world.page_shift()),
        }
    }

    /// `move_present_ptes`, one page at a time.
    fn move_present(
        &self,
        world: &mut World,
        mm: &mut Mm,
        (src, dst): (Slot, Slot),
        present: Present,
    ) -> Result<(), Errno> {
        let pfn = present.pfn;
        let folio = world.frames.folio(pfn);
        if !world.frames.is_exclusive(pfn) {
            return Err(Errno::EBUSY);
        }
        if folio.order > 0 && !crate::thp::split_folio(world, pfn) {
            return Err(Errno::EBUSY);
        }
        if world.frames.folio(pfn).maybe_pinned() {
            return Err(Errno::EBUSY);
        }
        world.frames.folio_mut(pfn).owner = self.owner(world);
        let bits = page_prot(world, &self.dst_vma) | Bits::YOUNG;
        let entry = Present { pfn, bits }
            .with(Bits::SOFT_DIRTY, world.profile.soft_dirty)
            .with(Bits::DIRTY, present.has(Bits::DIRTY))
            .with(Bits::WRITE, true);
        mm.tables.set(src, Entry::None);
        mm.tables.set_present(dst, entry);
        Ok(())
    }

    /// `move_swap_pte`.
    fn move_swapped(
        &self,
        world: &mut World,
        mm: &mut Mm,
        (src, dst): (Slot, Slot),
        (slot, mut bits): (SwapSlot, SwapBits),
    ) -> Result<(), Errno> {
        if !bits.contains(SwapBits::EXCLUSIVE) {
            return Err(Errno::EBUSY);
        }
        bits.set(SwapBits::SOFT_DIRTY, world.profile.soft_dirty);
        mm.tables.set(src, Entry::None);
        mm.tables.set(dst, Entry::Swap { slot, bits });
        Ok(())
    }

    /// `move_pages_huge_pmd`.
    fn move_huge(
        &self,
        world: &mut World,
        mm: &mut Mm,
        (src, dst): (Slot, Slot),
        huge: Present,
    ) -> Result<(), Errno> {
        let mut bits = page_prot(world, &self.dst_vma) | Bits::YOUNG | Bits::HUGE;
        if huge.has(Bits::SPECIAL) {
            bits |= Bits::SPECIAL;
        } else {
            let folio = world.frames.folio(huge.pfn);
            if folio.maybe_pinned() || !world.frames.is_exclusive(huge.pfn) {
                return Err(Errno::EBUSY);
            }
            world.frames.folio_mut(huge.pfn).owner = self.owner(world);
            bits |= Bits::DIRTY | Bits::WRITE;
            bits.set(Bits::SOFT_DIRTY, world.profile.soft_dirty);
        }
        let entry = Present {
            pfn: huge.pfn,
            bits,
        };
        mm.tables.set(src, Entry::None);
        mm.tables.set_present(dst, entry);
        Ok(())
    }
}
