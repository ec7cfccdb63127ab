//! Picks addresses, lengths and ranges that are interesting.

use super::Maker;
use super::state::{Area, Kind, Stray};
use crate::program::{Address, Amount, MapFlags, Op, RemapFlags};

/// How many mappings that the kernel placed a program works with.
const STRAYS_MAX: usize = 6;

/// A range in pages of the window; it may be wrong in any way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Range {
    pub(super) start: i64,
    pub(super) len: i64,
}

impl Maker {
    /// The mappings of the lane that goes on.
    pub(super) fn areas(&self) -> &[Area] {
        let lane = &self.lanes[self.lane];
        if lane.thread {
            &self.lanes[0].areas
        } else {
            &lane.areas
        }
    }

    pub(super) fn some_area(&mut self) -> Option<Area> {
        let areas = self.areas().to_vec();
        if areas.is_empty() {
            None
        } else {
            Some(self.random.one_of(&areas))
        }
    }

    /// A mapping of which a condition holds, if there is one.
    pub(super) fn area_where(&mut self, wanted: impl Fn(&Area) -> bool) -> Option<Area> {
        let areas: Vec<Area> = self.areas().iter().copied().filter(wanted).collect();
        if areas.is_empty() {
            None
        } else {
            Some(self.random.one_of(&areas))
        }
    }

    /// Any page of the window.
    pub(super) fn any_page(&mut self) -> i64 {
        let last = self.window - 1;
        self.random.between(0, last)
    }

    /// A page that is mapped, most often.
    pub(super) fn page(&mut self) -> i64 {
        let area = if self.random.chance(92) {
            self.some_area()
        } else {
            None
        };
        match area {
            Some(area) => self.page_of(&area),
            None => self.any_page(),
        }
    }

    pub(super) fn page_of(&mut self, area: &Area) -> i64 {
        match self.random.below(4) {
            0 => area.start,
            1 => area.end() - 1,
            _ => self.random.between(area.start, area.end() - 1),
        }
    }

    /// A range around a mapping: inside it, all of it, over its ends, or anywhere.
    pub(super) fn range(&mut self) -> Range {
        let area = self.some_area();
        match area {
            Some(area) if !self.random.chance(8) => self.range_of(&area),
            _ => self.any_range(),
        }
    }

    pub(super) fn range_of(&mut self, area: &Area) -> Range {
        let unit = if area.kind == Kind::Hugetlb && self.random.chance(90) {
            self.unit
        } else {
            1
        };
        let round = |page: i64| page / unit * unit;
        let (start, end) = match self.random.below(10) {
            0 | 1 => (area.start, area.end()),
            2 => (area.start - unit, area.start + unit),
            3 => (area.end() - unit, area.end() + unit),
            4 => {
                let middle = self.page_of(area);
                (area.start, middle)
            }
            5 => {
                let middle = self.page_of(area);
                (middle, area.end())
            }
            _ => {
                let start = self.page_of(area);
                let most = (area.end() - start).max(1);
                let len = self.random.between(1, most.min(6 * unit));
                (start, start + len)
            }
        };
        let start = round(start).clamp(0, self.window - 1);
        let len = round(end - start + unit - 1).clamp(unit, self.window - start);
        Range { start, len }
    }

    pub(super) fn any_range(&mut self) -> Range {
        let start = self.any_page();
        let unit = if self.unit > 1 && self.random.chance(80) {
            self.unit
        } else {
            1
        };
        let start = start / unit * unit;
        let most = (self.window - start).max(1);
        let len = self.random.between(1, most.min(12 * unit));
        Range {
            start,
            len: (len / unit * unit).max(unit).min(most),
        }
    }

    /// An address, a little wrong now and then.
    pub(super) fn address(&mut self, page: i64) -> Address {
        if self.random.below(100) >= self.wrong {
            return Address::page(page);
        }
        let amount = Amount::pages(page);
        match self.random.below(6) {
            0 => Address::Arena(Amount { bytes: 1, ..amount }),
            1 => Address::Arena(Amount {
                bytes: -8,
                ..Amount::pages(page + 1)
            }),
            2 => Address::Raw(0xFFFF_8000_0000_0000),
            _ => {
                let page = self.any_page();
                Address::page(page)
            }
        }
    }

    /// Aims an operation at memory that the kernel placed, now and then.
    pub(super) fn aim_at_stray(&mut self, op: Op) -> Op {
        if self.strays.is_empty() || !self.random.chance(12) {
            return op;
        }
        let Stray { step, len } = self.random.one_of(&self.strays);
        let page = self.random.between(0, len - 1);
        // Whatever length the operation has, most of the time it ends inside.
        let first = if self.random.chance(70) { 0 } else { page };
        op.map_addresses(|address| match address {
            Address::Arena(amount) if amount.pages > 0 => {
                let bytes = amount.bytes;
                Address::Chosen(
                    step,
                    Amount {
                        bytes,
                        ..Amount::pages(first)
                    },
                )
            }
            other => other,
        })
    }

    /// Notes what a step may have the kernel place.
    pub(super) fn note_stray(&mut self, op: &Op, step: usize) {
        let fixed = MapFlags::of(&["fixed"]).0 | MapFlags::of(&["noreplace"]).0;
        let moves = |flags: RemapFlags| flags.0 & 3 == RemapFlags::of(&["maymove"]).0;
        let len = match *op {
            Op::Mmap { len, flags, .. } if flags.0 & fixed == 0 => len,
            Op::Mremap { new, flags, .. } if moves(flags) => new,
            _ => return,
        };
        if let Ok(step) = u32::try_from(step)
            && len.pages > 0
            && self.strays.len() < STRAYS_MAX
        {
            let len = len.pages;
            self.strays.push(Stray { step, len });
        }
    }

    /// A length, a little wrong now and then.
    pub(super) fn len(&mut self, pages: i64) -> Amount {
        if self.random.below(100) >= self.wrong {
            return Amount::pages(pages);
        }
        match self.random.below(6) {
            0 => Amount::default(),
            1 => Amount::bytes(1),
            2 => Amount {
                bytes: 1,
                ..Amount::pages(pages)
            },
            3 => Amount::bytes(-1),
            4 => Amount::pages(-1),
            _ => {
                let left = self.window;
                Amount::pages(self.random.between(1, left))
            }
        }
    }

    /// A flag word with a bit that nobody knows, now and then.
    pub(super) fn flags(&mut self, flags: u64) -> u64 {
        if self.random.below(200) >= self.wrong {
            return flags;
        }
        let bit = self.random.below(40);
        flags ^ (1 << bit)
    }
}
