//! Mappings that grow down when the page below them is accessed.
//!
//! Linux reference: 6.18, `mm/vma.c` (`expand_downwards`, `acct_stack_growth`), `mm/mmap_lock.c`
//! (`lock_mm_and_find_vma`).

use super::VmaFlags;
use crate::machine::{Mm, World};

/// `stack_guard_gap`: pages that stay free below a stack.
const GUARD_GAP_PAGES: u64 = 256;
/// `RLIMIT_STACK`, as it is set everywhere.
const STACK_BYTES_MAX: u64 = 8 << 20;

/// Lets the mapping above `addr` grow down to its page; tells whether it did.
pub(crate) fn expand(world: &mut World, mm: &mut Mm, addr: u64) -> bool {
    let page_shift = world.page_shift();
    let addr = addr & !(world.page_size() - 1);
    let index = mm.vmas.find_index(addr);
    let Some(vma) = mm
        .vmas
        .get(index)
        .filter(|vma| vma.has(VmaFlags::GROWSDOWN))
    else {
        return false;
    };
    if vma.contains(addr) {
        return true;
    }
    let prev = index.checked_sub(1).map(|prev| mm.vmas.at(prev));
    let crowded = prev.is_some_and(|prev| {
        !prev.has(VmaFlags::GROWSDOWN)
            && prev.is_accessible()
            && addr - prev.end < GUARD_GAP_PAGES << page_shift
    });
    let grow = (vma.start - addr) >> page_shift;
    let too_long = vma.end - addr > STACK_BYTES_MAX;
    if crowded || addr < world.profile.mmap_min_addr {
        return false;
    }
    world.anon_vmas.prepare(&mut mm.vmas, index, page_shift);
    let vma = mm.vmas.at_mut(index);
    if grow > vma.pgoff || too_long {
        return false;
    }
    vma.start = addr;
    vma.pgoff -= grow;
    true
}
