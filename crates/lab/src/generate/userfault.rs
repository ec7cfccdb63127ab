//! Operations on userfaultfds.

use super::pick::Range;
use super::state::{ContextState, Kind};
use super::{Family, Maker};
use crate::program::{
    Address, Amount, Closeable, Context, ContextFlags, ContinueMode, CopyMode, Features, MapFlags,
    MemfdFlags, MoveMode, Number, Op, Prot, ProtectMode, RegisterMode, Seals, WakeMode,
};

/// How many contexts a program has.
const CONTEXTS: u8 = 3;

impl Maker {
    /// Queues what makes a context and registers something with it.
    pub(super) fn new_context(&mut self) {
        let slot = Context(
            u8::try_from(self.contexts.len())
                .unwrap_or(0)
                .min(CONTEXTS - 1),
        );
        let features = self.features();
        self.contexts.retain(|context| context.slot != slot);
        self.contexts.push(ContextState { slot });
        let user_mode = if self.random.chance(20) { 1 } else { 0 };
        let flags = ContextFlags(self.flags(0x8_0800 | user_mode));
        self.queue.push(Op::Userfaultfd {
            context: slot,
            flags,
        });
        let api = Number(if self.random.below(100) < self.wrong {
            0xAB
        } else {
            0xAA
        });
        self.queue.push(Op::Api {
            context: slot,
            api,
            features,
        });
        let register = self.register(slot);
        self.queue.push(register);
    }

    pub(super) fn features(&mut self) -> Features {
        let mut bits = Features::default().0;
        let handler = self.family == Family::Handler;
        if !handler {
            // Without an event to wait for, a fault is a signal or resolves itself.
            bits |= Features::of(&["sigbus"]).0;
        }
        for (percent, name) in [
            (40, "wp-unpopulated"),
            (40, "wp-async"),
            (60, "wp-hugetlbfs-shmem"),
            (30, "exact-address"),
            (40, "missing-hugetlbfs"),
            (40, "missing-shmem"),
            (50, "minor-shmem"),
            (50, "minor-hugetlbfs"),
            (40, "poison"),
            (40, "move"),
            (30, "pagefault-flag-wp"),
            (30, "thread-id"),
        ] {
            if self.random.chance(percent) {
                bits |= Features::of(&[name]).0;
            }
        }
        if handler {
            for name in ["event-remap", "event-remove", "event-unmap", "event-fork"] {
                if self.random.chance(30) {
                    bits |= Features::of(&[name]).0;
                }
            }
        }
        Features(self.flags(bits))
    }

    fn register(&mut self, context: Context) -> Op {
        let area = self.some_area();
        let range = match area {
            Some(area) if self.random.chance(60) => Range {
                start: area.start,
                len: area.len,
            },
            _ => self.range(),
        };
        let shared = area.is_some_and(|area| {
            matches!(
                area.kind,
                Kind::SharedAnon | Kind::SharedFile(_) | Kind::Hugetlb
            )
        });
        let mode = if shared {
            self.random
                .weighted(&[(3, 1), (4, 2), (4, 4), (2, 6), (2, 3), (1, 7)])
        } else {
            self.random.weighted(&[(3, 1), (6, 2), (3, 3), (1, 4)])
        };
        Op::Register {
            context,
            address: self.address(range.start),
            len: self.len(range.len),
            mode: RegisterMode(self.flags(mode)),
        }
    }

    /// Seals a file against writing, maps it, and registers that: what may never be written can't be
    /// registered.
    fn register_sealed(&mut self, context: Context) -> Op {
        let memfd = self.new_file();
        let Op::Memfd { file, flags } = memfd else {
            return memfd;
        };
        let (prot, map) = (Prot(1), MapFlags::of(&["shared", "fixed"]));
        let map = self.mmap_of(file, prot, map);
        let Op::Mmap { address, len, .. } = map else {
            return memfd;
        };
        let mode = self.random.one_of(&[1_u64, 2, 3, 4]);
        self.queue.extend([
            Op::Seal {
                file,
                seals: Seals::of(&["future-write"]),
            },
            map,
            Op::Register {
                context,
                address,
                len,
                mode: RegisterMode(mode),
            },
        ]);
        Op::Memfd {
            file,
            flags: MemfdFlags(flags.0 | MemfdFlags::of(&["sealing"]).0),
        }
    }

    /// A range that the context watches, most often.
    fn watched(&mut self, context: Context) -> Range {
        let area = self.area_where(|area| area.registered == Some(context));
        match area {
            Some(area) if self.random.chance(92) => self.range_of(&area),
            _ => self.range(),
        }
    }

    pub(super) fn userfault(&mut self) -> Op {
        let Some(state) = self.some_context() else {
            self.new_context();
            return self.queue.remove(0);
        };
        let context = state.slot;
        let more = self.contexts.len() < usize::from(CONTEXTS);
        if more && self.random.chance(6) {
            self.new_context();
            return self.queue.remove(0);
        }
        let range = self.watched(context);
        let (address, len) = (self.address(range.start), self.len(range.len));
        let wake = self.random.one_of(&[0_u64, 0, 0, 0, 1]);
        let wake = WakeMode(self.flags(wake));
        match self.random.below(100) {
            0 if self.random.chance(40) => self.register_sealed(context),
            0..=11 => self.register(context),
            12..=15 => Op::Unregister {
                context,
                address,
                len,
            },
            16..=31 => self.copy(context, range, address, len),
            32..=41 => Op::Zeropage {
                context,
                address,
                len,
                mode: wake,
            },
            42..=50 => {
                let mode = self.random.one_of(&[0_u64, 0, 1, 2]);
                let mode = ContinueMode(self.flags(mode));
                Op::Continue {
                    context,
                    address,
                    len,
                    mode,
                }
            }
            51..=74 => {
                let mode = self.random.weighted(&[(10, 1_u64), (6, 0), (2, 2), (1, 3)]);
                let mode = ProtectMode(self.flags(mode));
                Op::Writeprotect {
                    context,
                    address,
                    len,
                    mode,
                }
            }
            75..=82 => Op::Poison {
                context,
                address,
                len,
                mode: wake,
            },
            83..=91 => {
                // Only private memory moves, so that any other source fails early.
                let private = self.area_where(|area| area.kind == Kind::Anon);
                let source = match private {
                    Some(area) if self.random.chance(70) => self.range_of(&area),
                    _ => self.range(),
                };
                let source = self.address(source.start);
                let mode = self.random.one_of(&[0_u64, 2, 2, 1]);
                let mode = MoveMode(self.flags(mode));
                Op::Move {
                    context,
                    target: address,
                    source,
                    len,
                    mode,
                }
            }
            92 => Op::Wake {
                context,
                address,
                len,
            },
            93..=96 => Op::ReadEvent {
                context,
                new: Context(7),
            },
            97 => {
                let features = self.features();
                Op::Api {
                    context,
                    api: Number(0xAA),
                    features,
                }
            }
            98 if self.random.chance(40) => {
                self.contexts.retain(|known| known.slot != context);
                for lane in &mut self.lanes {
                    for area in &mut lane.areas {
                        if area.registered == Some(context) {
                            area.registered = None;
                        }
                    }
                }
                Op::Close {
                    what: Closeable::Context(context),
                }
            }
            _ => Op::Register {
                context,
                address,
                len,
                mode: RegisterMode(2),
            },
        }
    }

    fn copy(&mut self, context: Context, range: Range, target: Address, len: Amount) -> Op {
        let source = if range.len <= super::HUGE && self.random.chance(70) {
            Address::Pattern(self.random.one_of(&[0, 0x5A, 0xA7, 0xFF]))
        } else {
            let from = self.range();
            self.address(from.start)
        };
        let small = len.pages <= super::HUGE && len.bytes >= 0 && len.pages >= 0;
        let source = match source {
            Address::Pattern(_) if !small => Address::page(0),
            other => other,
        };
        let mode = self.random.one_of(&[0_u64, 0, 0, 1, 2, 2]);
        let mode = CopyMode(self.flags(mode));
        Op::Copy {
            context,
            target,
            source,
            len,
            mode,
        }
    }
}
