//! `munmap`, and the room that other calls make in the same way.
//!
//! Linux reference: 6.18, `mm/vma.c` (`do_vmi_munmap`, `vms_gather_munmap_vmas`,
//! `vms_complete_munmap_vmas`).

use space::Errno;

use crate::machine::{Machine, Process, Tid, World};
use crate::stop::Stop;
use crate::uffd::event;
use crate::vma::VmaFlags;
use crate::vma::split;
use crate::zap::{Zap, zap_range};

impl Machine {
    /// Unmaps what is mapped in a range.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a range that is empty, not aligned or too high, or that would cut a huge
    /// page; `ENOMEM` where too many mappings would be left. With `EVENT_UNMAP` the thread may
    /// sleep until the event was read.
    pub fn munmap(&mut self, tid: Tid, start: u64, len: u64) -> Result<(), Stop> {
        if self.finish_event(tid)?.is_some() {
            return Ok(());
        }
        let (world, process) = self.halves(tid)?;
        let end = checked_range(world, start, len)?;
        let result = unmap_for(world, process, tid, start, end);
        self.complete_events(tid, result.map(|()| 0)).map(|_| ())
    }
}

/// The checks of `do_vmi_munmap`; returns the end of the range.
pub(crate) fn checked_range(world: &World, start: u64, len: u64) -> Result<u64, Errno> {
    let task_size = world.profile.arch.task_size();
    if world.offset_in_page(start) != 0 || start > task_size || len > task_size - start {
        return Err(Errno::EINVAL);
    }
    let end = start + world.page_align(len);
    if end == start {
        Err(Errno::EINVAL)
    } else {
        Ok(end)
    }
}

/// `do_vmi_align_munmap`: unmaps all of `start..end`, which are page boundaries. Userfaultfds that
/// want to know have an event each, for which the caller waits when all is done.
pub(crate) fn unmap_for(
    world: &mut World,
    process: &mut Process,
    tid: Tid,
    start: u64,
    end: u64,
) -> Result<(), Errno> {
    let mm = &mut process.mm;
    let mut first = mm.vmas.find_index(start);
    let Some(vma) = mm.vmas.get(first).filter(|vma| vma.start < end) else {
        return Ok(());
    };
    if vma.start < start {
        if end < vma.end && mm.vmas.len() >= world.profile.map_count_max {
            return Err(Errno::ENOMEM);
        }
        if vma.has(VmaFlags::SEALED) {
            return Err(Errno::EPERM);
        }
        split::split_uncounted(world, &mut mm.vmas, first, start)?;
        first += 1;
    }
    let mut behind = first;
    while let Some(vma) = mm.vmas.get(behind).filter(|vma| vma.start < end) {
        if vma.has(VmaFlags::SEALED) {
            return Err(Errno::EPERM);
        }
        if end < vma.end {
            split::split_uncounted(world, &mut mm.vmas, behind, end)?;
        }
        behind += 1;
    }
    event::unmap_prepare(world, mm, tid, first..behind, start, end);
    for index in first..behind {
        let view = mm.vmas.at(index).view();
        zap_range(world, mm, &view, view.start, view.end, Zap::UNMAP);
    }
    let floor = first.checked_sub(1).map_or(0, |prev| mm.vmas.at(prev).end);
    let ceiling = mm.vmas.get(behind).map_or(u64::MAX, |next| next.start);
    mm.tables.free_range(start, end, floor, ceiling);
    for _ in first..behind {
        let gone = mm.vmas.remove(first);
        if gone.is_hugetlb() {
            crate::file::hugetlb::close_vma(world, &gone);
        }
        world.forget(gone);
    }
    Ok(())
}
