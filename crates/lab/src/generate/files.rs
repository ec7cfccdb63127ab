//! Operations on memory files.

use super::state::FileState;
use super::{Family, HUGE, Maker};
use crate::program::{
    Amount, Closeable, FallocateMode, FileSlot, MapFlags, MemfdFlags, Op, Prot, Seals,
};

/// How many files a program has.
const FILES: u8 = 3;

impl Maker {
    pub(super) fn is_huge_file(&self, slot: FileSlot) -> bool {
        self.files.iter().any(|file| file.slot == slot && file.huge)
    }

    pub(super) fn file(&mut self) -> Op {
        let new = self.files.len() < usize::from(FILES);
        if self.files.is_empty() || (new && self.random.chance(15)) {
            return self.new_file();
        }
        let file = self.random.one_of(&self.files);
        let slot = file.slot;
        let unit = if file.huge { HUGE } else { 1 };
        let page = self.random.between(0, file.pages.max(1));
        let offset = Amount::pages(page * unit);
        match self.random.below(20) {
            0..=3 => {
                let pages = self.random.between(0, 10);
                let bytes = if self.random.chance(15) { 100 } else { 0 };
                self.resize(slot, pages);
                Op::Ftruncate {
                    file: slot,
                    len: Amount {
                        bytes,
                        ..Amount::pages(pages * unit)
                    },
                }
            }
            4..=8 => {
                let mode = self.random.one_of(&[3_u64, 3, 3, 0, 1, 2, 16]);
                let pages = self.random.between(1, 4) * unit;
                let bytes = if self.random.chance(20) { 512 } else { 0 };
                Op::Fallocate {
                    file: slot,
                    mode: FallocateMode(self.flags(mode)),
                    offset: Amount { bytes, ..offset },
                    len: self.len(pages),
                }
            }
            9..=11 => Op::Peek { file: slot, offset },
            12..=15 => {
                let range = self.range();
                let bytes = self.random.one_of(&[1_i64, 8, 4096, 5000]); // not a page size
                let (address, len) = (self.address(range.start), Amount::bytes(bytes));
                if self.random.chance(50) {
                    Op::Pread {
                        file: slot,
                        address,
                        len,
                        offset,
                    }
                } else {
                    Op::Pwrite {
                        file: slot,
                        address,
                        len,
                        offset,
                    }
                }
            }
            16 if self.random.chance(15) => {
                self.files.retain(|file| file.slot != slot);
                Op::Close {
                    what: Closeable::File(slot),
                }
            }
            17 if self.random.chance(30) => {
                let seals = self.random.one_of(&[2_u64, 4, 8, 16, 1]);
                Op::Seal {
                    file: slot,
                    seals: Seals(self.flags(seals)),
                }
            }
            _ => {
                let op = self.mmap();
                self.with_file(op, slot)
            }
        }
    }

    fn with_file(&mut self, op: Op, slot: FileSlot) -> Op {
        let Op::Mmap {
            address,
            len,
            prot,
            flags,
            ..
        } = op
        else {
            return op;
        };
        let flags = MapFlags(flags.0 & !0x4_0020);
        let file = crate::program::MaybeFile(Some(slot));
        let unit = if self.is_huge_file(slot) { HUGE } else { 1 };
        let offset = Amount::pages(self.random.between(0, 3) * unit);
        Op::Mmap {
            address,
            len,
            prot,
            flags,
            file,
            offset,
        }
    }

    /// A mapping of a file with this protection and these flags.
    pub(super) fn mmap_of(&mut self, slot: FileSlot, prot: Prot, flags: MapFlags) -> Op {
        let op = self.mmap();
        match self.with_file(op, slot) {
            Op::Mmap {
                address,
                len,
                file,
                offset,
                ..
            } => Op::Mmap {
                address,
                len,
                prot,
                flags,
                file,
                offset,
            },
            other => other,
        }
    }

    fn resize(&mut self, slot: FileSlot, pages: i64) {
        for file in &mut self.files {
            if file.slot == slot {
                file.pages = pages;
            }
        }
    }

    pub(super) fn new_file(&mut self) -> Op {
        let taken = |slot: u8| self.files.iter().any(|file| file.slot.0 == slot);
        let slot = (0..FILES).find(|&slot| !taken(slot)).unwrap_or(0);
        let slot = FileSlot(slot);
        let huge = self.family == Family::Hugetlb && self.random.chance(70);
        let pages = self.random.between(1, 12);
        let pages = if huge { pages.min(3) } else { pages };
        self.files.retain(|file| file.slot != slot);
        self.files.push(FileState { slot, pages, huge });
        let unit = if huge { HUGE } else { 1 };
        self.queue.push(Op::Ftruncate {
            file: slot,
            len: Amount::pages(pages * unit),
        });
        let op = self.mmap();
        let op = self.with_file(op, slot);
        self.queue.push(op);
        let mut flags = 0;
        if huge {
            flags |= MemfdFlags::of(&["hugetlb"]).0;
        }
        if self.random.chance(40) {
            flags |= MemfdFlags::of(&["sealing"]).0;
        }
        Op::Memfd {
            file: slot,
            flags: MemfdFlags(self.flags(flags)),
        }
    }
}
