//! `mremap`: a mapping is enlarged, shrunk or moved, with its page table entries.
//!
//! Linux reference: 6.12 and 6.18, `mm/mremap.c` (`do_mremap`, `check_mremap_params`, `check_prep_vma`,
//! `remap_move`, `mremap_to`, `mremap_at`, `move_vma`), `mm/vma.c` (`copy_vma`,
//! `vma_merge_extend`).

use space::Errno;

use super::mmap::free_area;
use super::munmap::unmap_for;
use crate::entry::{Bits, Entry};
use crate::folio::FolioFlags;
use crate::machine::{Machine, Mm, Process, Tid, World};
use crate::populate::Populate;
use crate::relocate::move_page_tables;
use crate::stop::Stop;
use crate::uapi::mremap;
use crate::uffd::event;
use crate::vma::merge::Proposal;
use crate::vma::{Vma, VmaFlags};

/// Arguments of `mremap`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mremap {
    /// Where the mapping is.
    pub old: u64,
    /// How long it is.
    pub old_len: u64,
    /// How long it shall be.
    pub new_len: u64,
    /// `MREMAP_*`.
    pub flags: u64,
    /// Where it shall be.
    pub new: u64,
    /// As in [`Mmap`](crate::Mmap).
    pub choice: Option<u64>,
}

/// What the call does to the length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resize {
    Same,
    Shrink,
    Expand,
}

/// The call on its way (`struct vma_remap_struct`).
#[derive(Clone, Copy, Debug)]
struct Remap {
    tid: Tid,
    addr: u64,
    old_len: u64,
    new_len: u64,
    flags: u64,
    new_addr: u64,
    choice: Option<u64>,
    /// The mapping is locked and grows: the new part is filled at the end.
    populates: bool,
}

impl Remap {
    fn has(&self, flags: u64) -> bool {
        self.flags & flags != 0
    }

    /// `vrm_implies_new_addr`.
    fn implies_new_addr(&self) -> bool {
        self.has(mremap::FIXED | mremap::DONTUNMAP)
    }

    /// `vrm_remap_type`.
    fn resize(&self) -> Resize {
        match self.old_len.cmp(&self.new_len) {
            std::cmp::Ordering::Equal => Resize::Same,
            std::cmp::Ordering::Greater => Resize::Shrink,
            std::cmp::Ordering::Less => Resize::Expand,
        }
    }
}

impl Machine {
    /// Moves, enlarges or shrinks a mapping; returns its address. With `MREMAP_FIXED` and the same
    /// length, all mappings of a range are moved.
    ///
    /// # Errors
    ///
    /// `EINVAL` for arguments that make no sense, `EFAULT` where the range is not mapped as it should
    /// be, `ENOMEM` where it has no room, `EPERM` where it is sealed. With `EVENT_REMAP` or
    /// `EVENT_UNMAP` the thread may sleep until the event was read; where a locked mapping grows, on a
    /// page that a userfaultfd is to bring.
    pub fn mremap(&mut self, tid: Tid, args: Mremap) -> Result<u64, Stop> {
        if let Some(value) = self.finish_populate(tid)? {
            return Ok(value);
        }
        if let Some(value) = self.finish_event(tid)? {
            return Ok(value);
        }
        let (world, process) = self.halves(tid)?;
        let mut remap = Remap {
            tid,
            addr: args.old,
            old_len: world.page_align(args.old_len),
            new_len: world.page_align(args.new_len),
            flags: args.flags,
            new_addr: args.new,
            choice: args.choice,
            populates: false,
        };
        let moves_many = world.profile.mremap_moves_many;
        if moves_many {
            check_params(world, &process.mm, &remap)?;
        }
        let moves_only = remap.has(mremap::FIXED) && remap.resize() == Resize::Same;
        let result = if !moves_many {
            one_by_one(world, process, &mut remap, args.old_len != args.new_len)
        } else if moves_only {
            move_all(world, process, &mut remap)
        } else {
            check_vma(world, &process.mm, &mut remap).and_then(|()| {
                if remap.implies_new_addr() {
                    move_to(world, process, &mut remap)
                } else {
                    resize_at(world, process, &mut remap)
                }
            })
        };
        match result {
            Ok(value) if remap.populates => {
                let start = remap.new_addr + remap.old_len;
                let end = remap.new_addr + remap.new_len;
                let populate = Populate {
                    range: start..end,
                    ignores_errors: true,
                    value,
                    // They are told when all is filled (notify_uffd).
                    events: std::mem::take(&mut world.uffds.prepared),
                };
                self.populate_and_end(tid, populate)
            }
            result => self.complete_events(tid, result),
        }
    }
}

/// `check_mremap_params`.
fn check_params(world: &World, mm: &Mm, remap: &Remap) -> Result<(), Errno> {
    let task_size = world.profile.arch.task_size();
    let known = mremap::MAYMOVE | mremap::FIXED | mremap::DONTUNMAP;
    if remap.flags & !known != 0
        || world.offset_in_page(remap.addr) != 0
        || remap.new_len == 0
        || remap.new_len > task_size
    {
        return Err(Errno::EINVAL);
    }
    if !remap.implies_new_addr() {
        return Ok(());
    }
    if remap.new_addr > task_size - remap.new_len
        || world.offset_in_page(remap.new_addr) != 0
        || !remap.has(mremap::MAYMOVE)
        || (remap.has(mremap::DONTUNMAP) && remap.old_len != remap.new_len)
        || overlaps(remap)
    {
        return Err(Errno::EINVAL);
    }
    if mm.vmas.len() + 2 >= world.profile.map_count_max - 3 {
        return Err(Errno::ENOMEM);
    }
    Ok(())
}

/// `vrm_overlaps`.
fn overlaps(remap: &Remap) -> bool {
    remap.addr.wrapping_add(remap.old_len) > remap.new_addr
        && remap.new_addr.wrapping_add(remap.new_len) > remap.addr
}

/// `check_prep_vma`: whether the mapping at the address may be treated so.
fn check_vma(world: &World, mm: &Mm, remap: &mut Remap) -> Result<(), Errno> {
    let vma = mm.vmas.lookup(remap.addr).ok_or(Errno::EFAULT)?;
    if vma.has(VmaFlags::SEALED) {
        return Err(Errno::EPERM);
    }
    if vma.is_hugetlb() {
        align_hugetlb(vma, remap)?;
    }
    let resize = remap.resize();
    if !remap.implies_new_addr() {
        remap.new_addr = remap.addr;
        if resize != Resize::Expand {
            return Ok(());
        }
    }
    if remap.old_len == 0 && !vma.flags.intersects(VmaFlags::SHARED | VmaFlags::MAYSHARE) {
        return Err(Errno::EINVAL);
    }
    if remap.has(mremap::DONTUNMAP) && vma.has(VmaFlags::DONTEXPAND) {
        return Err(Errno::EINVAL);
    }
    let kept = if resize == Resize::Shrink {
        remap.new_len
    } else {
        remap.old_len
    };
    if kept > vma.end - remap.addr {
        return Err(Errno::EFAULT);
    }
    if kept == remap.new_len {
        return Ok(());
    }
    remap.populates = vma.has(VmaFlags::LOCKED);
    let pgoff = vma.index_of(remap.addr, world.page_shift());
    if pgoff
        .checked_add(remap.new_len >> world.page_shift())
        .is_none()
    {
        return Err(Errno::EINVAL);
    }
    if vma.has(VmaFlags::DONTEXPAND) {
        return Err(Errno::EFAULT);
    }
    Ok(())
}

/// `align_hugetlb`: whole huge pages, and never more of them than before.
fn align_hugetlb(vma: &Vma, remap: &mut Remap) -> Result<(), Errno> {
    let mask = (1_u64 << vma.page_shift) - 1;
    let align = |len: u64| len.wrapping_add(mask) & !mask;
    remap.old_len = align(remap.old_len);
    remap.new_len = align(remap.new_len);
    let misplaced = (remap.addr | remap.new_addr) & mask != 0;
    if misplaced || remap.new_len > remap.old_len {
        return Err(Errno::EINVAL);
    }
    Ok(())
}

/// The call up to 6.16 (`sys_mremap`, `mremap_to`): one mapping, and the new address is unmapped
/// before the old one is looked at closely. `resized` compares the lengths as they were given.
fn one_by_one(
    world: &mut World,
    process: &mut Process,
    remap: &mut Remap,
    resized: bool,
) -> Result<u64, Errno> {
    let known = mremap::MAYMOVE | mremap::FIXED | mremap::DONTUNMAP;
    if remap.flags & !known != 0
        || (remap.implies_new_addr() && !remap.has(mremap::MAYMOVE))
        || (remap.has(mremap::DONTUNMAP) && resized)
        || world.offset_in_page(remap.addr) != 0
        || remap.new_len == 0
    {
        return Err(Errno::EINVAL);
    }
    let vma = process.mm.vmas.lookup(remap.addr).ok_or(Errno::EFAULT)?;
    if vma.has(VmaFlags::SEALED) {
        return Err(Errno::EPERM);
    }
    if !remap.implies_new_addr() {
        check_vma(world, &process.mm, remap)?;
        return resize_at(world, process, remap);
    }
    if vma.is_hugetlb() {
        align_hugetlb(vma, remap)?;
    }
    let task_size = world.profile.arch.task_size();
    if world.offset_in_page(remap.new_addr) != 0
        || remap.new_len > task_size
        || remap.new_addr > task_size - remap.new_len
        || overlaps(remap)
    {
        return Err(Errno::EINVAL);
    }
    if process.mm.vmas.len() + 2 >= world.profile.map_count_max - 3 {
        return Err(Errno::ENOMEM);
    }
    if remap.has(mremap::FIXED) {
        let end = super::munmap::checked_range(world, remap.new_addr, remap.new_len)?;
        unmap_for(world, process, remap.tid, remap.new_addr, end)?;
    }
    if remap.resize() == Resize::Shrink {
        shrink(world, process, remap)?;
        remap.old_len = remap.new_len;
    }
    check_vma(world, &process.mm, remap)?;
    set_new_addr(world, &process.mm, remap)?;
    move_vma(world, process, remap)
}

/// `remap_move`: moves what is mapped in the range, one mapping after the other, with the gaps
/// between them.
fn move_all(world: &mut World, process: &mut Process, remap: &mut Remap) -> Result<u64, Errno> {
    let start = remap.addr;
    let end = start.wrapping_add(remap.old_len);
    let mut target = remap.new_addr;
    let mut first: Option<u64> = None;
    let mut last_end = start;
    let mut at = start;
    while at < end
        && let Some(vma) = process.mm.vmas.find(at).filter(|vma| vma.start < end)
    {
        if first.is_none() && start < vma.start {
            return Err(Errno::EFAULT);
        }
        let addr = vma.start.max(start);
        let len = end.min(vma.end) - addr;
        let gap = if first.is_some() {
            vma.start - last_end
        } else {
            0
        };
        last_end = vma.end;
        // vma_multi_allowed: the events of userfaultfd are for one mapping.
        if vma.uffd_armed() && (first.is_some() || vma.end < end) {
            return Err(Errno::EFAULT);
        }
        remap.addr = addr;
        remap.new_addr = target + gap;
        remap.old_len = len;
        remap.new_len = len;
        check_vma(world, &process.mm, remap)?;
        let moved = move_to(world, process, remap)?;
        first.get_or_insert(moved);
        target = moved + len;
        at = last_end;
    }
    first.ok_or(Errno::EFAULT)
}

/// `mremap_to`: makes room at the new address, or finds it, and moves.
fn move_to(world: &mut World, process: &mut Process, remap: &mut Remap) -> Result<u64, Errno> {
    if remap.has(mremap::FIXED) {
        let end = super::munmap::checked_range(world, remap.new_addr, remap.new_len)?;
        unmap_for(world, process, remap.tid, remap.new_addr, end)?;
        if process.mm.vmas.lookup(remap.addr).is_none() {
            return Err(Errno::EFAULT);
        }
    }
    if remap.resize() == Resize::Shrink {
        shrink(world, process, remap)?;
        remap.old_len = remap.new_len;
    }
    set_new_addr(world, &process.mm, remap)?;
    move_vma(world, process, remap)
}

/// `mremap_at`: changes the length where the mapping is, if that can be.
fn resize_at(world: &mut World, process: &mut Process, remap: &mut Remap) -> Result<u64, Errno> {
    match remap.resize() {
        Resize::Same => Ok(remap.addr),
        Resize::Shrink => shrink(world, process, remap).map(|()| remap.addr),
        Resize::Expand => expand(world, process, remap),
    }
}

/// `shrink_vma`.
fn shrink(world: &mut World, process: &mut Process, remap: &Remap) -> Result<(), Errno> {
    let start = remap.addr + remap.new_len;
    let len = remap.old_len - remap.new_len;
    let end = super::munmap::checked_range(world, start, len)?;
    unmap_for(world, process, remap.tid, start, end)
}

/// `expand_vma`.
fn expand(world: &mut World, process: &mut Process, remap: &mut Remap) -> Result<u64, Errno> {
    let mm = &mut process.mm;
    let index = mm.vmas.find_index(remap.addr);
    let vma = mm.vmas.at(index);
    let delta = remap.new_len - remap.old_len;
    let end = vma.end.saturating_add(delta);
    let expandable = vma.end - remap.addr == remap.old_len
        && end <= world.profile.arch.task_size()
        && !mm.vmas.intersects(vma.end, end);
    if expandable {
        let vma = mm.vmas.at(index);
        let page_shift = world.page_shift();
        // vma_merge_extend: the new part is taken in, and what it then touches perhaps, too.
        let new = Proposal {
            start: vma.end,
            end,
            pgoff: vma.index_of(vma.end, page_shift),
            ..Proposal::of(vma, vma.start, vma.end, page_shift)
        };
        return mm
            .vmas
            .merge_new(world, &new)
            .map(|_| remap.addr)
            .ok_or(Errno::ENOMEM);
    }
    if !remap.has(mremap::MAYMOVE) {
        return Err(Errno::ENOMEM);
    }
    remap.new_addr = 0;
    set_new_addr(world, &process.mm, remap)?;
    move_vma(world, process, remap)
}

/// `vrm_set_new_addr`.
fn set_new_addr(world: &World, mm: &Mm, remap: &mut Remap) -> Result<(), Errno> {
    if remap.has(mremap::FIXED) {
        return Ok(());
    }
    let vma = mm.vmas.lookup(remap.addr).ok_or(Errno::EFAULT)?;
    remap.new_addr = free_area(
        world,
        mm,
        remap.new_addr,
        remap.choice,
        remap.new_len,
        vma.page_shift,
    )?;
    Ok(())
}

/// `move_vma`: a mapping at the new address takes over the entries, and the old one goes or is
/// left empty.
fn move_vma(world: &mut World, process: &mut Process, remap: &Remap) -> Result<u64, Errno> {
    let mm = &mut process.mm;
    if mm.vmas.len() >= world.profile.map_count_max - 3 {
        return Err(Errno::ENOMEM);
    }
    let vma = mm.vmas.lookup(remap.addr).ok_or(Errno::EFAULT)?;
    let end = remap.addr + remap.old_len;
    // hugetlb_vm_op_split
    let mask = (1_u64 << vma.page_shift) - 1;
    if (remap.addr | end) & mask != 0 {
        return Err(Errno::EINVAL);
    }
    if vma.has(VmaFlags::ACCOUNT) {
        let pages = remap.new_len >> world.page_shift();
        if pages > world.profile.memory_pages + world.profile.swap_pages {
            return Err(Errno::ENOMEM);
        }
    }
    let view = vma.view();
    let clears_wp = event::drops_protection(world, &view);
    copy_vma(world, mm, remap);
    move_page_tables(world, mm, &view, remap.addr, end, remap.new_addr, clears_wp);
    let new = mm
        .vmas
        .lookup_mut(remap.new_addr)
        .expect("the copy is there");
    event::remap_prepare(
        world,
        remap.tid,
        new,
        (remap.addr, remap.new_addr, remap.old_len),
    );
    if view.is_hugetlb() {
        // What was reserved is now the new mapping's (fixup_hugetlb_reservations).
        let old = mm
            .vmas
            .lookup_mut(remap.addr)
            .expect("the old mapping is there");
        old.reserve = None;
        old.reserve_lost = false;
    }
    if remap.has(mremap::DONTUNMAP) {
        leave_empty(world, mm, remap, end);
    } else if end > remap.addr {
        // What can't be unmapped now stays, as in the kernel.
        let _ = unmap_for(world, process, remap.tid, remap.addr, end);
    }
    Ok(remap.new_addr)
}

/// `dontunmap_complete`.
fn leave_empty(world: &mut World, mm: &mut Mm, remap: &Remap, end: u64) {
    let index = mm.vmas.find_index(remap.addr);
    let merged = mm.vmas.at(index).contains(remap.new_addr);
    if mm.vmas.at(index).has(VmaFlags::LOCKED) {
        let (start, end) = (mm.vmas.at(index).start, mm.vmas.at(index).end);
        keep_mlocked(world, mm, start, end);
    }
    let vma = mm.vmas.at_mut(index);
    vma.flags -= VmaFlags::LOCKED_MASK;
    if !merged && vma.start == remap.addr && vma.end == end {
        world.anon_vmas.unlink(vma);
        vma.anon_vma = None;
        vma.chain.clear();
    }
}

/// The mapping is not locked any more, but nobody tells the pages that stayed (`munlock_folio`): they
/// can't be reclaimed as long as they live.
fn keep_mlocked(world: &mut World, mm: &Mm, start: u64, end: u64) {
    let page_size = world.page_size();
    let mut at = start;
    while let Some(run) = mm.tables.next_run(at, end) {
        at = run.end;
        let mut addr = run.start;
        while addr < run.end {
            let (slot, entry) = mm.tables.lookup(addr);
            if let Entry::Present(present) = entry
                && !present.has(Bits::SPECIAL)
            {
                let pfn = crate::access::frame_of(world, mm, present, addr, slot.level);
                world.frames.folio_mut(pfn).flags |= FolioFlags::MLOCKED;
            }
            addr += page_size;
        }
    }
}

/// `copy_vma`: a mapping like the old one at the new address, joined with its neighbours there
/// if they are alike.
fn copy_vma(world: &mut World, mm: &mut Mm, remap: &Remap) {
    let page_shift = world.page_shift();
    let vma = mm
        .vmas
        .lookup(remap.addr)
        .expect("the old mapping was checked");
    let mut new = Proposal::of(vma, remap.addr, remap.addr, page_shift);
    new.start = remap.new_addr;
    new.end = remap.new_addr + remap.new_len;
    if vma.is_anonymous() && vma.anon_vma.is_none() {
        // Nothing depends on the offset yet: that of the new address may be joined.
        new.pgoff = remap.new_addr >> page_shift;
    }
    new.copied_from_fork = vma.had_uncowed_parents();
    new.copied_chain = vma.chain.clone();
    let copy = Vma {
        start: new.start,
        end: new.end,
        pgoff: new.pgoff,
        ..vma.clone()
    };
    if mm.vmas.merge_new(world, &new).is_none() {
        world.anon_vmas.duplicate(copy.anon_vma, &copy.chain);
        if let Some(file) = copy.file {
            world.files.get_ref(file);
        }
        mm.vmas.insert(copy);
    }
}
