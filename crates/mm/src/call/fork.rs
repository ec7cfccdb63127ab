//! `fork`: a copy of the memory, in which private pages are shared until one side writes.
//!
//! Linux reference: 6.18, `mm/mmap.c` (`dup_mmap`), `mm/memory.c` (`copy_page_range`,
//! `copy_nonpresent_pte`, `copy_present_ptes`, `copy_present_page`).

use space::Errno;

use crate::entry::{Bits, Entry, Marker, Present, SwapBits};
use crate::fault::{mkdirty, page_prot};
use crate::folio::Owner;
use crate::machine::{Machine, Mm, Pid, Process, Tid, World};
use crate::profile::CowPolicy;
use crate::stop::Stop;
use crate::table::{PageTables, Slot};
use crate::uffd::event;
use crate::vma::{View, VmaFlags, VmaMap};

impl Machine {
    /// Makes a child of a thread's process; returns the child's thread.
    ///
    /// # Errors
    ///
    /// With `EVENT_FORK` the thread may sleep until the event was read; the child exists already.
    pub fn fork(&mut self, tid: Tid) -> Result<Tid, Stop> {
        if let Some(value) = self.finish_event(tid)? {
            return Ok(Tid(
                u32::try_from(value).expect("a thread's number was kept")
            ));
        }
        let child_tid = self.next_tid();
        let pid = Pid(child_tid.0);
        let (world, parent) = self.halves(tid)?;
        let parent_pid = parent.mm.pid;
        let tables = PageTables::new(world.profile.geometry(), world.profile.arch.codec());
        let mut child = Process {
            parent: Some(parent_pid),
            mm: Mm {
                pid,
                vmas: VmaMap::default(),
                tables,
                has_pinned: false,
                thp_disabled: parent.mm.thp_disabled,
                def_flags: parent.mm.def_flags - VmaFlags::LOCKED_MASK,
            },
            fds: parent.fds.clone(),
        };
        for &descriptor in child.fds.values() {
            world.share(descriptor);
        }
        world.pins.fork(parent_pid, pid);
        let copied = dup_mmap(world, tid, &mut parent.mm, &mut child.mm);
        self.add_process(child);
        if let Err(errno) = copied {
            self.abandon_events();
            self.exit_process(pid)?;
            return Err(errno.into());
        }
        let value = self.complete_events(tid, Ok(u64::from(child_tid.0)))?;
        debug_assert_eq!(
            value,
            u64::from(child_tid.0),
            "the child is what fork returns"
        );
        Ok(child_tid)
    }
}

/// `dup_mmap`.
fn dup_mmap(world: &mut World, tid: Tid, from: &mut Mm, to: &mut Mm) -> Result<(), Errno> {
    for index in 0..from.vmas.len() {
        let vma = from.vmas.at(index);
        if vma.has(VmaFlags::DONTCOPY) {
            continue;
        }
        let mut copy = vma.clone();
        let source = vma.view();
        event::dup(world, tid, to.pid, &mut copy);
        if copy.has(VmaFlags::WIPEONFORK) {
            copy.anon_vma = None;
            copy.chain.clear();
        } else {
            world.anon_vmas.fork(&mut copy);
        }
        copy.flags -= VmaFlags::LOCKED_MASK;
        copy.reserve = None;
        copy.reserve_lost = false;
        if let Some(file) = copy.file {
            world.files.get_ref(file);
        }
        let view = copy.view();
        to.vmas.insert(copy);
        if !view.has(VmaFlags::WIPEONFORK) {
            copy_page_range(world, from, to, &source, &view)?;
        }
    }
    Ok(())
}

/// `copy_page_range`.
fn copy_page_range(
    world: &mut World,
    from: &mut Mm,
    to: &mut Mm,
    source: &View,
    copy: &View,
) -> Result<(), Errno> {
    // vma_needs_copy: the rest is found again by faults.
    let guards = source.has(VmaFlags::MAYBE_GUARD);
    if !copy.has(VmaFlags::UFFD_WP) && source.anon_vma.is_none() && !guards {
        return Ok(());
    }
    if source.is_hugetlb() {
        return crate::file::hugetlb::copy_range(world, from, to, source, copy);
    }
    let page_size = world.page_size();
    let mut at = source.start;
    while let Some(run) = from.tables.next_run(at, source.end) {
        at = run.end;
        if run.slot.level > 0 {
            if crate::thp::copy(world, from, to, source, copy, run) {
                at = run.start;
            }
            continue;
        }
        let mut slot = run.slot;
        let mut addr = run.start;
        let mut target = to
            .tables
            .alloc_to(addr, 0)
            .expect("a child has no huge entry in the way");
        while addr < run.end {
            let entry = from.tables.entry(slot);
            if entry != Entry::None {
                let copied = copy_entry(world, from, source, copy, slot, entry);
                to.tables.set(target, copied);
            }
            slot.index += 1;
            target.index += 1;
            addr += page_size;
        }
    }
    Ok(())
}

/// `copy_nonpresent_pte` and `copy_present_ptes`: what the child gets for an entry of the parent,
/// which may change, too.
fn copy_entry(
    world: &mut World,
    from: &mut Mm,
    source: &View,
    copy: &View,
    slot: Slot,
    entry: Entry,
) -> Entry {
    let keeps_wp = copy.has(VmaFlags::UFFD_WP);
    match entry {
        Entry::None | Entry::Table(_) => Entry::None,
        Entry::Hwpoison(pfn) => Entry::Hwpoison(pfn),
        Entry::Present(present) => {
            Entry::Present(copy_present(world, from, source, copy, slot, present))
        }
        Entry::Swap {
            slot: place,
            mut bits,
        } => {
            world.swap.get(place);
            bits -= SwapBits::EXCLUSIVE;
            from.tables.set(slot, Entry::Swap { slot: place, bits });
            bits.set(
                SwapBits::UFFD_WP,
                keeps_wp && bits.contains(SwapBits::UFFD_WP),
            );
            Entry::Swap { slot: place, bits }
        }
        Entry::Migration { .. } => unreachable!("no operation leaves a page on its way"),
        Entry::Marker(mut marker) => {
            marker -= Marker::PROTECTED;
            marker.set(
                Marker::UFFD_WP,
                keeps_wp && marker.contains(Marker::UFFD_WP),
            );
            if marker.is_empty() {
                Entry::None
            } else {
                Entry::Marker(marker)
            }
        }
    }
}

fn copy_present(
    world: &mut World,
    from: &mut Mm,
    source: &View,
    copy: &View,
    slot: Slot,
    present: Present,
) -> Present {
    let keeps_wp = copy.has(VmaFlags::UFFD_WP);
    if !present.has(Bits::SPECIAL) {
        if world.frames.folio(present.pfn).is_anon() {
            let folio = world.frames.folio(present.pfn);
            let pinned = match world.profile.cow {
                CowPolicy::Refcount | CowPolicy::AnonExclusive => {
                    from.has_pinned && folio.maybe_pinned()
                }
                CowPolicy::LinusStrict => present.has(Bits::WRITE) && folio.refcount > 1,
                CowPolicy::Mapcount | CowPolicy::EarlyBreak | CowPolicy::AndreaAccurate => false,
            };
            let exclusive = world.frames.is_exclusive(present.pfn)
                || world.profile.cow != CowPolicy::AnonExclusive;
            if exclusive && pinned {
                return copy_pinned(world, source, copy, present);
            }
            world.frames.set_exclusive(present.pfn, false);
        }
        world.frames.get(present.pfn, 1);
        world.frames.add_rmap(present.pfn);
    }
    let mut given = present;
    if source.is_cow() && present.has(Bits::WRITE) {
        given = given.with(Bits::WRITE, false);
        from.tables.set_present(slot, given);
    }
    if source.has(VmaFlags::SHARED) {
        given = given.with(Bits::DIRTY, false);
    }
    given = given.with(Bits::YOUNG, false);
    if !keeps_wp {
        given = given.with(Bits::UFFD_WP, false);
    }
    given
}

/// `copy_present_page`: a pinned page stays the parent's alone.
fn copy_pinned(world: &mut World, source: &View, copy: &View, present: Present) -> Present {
    let Owner::Anon { index, .. } = world.frames.folio(present.pfn).owner else {
        unreachable!("only pages of private memory are copied");
    };
    let first = world.frames.folio(present.pfn).first;
    let owner = Owner::Anon {
        anon_vma: copy
            .anon_vma
            .expect("a child's mapping has a family if its parent's has"),
        index: index + u64::from(present.pfn.0 - first.0),
    };
    let pfn = world.frames.alloc(0, owner);
    world.frames.copy(present.pfn, pfn);
    world.frames.add_rmap(pfn);
    world.frames.set_exclusive(pfn, true);
    let entry = Present {
        pfn,
        bits: page_prot(world, copy),
    };
    let entry = mkdirty(world, entry).with(Bits::WRITE, source.has(VmaFlags::WRITE));
    if copy.has(VmaFlags::UFFD_WP) && present.has(Bits::UFFD_WP) {
        return entry.mkuffd_wp();
    }
    entry
}
