//! Who was promised which huge pages: reservation maps, and taking a page with or without a
//! promise.
//!
//! A shared mapping's promises hang on the file: its map has the pages that are promised or there.
//! A private mapping's hang on the mapping that made them: its map has the pages whose promise was
//! used. The pieces of a mapping share one map; a child has none.
//!
//! Linux reference: 6.18, `mm/hugetlb.c` (`hugetlb_reserve_pages`, `hugetlb_unreserve_pages`,
//! `__vma_reservation_common`, `alloc_hugetlb_folio`, `hugetlb_vm_op_close`).

use std::collections::BTreeSet;

use space::Errno;

use crate::file::{FileId, FileKind};
use crate::folio::{FolioFlags, Owner, Pfn};
use crate::machine::World;
use crate::vma::{View, Vma, VmaFlags};

/// The number of a private mapping's reservation map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReserveId(u32);

impl ReserveId {
    fn index(self) -> usize {
        usize::try_from(self.0).expect("an index of a map fits usize")
    }
}

/// What of a private mapping's promises was used (`struct resv_map`).
#[derive(Clone, Debug, Default)]
struct Reserve {
    used: BTreeSet<u64>,
    /// Mappings that share the map.
    refs: u32,
}

/// The maps of all private mappings.
#[derive(Clone, Debug, Default)]
pub struct Reserves {
    list: Vec<Reserve>,
    free: Vec<ReserveId>,
}

impl Reserves {
    fn alloc(&mut self) -> ReserveId {
        let new = Reserve {
            used: BTreeSet::new(),
            refs: 1,
        };
        if let Some(id) = self.free.pop() {
            self.list[id.index()] = new;
            return id;
        }
        self.list.push(new);
        ReserveId(u32::try_from(self.list.len() - 1).expect("maps are counted in 32 bits"))
    }

    /// `hugetlb_vm_op_open`: one mapping more shares the map.
    pub(crate) fn get(&mut self, id: ReserveId) {
        self.list[id.index()].refs += 1;
    }

    fn put(&mut self, id: ReserveId) {
        let reserve = &mut self.list[id.index()];
        reserve.refs -= 1;
        if reserve.refs == 0 {
            self.free.push(id);
        }
    }
}

/// `vma_hugecache_offset`: the page of the file, in huge pages.
fn huge_index(world: &World, vma: &View, addr: u64) -> u64 {
    vma.index_of(addr, world.page_shift()) >> (vma.page_shift - world.page_shift())
}

/// `vma_resv_map`.
fn map_of<'a>(world: &'a mut World, vma: &View) -> Option<&'a mut BTreeSet<u64>> {
    if vma.has(VmaFlags::MAYSHARE) {
        let file = world.files.get_mut(vma.file.expect("hugetlb has a file"));
        match &mut file.kind {
            FileKind::Hugetlb(huge) => Some(&mut huge.reserved),
            FileKind::Shmem => None,
        }
    } else {
        let id = vma.reserve?;
        Some(&mut world.files.reserves.list[id.index()].used)
    }
}

/// `vma_needs_reservation`: whether nothing is promised for the page.
fn needs_reservation(world: &mut World, vma: &View, addr: u64) -> bool {
    let index = huge_index(world, vma, addr);
    let shared = vma.has(VmaFlags::MAYSHARE);
    map_of(world, vma).is_none_or(|map| map.contains(&index) != shared)
}

/// `alloc_hugetlb_folio`: takes a page of the pool for an address; `beside` leaves what was promised
/// alone (`cow_from_owner`). `None` where the pool is empty.
pub(crate) fn alloc(world: &mut World, vma: &View, addr: u64, beside: bool) -> Option<Pfn> {
    let order = u8::try_from(vma.page_shift - world.page_shift()).expect("an order is small");
    let promised = !beside && !needs_reservation(world, vma, addr);
    if !world.frames.pools.of(order).take(promised) {
        return None;
    }
    let pfn = world.frames.alloc(order, Owner::Kernel);
    let folio = world.frames.folio_mut(pfn);
    folio.flags |= FolioFlags::HUGETLB;
    folio.flags.set(FolioFlags::RESERVED, promised);
    if !beside {
        let index = huge_index(world, vma, addr);
        if let Some(map) = map_of(world, vma) {
            map.insert(index);
        }
    }
    Some(pfn)
}

/// `restore_reserve_on_error`: the page that was taken for an address was not used after all.
pub(crate) fn restore_on_error(world: &mut World, vma: &View, addr: u64, pfn: Pfn) {
    let index = huge_index(world, vma, addr);
    let shared = vma.has(VmaFlags::MAYSHARE);
    let restores = world.frames.folio(pfn).flags.contains(FolioFlags::RESERVED);
    let needs = needs_reservation(world, vma, addr);
    if let Some(map) = map_of(world, vma) {
        // vma_add_reservation where the promise comes back, vma_del_reservation where there was
        // none; both change the map where it does not say so.
        let listed = if restores == needs { restores } else { return };
        if listed == shared {
            map.insert(index);
        } else {
            map.remove(&index);
        }
    }
}

/// The reservation of `__unmap_hugepage_range`: a page leaves a mapping that it was promised to,
/// and the promise holds again.
pub(crate) fn restore_on_unmap(world: &mut World, vma: &View, addr: u64, pfn: Pfn) {
    let order = world.frames.folio(pfn).order;
    let owns = !vma.has(VmaFlags::MAYSHARE) && vma.reserve.is_some();
    let anon = world.frames.folio(pfn).is_anon();
    if world.frames.pools.of(order).surplus > 0 || !owns || !anon {
        return;
    }
    world.frames.folio_mut(pfn).flags |= FolioFlags::RESERVED;
    let index = huge_index(world, vma, addr);
    if let Some(map) = map_of(world, vma) {
        map.remove(&index);
    }
}

/// `hugetlb_reserve_pages`: promises the huge pages `from..to` of a file; of a private mapping
/// to the mapping itself.
///
/// # Errors
///
/// `ENOMEM` where the pool has not enough.
pub(crate) fn reserve(
    world: &mut World,
    file: FileId,
    from: u64,
    to: u64,
    private: Option<&mut Vma>,
) -> Result<(), Errno> {
    let page_shift = world.page_shift();
    let shift = world.files.get(file).page_shift(page_shift);
    let order = u8::try_from(shift - page_shift).expect("an order is small");
    if let Some(vma) = private {
        world.frames.pools.of(order).promise(to - from)?;
        vma.reserve = Some(world.files.reserves.alloc());
        return Ok(());
    }
    let FileKind::Hugetlb(huge) = &mut world.files.get_mut(file).kind else {
        return Err(Errno::ENOMEM);
    };
    let there = u64::try_from(huge.reserved.range(from..to).count()).expect("a count fits");
    world.frames.pools.of(order).promise(to - from - there)?;
    huge.reserved.extend(from..to);
    Ok(())
}

/// `hugetlb_unreserve_pages`: the huge pages from `start` up to `end` (all without one) of a
/// file are gone, `freed` of which were there.
pub(crate) fn unreserve(
    world: &mut World,
    huge: &mut super::HugeFile,
    start: u64,
    end: Option<u64>,
    freed: u64,
) {
    let gone: Vec<u64> = huge
        .reserved
        .range(start..end.unwrap_or(u64::MAX))
        .copied()
        .collect();
    for index in &gone {
        huge.reserved.remove(index);
    }
    let order = u8::try_from(huge.shift - world.page_shift()).expect("an order is small");
    let gone = u64::try_from(gone.len()).expect("a count fits");
    world.frames.pools.of(order).unpromise(gone - freed);
}

/// `hugetlb_vm_op_close`: a private mapping gives back what is still promised to it.
pub(crate) fn close_vma(world: &mut World, vma: &Vma) {
    let Some(id) = vma.reserve else {
        return;
    };
    let view = vma.view();
    let start = huge_index(world, &view, vma.start);
    let end = start + (vma.bytes() >> vma.page_shift);
    let used = world.files.reserves.list[id.index()]
        .used
        .range(start..end)
        .count();
    let left = end - start - u64::try_from(used).expect("a count fits");
    let order = u8::try_from(vma.page_shift - world.page_shift()).expect("an order is small");
    world.frames.pools.of(order).unpromise(left);
    world.files.reserves.put(id);
}
