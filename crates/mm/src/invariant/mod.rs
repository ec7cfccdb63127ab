//! What must hold after every step, whatever a program did.
//!
//! [`Machine::check`] counts everything anew, from the page tables up, and compares with the counts
//! that the operations kept. It walks all memory, so it is for tests and for the oracle.
//!
//! 1. Mappings are in order, whole pages, never empty, and don't overlap.
//! 2. An entry lies in a mapping, and is of a kind that this mapping may have.
//! 3. A page is mapped as often as its counts say, and has at least the references that mappings,
//!    page caches and the swap cache account for.
//! 4. A writable entry of private memory maps a page that is the process's alone
//!    (`PageAnonExclusive`), and such a page is mapped once.
//! 5. A page of a file is mapped where the mapping's offset says; a page of private memory in a
//!    mapping of its family.
//! 6. Files are referenced by the descriptors, calls and mappings that there are, and slots of swap devices
//!    by entries and page caches.

use std::collections::BTreeMap;
use std::fmt;

use crate::entry::{Bits, Entry, SwapSlot};
use crate::file::{Cached, FileId};
use crate::folio::{FolioFlags, Owner, Pfn, ZERO_PFN};
use crate::machine::{Descriptor, Machine, Mm, Pid, Progress};
use crate::profile::CowPolicy;
use crate::table::Slot;
use crate::vma::{Vma, VmaFlags};

/// A rule that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Where: the process, if it is one's.
    pub pid: Option<Pid>,
    /// Where: the address, if there is one.
    pub addr: Option<u64>,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(pid) = self.pid {
            write!(f, "process {}: ", pid.0)?;
        }
        if let Some(addr) = self.addr {
            write!(f, "{addr:#x}: ")?;
        }
        f.write_str(&self.what)
    }
}

impl std::error::Error for Violation {}

/// What the page tables, caches and descriptors add up to.
#[derive(Default)]
struct Tally {
    /// The frame of each entry of the lowest level; sorted when all are known.
    small: Vec<Pfn>,
    /// Mappings of each folio, by its first frame, by huge entries.
    huge: BTreeMap<Pfn, u32>,
    slots: BTreeMap<SwapSlot, u32>,
    files: BTreeMap<FileId, u32>,
}

impl Tally {
    /// How many entries of the lowest level map a frame.
    fn small_mappings(&self, pfn: Pfn) -> u32 {
        let first = self.small.partition_point(|other| *other < pfn);
        let same = self.small[first..]
            .iter()
            .take_while(|other| **other == pfn);
        u32::try_from(same.count()).expect("counts of mappings fit 32 bits")
    }
}

impl Machine {
    /// Checks all that must hold.
    ///
    /// # Errors
    ///
    /// The first rule that does not hold.
    pub fn check(&self) -> Result<(), Violation> {
        let mut tally = Tally::default();
        for task in self.tasks.iter().flatten() {
            let held = match &task.progress {
                Some(Progress::Moving(moved)) => match moved.descriptor {
                    Descriptor::File { file, .. } => Some(file),
                    _ => None,
                },
                Some(Progress::Removal(removal)) => removal.hole.map(|hole| hole.file),
                _ => None,
            };
            if let Some(file) = held {
                *tally.files.entry(file).or_default() += 1;
            }
        }
        for pid in self.pids() {
            let Ok(process) = self.process(pid) else {
                continue;
            };
            for descriptor in process.fds.values() {
                if let Descriptor::File { file, .. } = descriptor {
                    *tally.files.entry(*file).or_default() += 1;
                }
            }
            let fail = |addr: u64, what: String| Violation {
                pid: Some(pid),
                addr: Some(addr),
                what,
            };
            self.check_mappings(&process.mm, &mut tally)
                .map_err(|(addr, what)| fail(addr, what))?;
            self.check_entries(&process.mm, &mut tally)
                .map_err(|(addr, what)| fail(addr, what))?;
        }
        self.check_files(&mut tally)?;
        tally.small.sort_unstable();
        self.check_folios(&tally)
    }

    fn check_mappings(&self, mm: &Mm, tally: &mut Tally) -> Result<(), (u64, String)> {
        let mut last = 0;
        for vma in mm.vmas.iter() {
            let misplaced = self.world.offset_in_page(vma.start | vma.end) != 0;
            if vma.start < last || vma.start >= vma.end || misplaced {
                return Err((vma.start, format!("the mapping ends at {:#x}", vma.end)));
            }
            last = vma.end;
            if vma.anon_vma.is_some() == vma.chain.is_empty() {
                return Err((
                    vma.start,
                    "a family without a chain, or the reverse".to_owned(),
                ));
            }
            if vma.uffd.is_some() != vma.uffd_armed() {
                return Err((
                    vma.start,
                    "registered with nobody, or for nothing".to_owned(),
                ));
            }
            if let Some(file) = vma.file {
                *tally.files.entry(file).or_default() += 1;
            }
        }
        Ok(())
    }

    fn check_entries(&self, mm: &Mm, tally: &mut Tally) -> Result<(), (u64, String)> {
        mm.tables.visit_all(|addr, slot| {
            self.check_entry(mm, addr, slot, tally)
                .map_err(|what| (addr, what))
        })
    }

    fn check_entry(&self, mm: &Mm, addr: u64, slot: Slot, tally: &mut Tally) -> Result<(), String> {
        let entry = mm.tables.entry(slot);
        let vma = mm
            .vmas
            .lookup(addr)
            .ok_or_else(|| format!("{entry:?} in no mapping"))?;
        match entry {
            Entry::None | Entry::Table(_) | Entry::Marker(_) | Entry::Hwpoison(_) => Ok(()),
            Entry::Migration { .. } => Err("a page stays on its way".to_owned()),
            Entry::Swap { slot, .. } => {
                *tally.slots.entry(slot).or_default() += 1;
                Ok(())
            }
            Entry::Present(present) => {
                let wrong = |what: &str| Err(format!("{what}: {present:?} in {:?}", vma.flags));
                if present.has(Bits::WRITE) && !vma.has(VmaFlags::WRITE) {
                    return wrong("writable in a mapping that is not");
                }
                if present.has(Bits::SPECIAL) {
                    let pages = [Some(ZERO_PFN), self.world.huge_zero];
                    let zero = pages.contains(&Some(present.pfn)) && !present.has(Bits::WRITE);
                    return if zero {
                        Ok(())
                    } else {
                        wrong("special, but no page of zeros")
                    };
                }
                if slot.level == 0 {
                    tally.small.push(present.pfn);
                } else {
                    *tally.huge.entry(present.pfn).or_default() += 1;
                }
                let writable = present.has(Bits::WRITE);
                self.check_owner(vma, addr, present.pfn, writable)
            }
        }
    }

    fn check_owner(&self, vma: &Vma, addr: u64, pfn: Pfn, writable: bool) -> Result<(), String> {
        let world = &self.world;
        let folio = world.frames.folio(pfn);
        let offset = u64::from(pfn.0 - folio.first.0);
        let here = vma.index_of(addr, world.page_shift());
        match folio.owner {
            Owner::Kernel => Err(format!("maps {pfn:?}, which is nobody's")),
            Owner::File { file, index } => {
                if vma.file != Some(file) || index + offset != here {
                    return Err(format!("maps page {index} of {file:?}, offset {here}"));
                }
                if writable && !vma.has(VmaFlags::SHARED) {
                    return Err("a private mapping may write to the file".to_owned());
                }
                Ok(())
            }
            Owner::Anon { anon_vma, index } => {
                if !vma.chain.contains(&anon_vma) {
                    return Err(format!(
                        "a page of {anon_vma:?}, which is no family of {vma:?}"
                    ));
                }
                if index + offset != here {
                    return Err(format!("a private page of offset {index}, not {here}"));
                }
                let strict = world.profile.cow == CowPolicy::AnonExclusive;
                if writable && strict && !world.frames.is_exclusive(pfn) {
                    return Err("writable, but not the process's alone".to_owned());
                }
                Ok(())
            }
        }
    }

    fn check_files(&self, tally: &mut Tally) -> Result<(), Violation> {
        let fail = |what: String| Violation {
            pid: None,
            addr: None,
            what,
        };
        for file in self.world.files.iter() {
            let refs = tally.files.get(&file.id).copied().unwrap_or(0);
            if file.refs() != refs {
                let has = file.refs();
                return Err(fail(format!(
                    "{:?} has {has} references, {refs} are known",
                    file.id
                )));
            }
            for (&index, cached) in &file.pages {
                match cached {
                    Cached::Swap(slot) => *tally.slots.entry(*slot).or_default() += 1,
                    Cached::Page(pfn) => {
                        let owner = self.world.frames.folio(*pfn).owner;
                        let own = matches!(owner, Owner::File { file: of, .. } if of == file.id);
                        if !own {
                            let what = format!("{:?} caches {owner:?} as {index}", file.id);
                            return Err(fail(what));
                        }
                    }
                }
            }
        }
        for (slot, &count) in &tally.slots {
            let has = self.world.swap.count(*slot);
            if has != count {
                return Err(fail(format!("{slot:?} has count {has}, {count} name it")));
            }
        }
        Ok(())
    }

    fn check_folios(&self, tally: &Tally) -> Result<(), Violation> {
        let frames = &self.world.frames;
        let mut in_use = 0;
        for folio in frames.folios() {
            in_use += folio.pages();
            let fail = |what: &str| {
                Err(Violation {
                    pid: None,
                    addr: None,
                    what: format!("{what}: {folio:?}"),
                })
            };
            let huge = tally.huge.get(&folio.first).copied().unwrap_or(0);
            let mut mapped = huge;
            for page in 0..folio.pages() {
                let pfn = folio.first.plus(page);
                let small = tally.small_mappings(pfn);
                mapped += small;
                if frames.frame(pfn).mapcount != small {
                    return fail(&format!("{pfn:?} is mapped {small} times"));
                }
                if folio.is_anon() && frames.is_exclusive(pfn) && small + huge > 1 {
                    return fail("exclusive, but mapped more than once");
                }
            }
            if folio.entire_mapcount != huge || folio.mapcount != mapped {
                return fail(&format!("mapped {mapped} times, {huge} as a whole"));
            }
            let cache = match folio.owner {
                Owner::File { .. } => folio.cache_references(),
                Owner::Kernel | Owner::Anon { .. } => 0,
            };
            let swap = u32::from(folio.flags.contains(FolioFlags::SWAPCACHE));
            if folio.refcount < mapped + cache + swap {
                return fail("fewer references than users");
            }
        }
        if in_use != frames.in_use() {
            return Err(Violation {
                pid: None,
                addr: None,
                what: format!(
                    "{in_use} frames are in use, {} are counted",
                    frames.in_use()
                ),
            });
        }
        Ok(())
    }
}
