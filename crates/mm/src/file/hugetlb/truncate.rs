//! Size, holes and allocation of hugetlb files.
//!
//! Linux reference: 6.18, `fs/hugetlbfs/inode.c` (`hugetlb_vmtruncate`, `hugetlbfs_punch_hole`,
//! `remove_inode_hugepages`, `hugetlbfs_fallocate`).

use space::Errno;

use super::{add_to_cache, reserve};
use crate::file::{Cached, FileId, FileKind, drop_cached};
use crate::machine::{Machine, World};
use crate::vma::{View, VmaFlags};
use crate::zap::Zap;

impl Machine {
    /// `hugetlb_vmtruncate`: sets the size, and drops all behind.
    pub(crate) fn hugetlb_truncate(&mut self, file: FileId, size: u64) {
        self.world.files.get_mut(file).size = size;
        let first = size >> self.world.page_shift();
        self.unmap_file(file, first, u64::MAX, Zap::UNMAP);
        remove_pages(&mut self.world, file, first, None);
    }

    /// `hugetlbfs_punch_hole`: drops the huge pages that lie in a range, and clears the parts of
    /// others.
    pub(crate) fn hugetlb_punch_hole(&mut self, file: FileId, offset: u64, len: u64) {
        let page_shift = self.world.page_shift();
        let shift = self.world.files.get(file).page_shift(page_shift);
        let mask = (1_u64 << shift) - 1;
        let end = offset + len;
        let hole_start = offset.saturating_add(mask) & !mask;
        let hole_end = end & !mask;
        if offset < hole_start {
            clear_part(&mut self.world, file, offset, end.min(hole_start));
        }
        if hole_start < hole_end {
            let (first, behind) = (hole_start >> page_shift, hole_end >> page_shift);
            let how = Zap {
                reclaim_tables: false,
                ..Zap::DISCARD
            };
            self.unmap_file(file, first, behind, how);
            remove_pages(&mut self.world, file, first, Some(behind));
        }
        if end > hole_end && hole_end >= hole_start {
            clear_part(&mut self.world, file, hole_end, end);
        }
    }
}

/// `hugetlbfs_zero_partial_page`: clears bytes of one huge page that is there.
fn clear_part(world: &mut World, file: FileId, start: u64, end: u64) {
    let page_shift = world.page_shift();
    let shift = world.files.get(file).page_shift(page_shift);
    let base = start & !((1 << shift) - 1);
    if let Some(pfn) = world.files.get(file).page(base >> page_shift) {
        crate::file::clear_bytes(world, pfn, start - base, end - base);
    }
}

/// `remove_inode_hugepages`: drops the pages `first..behind` (in base pages; to the end without
/// one) of the page cache, and what is promised of them.
fn remove_pages(world: &mut World, file: FileId, first: u64, behind: Option<u64>) {
    let page_shift = world.page_shift();
    let in_range = world
        .files
        .get(file)
        .pages
        .range(first..behind.unwrap_or(u64::MAX));
    let gone: Vec<(u64, Cached)> = in_range.map(|(&index, &cached)| (index, cached)).collect();
    for &(index, cached) in &gone {
        world.files.get_mut(file).pages.remove(&index);
        drop_cached(world, index, cached);
    }
    let FileKind::Hugetlb(huge) = &mut world.files.get_mut(file).kind else {
        return;
    };
    let order = huge.shift - page_shift;
    let mut taken = std::mem::replace(
        huge,
        super::HugeFile {
            shift: huge.shift,
            reserved: std::collections::BTreeSet::new(),
        },
    );
    if behind.is_none() {
        let freed = u64::try_from(gone.len()).expect("a count fits");
        reserve::unreserve(world, &mut taken, first >> order, None, freed);
    } else {
        for (index, _) in gone {
            let index = index >> order;
            reserve::unreserve(world, &mut taken, index, Some(index + 1), 1);
        }
    }
    if let FileKind::Hugetlb(huge) = &mut world.files.get_mut(file).kind {
        *huge = taken;
    }
}

/// `hugetlbfs_fallocate` without a hole: makes the pages of a range be there.
///
/// # Errors
///
/// `ENOSPC` where the pool is empty; the pages before stay.
pub(crate) fn allocate(
    world: &mut World,
    file: FileId,
    offset: u64,
    len: u64,
) -> Result<(), Errno> {
    let page_shift = world.page_shift();
    let shift = world.files.get(file).page_shift(page_shift);
    let mask = (1_u64 << shift) - 1;
    // The pseudo mapping of the kernel: the whole file, shared, at address zero.
    let pseudo = View {
        start: 0,
        end: u64::MAX,
        flags: VmaFlags::HUGETLB | VmaFlags::MAYSHARE | VmaFlags::SHARED,
        pgoff: 0,
        file: Some(file),
        anon_vma: None,
        uffd: None,
        page_shift: shift,
        reserve: None,
    };
    let end = (offset + len).saturating_add(mask) >> shift;
    for huge in (offset >> shift)..end {
        let index = huge << (shift - page_shift);
        if world.files.get(file).page(index).is_some() {
            continue;
        }
        let pfn = reserve::alloc(world, &pseudo, huge << shift, false).ok_or(Errno::ENOSPC)?;
        add_to_cache(world, file, index, pfn);
    }
    Ok(())
}
