//! Cutting a mapping in two.
//!
//! Linux reference: 6.18, `mm/vma.c` (`__split_vma`, `split_vma`).

use space::Errno;

use super::VmaMap;
use crate::machine::World;

/// `split_vma`: cuts the mapping of an index at `addr`, which lies inside. The lower part keeps the
/// index.
///
/// # Errors
///
/// `ENOMEM` with `map_count_max` mappings, `EINVAL` inside of a hugetlb page.
pub(crate) fn split(
    world: &mut World,
    vmas: &mut VmaMap,
    index: usize,
    addr: u64,
) -> Result<(), Errno> {
    if vmas.len() >= world.profile.map_count_max {
        return Err(Errno::ENOMEM);
    }
    split_uncounted(world, vmas, index, addr)
}

/// `__split_vma`: as [`split`], even if there are too many mappings for a moment.
///
/// # Errors
///
/// `EINVAL` inside of a hugetlb page.
pub(crate) fn split_uncounted(
    world: &mut World,
    vmas: &mut VmaMap,
    index: usize,
    addr: u64,
) -> Result<(), Errno> {
    let page_shift = world.page_shift();
    let low = vmas.at_mut(index);
    debug_assert!(
        low.start < addr && addr < low.end,
        "a mapping is cut inside"
    );
    // hugetlb_vm_op_split
    if addr & ((1 << low.page_shift) - 1) != 0 {
        return Err(Errno::EINVAL);
    }
    let mut high = low.clone();
    high.pgoff = low.index_of(addr, page_shift);
    high.start = addr;
    low.end = addr;
    if let Some(file) = high.file {
        world.files.get_ref(file);
    }
    if let Some(reserve) = high.reserve {
        world.files.reserves.get(reserve);
    }
    world.anon_vmas.duplicate(high.anon_vma, &high.chain);
    vmas.list.insert(index + 1, high);
    vmas.cuts.push(addr);
    Ok(())
}
