//! Forks, threads, and what moves or holds pages: pipes, rings, other processes.

use super::Maker;
use super::state::{Area, Kind};
use crate::program::{
    Address, Amount, Closeable, Context, ContextFlags, Features, LaneSlot, MapFlags, MaybeFile,
    Number, Op, Pipe, Prot, RegisterMode, Ring, SpliceFlags,
};

impl Maker {
    pub(super) fn process(&mut self) -> Op {
        let free = (1..self.lanes.len()).find(|&lane| !self.lanes[lane].alive);
        match free {
            Some(free) if self.random.chance(60) => Op::Fork {
                lane: LaneSlot(u8::try_from(free).expect("lanes are few")),
            },
            _ if self.may_exit() => Op::Exit {},
            _ => self.access(),
        }
    }

    /// Children end often, the first process seldom, and the last one never.
    fn may_exit(&mut self) -> bool {
        let mut lanes = self.lanes.iter().enumerate();
        let others = lanes.any(|(lane, state)| lane != self.lane && state.alive);
        let percent = if self.lane == 0 { 15 } else { 40 };
        others && self.random.chance(percent)
    }

    /// The handler's family: a context that delivers, and threads beside the handler.
    pub(super) fn open_handler(&mut self) {
        let features = self.features();
        let context = Context(0);
        let flags = ContextFlags::of(&["nonblock", "cloexec"]);
        let map = MapFlags::of(&["private", "anon", "fixed"]);
        let len = Amount::pages(8);
        self.queue.extend([
            Op::Userfaultfd { context, flags },
            Op::Api {
                context,
                api: Number(0xAA),
                features: Features(features.0),
            },
            Op::Mmap {
                address: Address::page(0),
                len,
                prot: Prot(3),
                flags: map,
                file: MaybeFile(None),
                offset: Amount::default(),
            },
            Op::Register {
                context,
                address: Address::page(0),
                len,
                mode: RegisterMode(3),
            },
            Op::Thread { lane: LaneSlot(1) },
            Op::Thread { lane: LaneSlot(2) },
        ]);
        self.contexts.push(super::ContextState { slot: context });
        let area = Area {
            start: 0,
            len: 8,
            kind: Kind::Anon,
            registered: Some(context),
        };
        self.lanes[0].map(area);
    }

    pub(super) fn transfer(&mut self) -> Op {
        match self.random.below(10) {
            0..=4 => self.piped(),
            5..=7 if self.family == super::Family::Pin => self.ringed(),
            _ => self.remote(),
        }
    }

    fn piped(&mut self) -> Op {
        if self.pipes == 0 {
            self.pipes = 1;
            return Op::MakePipe { pipe: Pipe(0) };
        }
        let pipe = Pipe(0);
        let page = self.page();
        let address = self.address(page);
        let bytes = self.random.one_of(&[1_i64, 16, 4096, 4100, 8192]); // not a page size
        let len = Amount::bytes(bytes);
        match self.random.below(8) {
            0..=2 => {
                let flags = SpliceFlags(self.flags(2));
                Op::Vmsplice {
                    pipe,
                    address,
                    len,
                    flags,
                }
            }
            3..=5 => Op::PipeRead { pipe, len },
            6 => Op::PipeInto { pipe, address, len },
            _ => Op::PipeFrom { pipe, address, len },
        }
    }

    fn ringed(&mut self) -> Op {
        let ring = Ring(0);
        if self.rings == 0 {
            self.rings = 1;
            return Op::MakeRing { ring };
        }
        let range = self.range();
        let address = self.address(range.start);
        let file = if self.files.is_empty() {
            return self.file();
        } else {
            self.random.one_of(&self.files)
        };
        let offset = Amount::pages(self.random.between(0, 3));
        let len = Amount::bytes(self.random.one_of(&[1_i64, 64, 4096])); // not a page size
        match self.random.below(10) {
            0..=2 => Op::Pin {
                ring,
                address,
                len: self.len(range.len),
            },
            3 => Op::Unpin { ring },
            4..=6 => Op::RingRead {
                ring,
                file: file.slot,
                offset,
                address,
                len,
            },
            7 | 8 => Op::RingWrite {
                ring,
                file: file.slot,
                offset,
                address,
                len,
            },
            _ => {
                self.rings = 0;
                Op::Close {
                    what: Closeable::Ring(ring),
                }
            }
        }
    }

    fn remote(&mut self) -> Op {
        let alive: Vec<usize> = (0..self.lanes.len())
            .filter(|&lane| self.lanes[lane].alive && !self.lanes[lane].thread)
            .collect();
        let lane = self.random.one_of(&alive);
        let lane = LaneSlot(u8::try_from(lane).expect("lanes are few"));
        let (local, remote) = (self.page(), self.page());
        let (local, remote) = (self.address(local), self.address(remote));
        let len = Amount::bytes(self.random.one_of(&[1_i64, 8, 4096, 6000])); // not a page size
        if self.random.chance(50) {
            Op::VmRead {
                lane,
                remote,
                len,
                local,
            }
        } else {
            Op::VmWrite {
                lane,
                remote,
                len,
                local,
            }
        }
    }

    pub(super) fn follow_process(&mut self, op: &Op) {
        match *op {
            Op::Fork { lane } => {
                let index = if self.lanes[self.lane].thread {
                    0
                } else {
                    self.lane
                };
                let areas = self.lanes[index].areas.clone();
                let child = &mut self.lanes[usize::from(lane.0)];
                child.alive = true;
                child.thread = false;
                child.areas = areas;
                for area in &mut child.areas {
                    area.registered = None;
                }
            }
            Op::Thread { lane } => {
                let new = &mut self.lanes[usize::from(lane.0)];
                new.alive = true;
                new.thread = true;
            }
            Op::Exit {} => self.lanes[self.lane].alive = false,
            _ => {}
        }
    }
}
