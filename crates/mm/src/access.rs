//! Loads and stores of a thread: what hardware does with an entry, and the fault where it can't.
//!
//! Linux reference: 6.18, `arch/x86/mm/fault.c` (`do_user_addr_fault`, `access_error`).

use crate::entry::{Bits, Present};
use crate::fault::{self, FaultFlags};
use crate::folio::Pfn;
use crate::machine::{Machine, Mm, Progress, Tid, World};
use crate::stop::{Signal, Trap};
use crate::vma::{VmaFlags, stack};

/// What an access does to memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Load,
    Store,
}

/// An access that sleeps: the fault is tried again where it was, and only when it is resolved the whole
/// instruction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slept {
    /// Where the access begins.
    start: u64,
    /// The address of the fault.
    at: u64,
    kind: Kind,
}

impl Machine {
    /// Loads bytes from `addr` on, page by page.
    ///
    /// # Errors
    ///
    /// A signal, or that the thread sleeps: then the load is to be made again.
    pub fn load(&mut self, tid: Tid, addr: u64, buf: &mut [u8]) -> Result<(), Trap> {
        self.access(tid, addr, Kind::Load, |world, mm, at| {
            let mut done = 0;
            while done < buf.len() {
                *at = addr.wrapping_add(u64::try_from(done).expect("a length fits"));
                let pfn = reach(world, mm, tid, *at, Kind::Load)?;
                let (offset, len) = within_page(world, *at, buf.len() - done);
                let content = &world.frames.frame(pfn).content;
                content.read(offset, &mut buf[done..done + len]);
                done += len;
            }
            Ok(())
        })
    }

    /// Stores bytes from `addr` on, page by page. What lies before a page that traps is stored, but
    /// not of a word, which one instruction stores as a whole.
    ///
    /// # Errors
    ///
    /// A signal, or that the thread sleeps: then the store is to be made again.
    pub fn store(&mut self, tid: Tid, addr: u64, bytes: &[u8]) -> Result<(), Trap> {
        self.access(tid, addr, Kind::Store, |world, mm, at| {
            let page_size = world.frames.page_size();
            let (_, first) = within_page(world, addr, bytes.len());
            if bytes.len() <= size_of::<u64>() && first < bytes.len() {
                let next = addr.wrapping_add(u64::try_from(first).expect("a length fits"));
                for page in [addr, next] {
                    *at = page;
                    reach(world, mm, tid, page, Kind::Store)?;
                }
            }
            let mut done = 0;
            while done < bytes.len() {
                *at = addr.wrapping_add(u64::try_from(done).expect("a length fits"));
                let pfn = reach(world, mm, tid, *at, Kind::Store)?;
                let (offset, len) = within_page(world, *at, bytes.len() - done);
                let content = &mut world.frames.frame_mut(pfn).content;
                content.write(offset, &bytes[done..done + len], page_size);
                done += len;
            }
            Ok(())
        })
    }

    /// Makes an access that begins at `start`; `work` notes where it is at. What slept tries its fault
    /// again first (`FAULT_FLAG_TRIED` of `do_user_addr_fault`).
    #[inline]
    fn access(
        &mut self,
        tid: Tid,
        start: u64,
        kind: Kind,
        work: impl FnOnce(&mut World, &mut Mm, &mut u64) -> Result<(), Trap>,
    ) -> Result<(), Trap> {
        let is_this = |progress: &mut Progress| matches!(progress, Progress::Access(_));
        let task = self.task_mut(tid).map_err(|_| Trap::NoThread)?;
        let slept = task.progress.take_if(is_this);
        let (world, process) = self.halves(tid).map_err(|_| Trap::NoThread)?;
        let mm = &mut process.mm;
        let mut at = start;
        let mut done = Ok(());
        if let Some(Progress::Access(slept)) = slept
            && (slept.start, slept.kind) == (start, kind)
        {
            at = slept.at;
            done = user_fault(world, mm, tid, at, kind, FaultFlags::empty());
        }
        let done = done.and_then(|()| work(world, mm, &mut at));
        if let Err(Trap::Blocked(_)) = done
            && let Ok(task) = self.task_mut(tid)
        {
            task.progress = Some(Progress::Access(Slept { start, at, kind }));
        }
        done
    }
}

/// The offset of an address in its page, and how many of `len` bytes lie in that page.
pub(crate) fn within_page(world: &World, addr: u64, len: usize) -> (usize, usize) {
    let offset = usize::try_from(world.offset_in_page(addr)).expect("an offset in a page fits");
    (offset, len.min(world.frames.page_size() - offset))
}

/// Makes an address accessible as hardware and the fault handler do together; returns the frame.
#[inline]
pub(crate) fn reach(
    world: &mut World,
    mm: &mut Mm,
    tid: Tid,
    addr: u64,
    kind: Kind,
) -> Result<Pfn, Trap> {
    reach_for(world, mm, tid, addr, kind, FaultFlags::empty())
}

/// As [`reach`], for a system call (`copy_from_user`, `copy_to_user`).
pub(crate) fn reach_by_kernel(
    world: &mut World,
    mm: &mut Mm,
    tid: Tid,
    addr: u64,
    kind: Kind,
) -> Result<Pfn, Trap> {
    reach_for(world, mm, tid, addr, kind, FaultFlags::KERNEL)
}

#[inline]
fn reach_for(
    world: &mut World,
    mm: &mut Mm,
    tid: Tid,
    addr: u64,
    kind: Kind,
    by: FaultFlags,
) -> Result<Pfn, Trap> {
    loop {
        if let Some(pfn) = hardware(world, mm, addr, kind) {
            return Ok(pfn);
        }
        user_fault(world, mm, tid, addr, kind, by)?;
    }
}

/// The frame of an address that can be read without a fault.
pub(crate) fn readable(world: &World, mm: &mut Mm, addr: u64) -> Option<Pfn> {
    hardware(world, mm, addr, Kind::Load)
}

/// What hardware does: finds the frame if the entry allows the access, and sets its bits.
#[inline]
fn hardware(world: &World, mm: &mut Mm, addr: u64, kind: Kind) -> Option<Pfn> {
    let slot = mm.tables.walk(addr, 0);
    let word = mm.tables.word(slot);
    let present = if slot.level == 0 {
        mm.tables.codec().decode_present(word)?
    } else {
        match mm.tables.entry(slot) {
            crate::entry::Entry::Present(present) => present,
            _ => return None,
        }
    };
    let set = match kind {
        Kind::Load => Bits::YOUNG,
        Kind::Store => Bits::YOUNG | Bits::DIRTY,
    };
    if present.bits.intersects(Bits::PROT_NONE | Bits::EXEC_ONLY)
        || (kind == Kind::Store && !present.has(Bits::WRITE))
    {
        return None;
    }
    if !present.has(set) {
        mm.tables.set_present(slot, present.with(set, true));
    }
    Some(frame_of(world, mm, present, addr, slot.level))
}

/// The frame of an address in the page, huge or not, that an entry maps.
pub(crate) fn frame_of(world: &World, mm: &Mm, present: Present, addr: u64, level: u32) -> Pfn {
    let page_shift = world.page_shift();
    let covered = 1_u64 << mm.tables.geometry().shift(level);
    present.pfn.plus((addr & (covered - 1)) >> page_shift)
}

/// `do_user_addr_fault`.
fn user_fault(
    world: &mut World,
    mm: &mut Mm,
    tid: Tid,
    addr: u64,
    kind: Kind,
    by: FaultFlags,
) -> Result<(), Trap> {
    let signal = |signal| Trap::Signal { signal, addr };
    if mm.vmas.lookup(addr).is_none() && !stack::expand(world, mm, addr) {
        return Err(signal(Signal::SegvMaperr));
    }
    let Some(vma) = mm.vmas.lookup(addr) else {
        return Err(signal(Signal::SegvMaperr));
    };
    if vma.has(VmaFlags::EXEC_ONLY) {
        return Err(signal(Signal::SegvPkuerr));
    }
    if !allows(vma.flags, kind) {
        return Err(signal(Signal::SegvAccerr));
    }
    let flags = match kind {
        Kind::Load => by,
        Kind::Store => by | FaultFlags::WRITE,
    };
    fault::handle_mm_fault(world, mm, tid, addr, flags).map_err(|stop| match stop.signal(world) {
        Ok(found) => signal(found),
        Err(wait) => Trap::Blocked(wait),
    })
}

/// `access_error`: whether a mapping allows an access.
pub(crate) fn allows(flags: VmaFlags, kind: Kind) -> bool {
    match kind {
        Kind::Load => flags.intersects(VmaFlags::ACCESS),
        Kind::Store => flags.contains(VmaFlags::WRITE),
    }
}
