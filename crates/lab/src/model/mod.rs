//! Runs programs on the model.
//!
//! [`Model`] carries out one program, step by step. Where a kernel is free to choose, an address
//! for a new mapping, the model is told what the kernel chose.

mod board;
mod call;
mod choice;
mod rings;
mod turns;
mod userfault;

pub use turns::Turn;

use std::collections::BTreeMap;

use mm::{Fd, Machine, Pid, Profile, Signal, Stop, Tid, Trap, Wait};
use space::Errno;
use sys::puppet::{Arena, LANES};

use crate::outcome::{Answer, Area, FileNames, Outcome, Output, View};
use crate::program::expect::ENTRY_MASK;
use crate::program::{
    Address, Amount, Closeable, Geometry, HugePages, LaneSlot, Op, Program, Ring, Step,
};

/// A descriptor that no process has.
const NOWHERE: Fd = 9999;

/// What is known of a lane.
#[derive(Clone, Debug)]
enum Lane {
    Absent,
    Ready(Tid),
    Asleep {
        tid: Tid,
        step: usize,
        op: Op,
        wait: Wait,
    },
}

/// Why an operation showed nothing.
enum Halt {
    /// The thread sleeps.
    Wait(Wait),
    /// It failed.
    Failed(Errno),
    /// It got a signal.
    Signal(Signal, u64),
}

impl From<Errno> for Halt {
    fn from(errno: Errno) -> Self {
        Self::Failed(errno)
    }
}

impl From<Stop> for Halt {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Failed(errno) => Self::Failed(errno),
            Stop::Blocked(wait) => Self::Wait(wait),
        }
    }
}

impl From<Trap> for Halt {
    fn from(trap: Trap) -> Self {
        match trap {
            Trap::Signal { signal, addr } => Self::Signal(signal, addr),
            Trap::Blocked(wait) => Self::Wait(wait),
            Trap::NoThread => Self::Failed(Errno::ESRCH),
        }
    }
}

/// An operation's value and output, or why there is none. Output may come with a failure, too.
struct Shown {
    value: Result<u64, Halt>,
    outputs: Vec<Output>,
}

impl<H: Into<Halt>> From<Result<u64, H>> for Shown {
    fn from(value: Result<u64, H>) -> Self {
        Self {
            value: value.map_err(Into::into),
            outputs: Vec::new(),
        }
    }
}

impl<H: Into<Halt>> From<Result<(), H>> for Shown {
    fn from(value: Result<(), H>) -> Self {
        Self {
            value: value.map(|()| 0).map_err(Into::into),
            outputs: Vec::new(),
        }
    }
}

/// The model in the middle of a program.
#[derive(Debug)]
pub struct Model {
    machine: Machine,
    geometry: Geometry,
    window_pages: usize,
    lanes: Vec<Lane>,
    /// The descriptors of slots, by process.
    slots: BTreeMap<Pid, BTreeMap<Closeable, Vec<Fd>>>,
    rings: rings::Rings,
    /// The rings of slots, by process.
    ring_slots: BTreeMap<Pid, BTreeMap<Ring, rings::RingId>>,
    /// The addresses that steps returned.
    chosen: Vec<Option<u64>>,
    files: FileNames,
    turns: turns::Turns,
}

impl Model {
    /// Makes a machine that is ready for a program.
    pub fn new(profile: Profile, geometry: Geometry, program: &Program) -> Self {
        let mut machine = Machine::new(profile);
        let tid = machine.spawn();
        let disabled = machine.disable_thp(tid, program.huge == HugePages::Off);
        debug_assert!(disabled.is_ok(), "the process is there");
        let mut lanes = vec![Lane::Absent; LANES];
        lanes[0] = Lane::Ready(tid);
        let pages = program.window.resolve(geometry) / geometry.page;
        Self {
            machine,
            geometry,
            window_pages: usize::try_from(pages).unwrap_or(usize::MAX).min(1 << 16),
            lanes,
            slots: BTreeMap::new(),
            rings: rings::Rings::default(),
            ring_slots: BTreeMap::new(),
            chosen: Vec::with_capacity(program.steps.len()),
            files: FileNames::default(),
            turns: turns::Turns::default(),
        }
    }

    /// As [`new`](Self::new), told which lane comes first where a step lets several go on: the
    /// choices in their order, 0 for the lane that fell asleep last.
    pub fn with_turns(
        profile: Profile,
        geometry: Geometry,
        program: &Program,
        told: Vec<usize>,
    ) -> Self {
        Self {
            turns: turns::Turns::told(told),
            ..Self::new(profile, geometry, program)
        }
    }

    /// The choices among lanes so far.
    pub fn turns(&self) -> &[Turn] {
        &self.turns.made
    }

    /// The machine, to be looked at.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Checks the model's own rules.
    ///
    /// # Errors
    ///
    /// Fails with the rule that does not hold.
    pub fn verify(&self) -> Result<(), String> {
        self.machine
            .check()
            .map_err(|violation| violation.to_string())
    }

    /// Carries out a step. `seen` is what the kernel showed from this step on, if there is one: of that,
    /// only what the kernel was free to choose is used.
    pub fn step(&mut self, step: &Step, seen: &[Outcome]) -> Outcome {
        let index = self.chosen.len();
        let lane = usize::from(step.lane.0);
        let ready = self.ready(step);
        self.chosen.push(None);
        if seen.first().map(|seen| seen.answer) == Some(Answer::Refused) {
            return Outcome::plain(Answer::Refused);
        }
        let Some(tid) = ready else {
            return Outcome::plain(Answer::LeftOut);
        };
        let choice = match step.op {
            Op::Mmap { .. } => choice::chosen(step.lane.0, None, seen),
            Op::Mremap { address, .. } => {
                choice::chosen(step.lane.0, Some(self.address(address)), seen)
            }
            _ => None,
        };
        let shown = self.carry_out(tid, &step.op, choice);
        let mut outcome = self.outcome(lane, index, &step.op, shown);
        outcome.woken = self.wake(index);
        if let Lane::Ready(tid) = self.lanes[lane] {
            outcome.view = Some(self.view(tid));
        }
        outcome
    }

    /// The thread that carries a step out, unless it is left out.
    fn ready(&self, step: &Step) -> Option<Tid> {
        let is_there = |lane: LaneSlot| !matches!(self.lanes[usize::from(lane.0)], Lane::Absent);
        match self.lanes[usize::from(step.lane.0)] {
            Lane::Ready(tid) if step.has_its_things(is_there, &self.chosen) => Some(tid),
            _ => None,
        }
    }

    /// Turns what was shown into an outcome, and notes what follows from it.
    fn outcome(&mut self, lane: usize, step: usize, op: &Op, shown: Shown) -> Outcome {
        let answer = match shown.value {
            Ok(value) => {
                if matches!(op, Op::Mmap { .. } | Op::Mremap { .. }) {
                    self.chosen[step] = Some(value);
                }
                match op {
                    Op::Exit {} => Answer::Ended,
                    _ => Answer::Value(value),
                }
            }
            Err(Halt::Failed(errno)) => Answer::Errno(errno),
            Err(Halt::Signal(signal, address)) => signal_answer(signal, address),
            Err(Halt::Wait(wait)) => {
                let tid = match self.lanes[lane] {
                    Lane::Ready(tid) | Lane::Asleep { tid, .. } => tid,
                    Lane::Absent => unreachable!("only lanes that are there carry out steps"),
                };
                self.lanes[lane] = Lane::Asleep {
                    tid,
                    step,
                    op: *op,
                    wait,
                };
                return Outcome::plain(Answer::Blocked);
            }
        };
        Outcome {
            outputs: shown.outputs,
            ..Outcome::plain(answer)
        }
    }

    /// What a thread's process has in the window.
    fn view(&mut self, tid: Tid) -> View {
        let Ok(pid) = self.machine.pid_of(tid) else {
            return View::default();
        };
        let start = Arena::START;
        let end = start + self.window_pages as u64 * self.geometry.page;
        let mut areas = Vec::new();
        if let Ok(vmas) = self.machine.vmas(pid) {
            let inside = vmas
                .skip_while(|vma| vma.end <= start)
                .take_while(|vma| vma.start < end);
            for vma in inside {
                let first = vma.start.max(start);
                let bits = vma.flags.bits() & 0xF;
                let offset = vma.pgoff * self.geometry.page + (first - vma.start);
                areas.push(Area {
                    start: first,
                    end: vma.end.min(end),
                    access: bits,
                    offset: if vma.file.is_some() { offset } else { 0 },
                    file: self
                        .files
                        .number(vma.file.map_or(0, |file| u64::from(file.0) + 1)),
                    page_size: self.machine.vma_page_size(vma),
                });
            }
        }
        let mut entries = vec![0; self.window_pages];
        let read = self.machine.pagemap(pid, start, &mut entries);
        debug_assert!(read.is_ok(), "the process is there");
        for entry in &mut entries {
            *entry &= ENTRY_MASK;
        }
        View { areas, entries }
    }

    fn address(&self, address: Address) -> u64 {
        match address {
            Address::Arena(amount) => Arena::START.wrapping_add(amount.resolve(self.geometry)),
            Address::Raw(raw) => raw,
            Address::Pattern(byte) => board::pattern(byte),
            Address::Chosen(step, amount) => {
                let chosen = self.chosen.get(step as usize).copied().flatten();
                chosen
                    .unwrap_or(0)
                    .wrapping_add(amount.resolve(self.geometry))
            }
        }
    }

    fn len(&self, amount: Amount) -> u64 {
        amount.resolve(self.geometry)
    }

    /// The descriptors of a slot in a thread's process.
    fn descriptors(&self, tid: Tid, what: Closeable) -> Vec<Fd> {
        let slots = self
            .machine
            .pid_of(tid)
            .ok()
            .and_then(|pid| self.slots.get(&pid));
        slots
            .and_then(|slots| slots.get(&what))
            .cloned()
            .unwrap_or_default()
    }

    fn descriptor(&self, tid: Tid, what: Closeable) -> Fd {
        self.descriptors(tid, what)
            .first()
            .copied()
            .unwrap_or(NOWHERE)
    }

    /// Gives a slot its descriptors, and closes what it had.
    fn set_descriptors(&mut self, tid: Tid, what: Closeable, new: Vec<Fd>) {
        let Ok(pid) = self.machine.pid_of(tid) else {
            return;
        };
        let old = self.slots.entry(pid).or_default().insert(what, new);
        for fd in old.unwrap_or_default() {
            let closed = self.machine.close(tid, fd);
            debug_assert!(closed.is_ok(), "a slot's descriptor is open");
        }
    }
}

fn signal_answer(signal: Signal, address: u64) -> Answer {
    match signal {
        Signal::SegvMaperr => Answer::Segv { code: 1, address },
        Signal::SegvAccerr => Answer::Segv { code: 2, address },
        Signal::SegvPkuerr => Answer::Segv { code: 4, address },
        Signal::BusAdrerr => Answer::Bus {
            code: 2,
            address,
            lsb: 0,
        },
        Signal::BusMceerrAr { lsb } => Answer::Bus {
            code: 4,
            address,
            lsb,
        },
    }
}
