//! Operations on mappings, accesses and looks.

use super::state::{Area, Kind};
use super::{Family, HUGE, Maker};
use crate::program::{
    Address, Advice, Amount, Byte, Categories, LockFlags, MapFlags, MaybeFile, Number, Op, Prot,
    RemapFlags, ScanFlags,
};

impl Maker {
    pub(super) fn mmap(&mut self) -> Op {
        let huge = self.family == Family::Hugetlb;
        let range = if self.areas().is_empty() {
            self.any_range()
        } else {
            self.place()
        };
        let file = if self.files.is_empty() {
            None
        } else {
            Some(self.random.one_of(&self.files))
        };
        let choice = self.random.below(10);
        let (flags, file) = match (choice, file) {
            (0..=3, _) if huge && self.random.chance(70) => {
                let private = self.random.chance(50);
                let access = if private { "private" } else { "shared" };
                (MapFlags::of(&[access, "anon", "hugetlb"]), None)
            }
            (5, _) => (MapFlags::of(&["shared", "anon"]), None),
            (0..=4, _) | (_, None) => (MapFlags::of(&["private", "anon"]), None),
            (6 | 7, Some(file)) => (MapFlags::of(&["shared"]), Some(file.slot)),
            (_, Some(file)) => (MapFlags::of(&["private"]), Some(file.slot)),
        };
        let place = match self.random.below(20) {
            0 => 0,
            1 | 2 => MapFlags::of(&["noreplace"]).0,
            _ => MapFlags::of(&["fixed"]).0,
        };
        let mut flags = flags.0 | place;
        for (percent, name) in [
            (6, "populate"),
            (4, "noreserve"),
            (2, "locked"),
            (1, "nonblock"),
        ] {
            if self.random.chance(percent) {
                flags |= MapFlags::of(&[name]).0;
            }
        }
        let prot = self.prot();
        let offset = if file.is_some() {
            self.random.between(0, 6)
        } else {
            0
        };
        let unit = if huge && file.is_some() { HUGE } else { 1 };
        Op::Mmap {
            address: self.address(range.start),
            len: self.len(range.len),
            prot,
            flags: MapFlags(self.flags(flags)),
            file: MaybeFile(file),
            offset: Amount::pages(offset * unit),
        }
    }

    /// Where a new mapping goes: beside others, or over them.
    fn place(&mut self) -> super::pick::Range {
        let Some(area) = self.some_area() else {
            return self.any_range();
        };
        let room = self.window;
        let len = self.random.between(1, 6) * self.unit;
        let start = match self.random.below(4) {
            0 => area.end(),
            1 => area.start - len,
            2 => area.start,
            _ => return self.any_range(),
        };
        let start = start.clamp(0, room - self.unit);
        super::pick::Range {
            start,
            len: len.min(room - start),
        }
    }

    fn prot(&mut self) -> Prot {
        Prot(
            self.random
                .weighted(&[(14, 3), (4, 1), (1, 0), (1, 7), (1, 2), (1, 5)]),
        )
    }

    pub(super) fn access(&mut self) -> Op {
        let page = self.page();
        let byte = self.random.one_of(&[0_i64, 0, 8, 4088, 4095]);
        let amount = Amount {
            bytes: byte,
            ..Amount::pages(page)
        };
        let address = Address::Arena(amount);
        let across = Address::Arena(Amount {
            bytes: -4,
            ..Amount::pages(page)
        });
        let across = if page == 0 { address } else { across };
        let value = self.random.word();
        match self.random.below(20) {
            0..=7 => Op::Load { address },
            8..=17 => {
                let value = Byte(self.random.one_of(&[0, 0x11, 0x22, 0x33, 0xFF]));
                Op::Store { address, value }
            }
            18 => Op::LoadWord { address: across },
            _ => Op::StoreWord {
                address: across,
                value: Number(value),
            },
        }
    }

    pub(super) fn mapping(&mut self) -> Op {
        type Make = fn(&mut Maker) -> Op;
        let choices: &[(u64, Make)] = &[
            (12, Self::mmap),
            (5, Self::munmap),
            (12, Self::mprotect),
            (9, Self::mremap),
            (26, Self::madvise),
            (3, Self::mlock),
        ];
        let make = self.random.weighted(choices);
        make(self)
    }

    fn munmap(&mut self) -> Op {
        let range = self.range();
        Op::Munmap {
            address: self.address(range.start),
            len: self.len(range.len),
        }
    }

    fn mprotect(&mut self) -> Op {
        let range = self.range();
        let prot = self.prot();
        Op::Mprotect {
            address: self.address(range.start),
            len: self.len(range.len),
            prot: Prot(self.flags(prot.0)),
        }
    }

    fn mremap(&mut self) -> Op {
        let area = self.some_area();
        let whole = self.random.chance(50);
        let range = match area {
            Some(area) if whole => super::pick::Range {
                start: area.start,
                len: area.len,
            },
            _ => self.range(),
        };
        let new = match self.random.below(6) {
            0 | 1 => range.len,
            2 => (range.len - self.unit).max(self.unit),
            3 => range.len + self.unit,
            _ => self.random.between(1, 6) * self.unit,
        };
        let target = self.any_range().start.min((self.window - new).max(0));
        let flags = self.random.weighted(&[
            (3, RemapFlags(0)),
            (14, RemapFlags::of(&["maymove", "fixed"])),
            (3, RemapFlags::of(&["maymove"])),
            (1, RemapFlags::of(&["maymove", "dontunmap"])),
            (6, RemapFlags::of(&["maymove", "fixed", "dontunmap"])),
            (1, RemapFlags::of(&["fixed"])),
        ]);
        let new = if flags.0 & 4 != 0 && !self.random.chance(10) {
            range.len
        } else {
            new
        };
        let old = if self.random.below(100) < self.wrong / 2 {
            0
        } else {
            range.len
        };
        Op::Mremap {
            address: self.address(range.start),
            old: self.len(old),
            new: self.len(new),
            flags: RemapFlags(self.flags(flags.0)),
            target: self.address(target),
        }
    }

    fn madvise(&mut self) -> Op {
        let range = self.range();
        let thp = if self.family == Family::Thp { 6 } else { 1 };
        let advice = self.random.weighted(&[
            (16, "dontneed"),
            (3, "dontneed-locked"),
            (3, "free"),
            (5, "remove"),
            (3, "pageout"),
            (1, "cold"),
            (6, "populate-read"),
            (6, "populate-write"),
            (thp, "collapse"),
            (2 * thp, "hugepage"),
            (thp, "nohugepage"),
            (2, "dontfork"),
            (1, "dofork"),
            (2, "wipeonfork"),
            (1, "keeponfork"),
            (6, "guard-install"),
            (4, "guard-remove"),
            (1, "willneed"),
            (1, "random"),
            (1, "sequential"),
            (1, "normal"),
            (1, "dontdump"),
            (1, "dodump"),
        ]);
        let mut advice = Advice::of(advice);
        if advice == Advice::of("guard-install") && self.may_be_endless() {
            advice = Advice::of("guard-remove");
        }
        if self.random.below(300) < self.wrong {
            advice = Advice(self.random.one_of(&[5, 26, 30, 99, 104]));
        }
        Op::Madvise {
            address: self.address(range.start),
            len: self.len(range.len),
            advice,
        }
    }

    /// Guards over a private file mapping that is write-protected may never be done (the allowance
    /// `endless-guard-install`). Each time costs as much as thousands of steps, so it is rare: what
    /// is mapped and protected where is not known well enough to tell the other cases apart.
    fn may_be_endless(&mut self) -> bool {
        self.private_file && !self.contexts.is_empty() && !self.random.chance(1)
    }

    fn mlock(&mut self) -> Op {
        let range = self.range();
        let (address, len) = (self.address(range.start), self.len(range.len));
        match self.random.below(5) {
            0..=2 => Op::Munlock { address, len },
            3 => Op::Mlock {
                address,
                len,
                flags: LockFlags(self.flags(0)),
            },
            _ => Op::Mlock {
                address,
                len,
                flags: LockFlags(1),
            },
        }
    }

    pub(super) fn readout(&mut self) -> Op {
        if self.random.chance(25) {
            let range = self.range();
            return Op::Mincore {
                address: self.address(range.start),
                len: self.len(range.len),
            };
        }
        self.scan()
    }

    fn scan(&mut self) -> Op {
        let range = if self.random.chance(30) {
            super::pick::Range {
                start: 0,
                len: self.window,
            }
        } else {
            self.range()
        };
        let known = Categories::of(&[
            "wpallowed",
            "written",
            "file",
            "present",
            "swapped",
            "pfnzero",
            "huge",
            "soft-dirty",
            "guard",
        ]);
        let mut some = |percent: u64| {
            let bits = (0..9).filter(|_| self.random.chance(percent));
            Categories(bits.fold(0, |all, bit| all | (1 << bit)))
        };
        let (inverted, mask, anyof) = (some(15), some(12), some(12));
        let shown = self
            .random
            .one_of(&[known, Categories(2), Categories(0x1F), known]);
        let flags = self.random.weighted(&[(6, 0), (4, 1), (2, 3), (1, 2)]);
        let regions = self.random.one_of(&[64_u64, 64, 64, 1, 2, 3, 0]);
        let pages_max = self.random.one_of(&[0_u64, 0, 0, 0, 1, 3, 5]);
        let mask = Categories(self.flags(mask.0));
        Op::Scan {
            start: self.address(range.start),
            end: Address::page(range.start + range.len),
            flags: ScanFlags(self.flags(flags)),
            regions: Number(regions),
            pages_max: Number(pages_max),
            inverted,
            mask,
            anyof,
            shown: Categories(self.flags(shown.0)),
        }
    }

    pub(super) fn clear_refs(&mut self) -> Op {
        Op::ClearRefs {
            value: Byte(self.random.one_of(&[4, 4, 4, 1, 2, 3, 0, 6])),
        }
    }

    pub(super) fn follow_memory(&mut self, op: &Op) {
        let index = if self.lanes[self.lane].thread {
            0
        } else {
            self.lane
        };
        let window = self.window;
        let inside = |address: Address, len: Amount| match (address, len) {
            (Address::Arena(start), len) if start.bytes == 0 && len.bytes == 0 => {
                let (start, len) = (start.pages, len.pages);
                (start >= 0 && len > 0 && start + len <= window).then_some((start, len))
            }
            _ => None,
        };
        match *op {
            Op::Mmap {
                address,
                len,
                flags,
                file,
                ..
            } => {
                self.private_file |= file.0.is_some() && flags.0 & 2 != 0;
                let Some((start, len)) = inside(address, len) else {
                    return;
                };
                if flags.0 & MapFlags::of(&["fixed"]).0 == 0 {
                    return;
                }
                let shared = flags.0 & 1 != 0;
                let hugetlb = flags.0 & MapFlags::of(&["hugetlb"]).0 != 0;
                let kind = match (file.0, shared) {
                    (None, _) if hugetlb => Kind::Hugetlb,
                    (None, true) => Kind::SharedAnon,
                    (None, false) => Kind::Anon,
                    (Some(slot), _) if self.is_huge_file(slot) => Kind::Hugetlb,
                    (Some(slot), true) => Kind::SharedFile(slot),
                    (Some(slot), false) => Kind::PrivateFile(slot),
                };
                self.lanes[index].map(Area {
                    start,
                    len,
                    kind,
                    registered: None,
                });
            }
            Op::Munmap { address, len } => {
                if let Some((start, len)) = inside(address, len) {
                    self.lanes[index].unmap(start, len);
                }
            }
            Op::Mremap {
                address,
                old,
                new,
                flags,
                target,
            } => {
                let (Some((start, old)), Some((target, new))) =
                    (inside(address, old), inside(target, new))
                else {
                    return;
                };
                let lane = &mut self.lanes[index];
                if flags.0 & 2 != 0 {
                    lane.copy_to(start, old.min(new), target);
                    if flags.0 & 4 == 0 {
                        lane.unmap(start, old);
                    }
                } else if new < old {
                    lane.unmap(start + new, old - new);
                }
            }
            Op::Register {
                context,
                address,
                len,
                ..
            } => {
                if let Some((start, len)) = inside(address, len) {
                    self.lanes[index].register(start, len, Some(context));
                }
            }
            Op::Unregister { address, len, .. } => {
                if let Some((start, len)) = inside(address, len) {
                    self.lanes[index].register(start, len, None);
                }
            }
            _ => {}
        }
    }
}
