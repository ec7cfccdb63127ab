//! Turns a puppet's answers into what a step showed.

use space::Errno;
use sys::puppet::{Reply, Script};

use super::compile::Compiled;
use super::uapi::event;
use crate::outcome::{Answer, Output};
use crate::program::{Geometry, Op};

/// Reads what an operation gave.
pub(super) struct Decoder<'a> {
    pub(super) script: &'a Script,
    pub(super) geometry: Geometry,
    /// Numbers a thread's id.
    pub(super) lane_of_thread: &'a dyn Fn(u64) -> u64,
}

impl Decoder<'_> {
    /// Returns the operation's answer and output, or `None` where it did not finish.
    pub(super) fn decode(&self, op: &Op, compiled: Compiled) -> Option<(Answer, Vec<Output>)> {
        let reply = self.script.reply(compiled.main)?;
        let answer = answer(op, reply);
        let outputs = self.outputs(op, compiled.at, answer);
        Some((answer, outputs))
    }

    fn outputs(&self, op: &Op, at: u32, answer: Answer) -> Vec<Output> {
        let word = |index: u32| self.script.word(at + index * 8);
        match op {
            Op::Mincore { len, .. } => match answer {
                Answer::Value(_) => self.resident(at, len.resolve(self.geometry)),
                _ => Vec::new(),
            },
            Op::Peek { .. } => match answer {
                Answer::Value(1) => vec![("byte", word(0) & 0xFF)],
                _ => Vec::new(),
            },
            Op::PipeRead { .. } => match answer {
                Answer::Value(read) => self.bytes(at, read),
                _ => Vec::new(),
            },
            Op::Scan { regions, .. } => {
                let structure = at + u32::try_from(regions.0 * 24).unwrap_or(0);
                let mut outputs = vec![("walk_end", self.script.word(structure + 32))];
                if let Answer::Value(count) = answer {
                    for region in 0..u32::try_from(count).unwrap_or(0) {
                        outputs.push(("start", word(region * 3)));
                        outputs.push(("end", word(region * 3 + 1)));
                        outputs.push(("categories", word(region * 3 + 2)));
                    }
                }
                outputs
            }
            Op::Api { .. } => vec![("features", word(1)), ("ioctls", word(2))],
            Op::Register { .. } => vec![("ioctls", word(3))],
            Op::Copy { .. } => vec![("copy", word(4))],
            Op::Move { .. } => vec![("move", word(4))],
            Op::Zeropage { .. } => vec![("zeropage", word(3))],
            Op::Continue { .. } => vec![("mapped", word(3))],
            Op::Poison { .. } => vec![("updated", word(3))],
            Op::ReadEvent { .. } if answer == Answer::Value(32) => self.event(at),
            Op::LoadWord { .. } | Op::Load { .. } => Vec::new(),
            _ => Vec::new(),
        }
    }

    /// Which pages are in core: 64 to a word.
    fn resident(&self, at: u32, len: u64) -> Vec<Output> {
        let pages = len.div_ceil(self.geometry.page);
        let mut words = vec![0_u64; usize::try_from(pages.div_ceil(64)).unwrap_or(0)];
        for page in 0..pages {
            let word = self.script.word(at + u32::try_from(page & !7).unwrap_or(0));
            let bit = (word >> (8 * (page & 7))) & 1;
            words[usize::try_from(page / 64).unwrap_or(0)] |= bit << (page % 64);
        }
        words.into_iter().map(|word| ("resident", word)).collect()
    }

    /// The bytes of a buffer, as runs.
    fn bytes(&self, at: u32, len: u64) -> Vec<Output> {
        let byte = |index: u64| {
            let word = self
                .script
                .word(at + u32::try_from(index & !7).unwrap_or(0));
            (word >> (8 * (index & 7))) & 0xFF
        };
        let mut runs: Vec<Output> = Vec::new();
        for index in 0..len {
            let byte = byte(index);
            match runs.as_mut_slice() {
                [.., (_, last), (_, times)] if *last == byte => *times += 1,
                _ => runs.extend([("byte", byte), ("times", 1)]),
            }
        }
        runs
    }

    fn event(&self, at: u32) -> Vec<Output> {
        let word = |index: u32| self.script.word(at + index * 8);
        let kind = word(0) & 0xFF;
        let mut outputs = vec![("event", kind)];
        match kind {
            event::PAGEFAULT => {
                let thread = word(3) & 0xFFFF_FFFF;
                let thread = if thread == 0 {
                    0
                } else {
                    (self.lane_of_thread)(thread) + 1
                };
                outputs.extend([("flags", word(1)), ("address", word(2)), ("thread", thread)]);
            }
            event::FORK => {}
            event::REMAP => {
                outputs.extend([("from", word(1)), ("to", word(2)), ("len", word(3))]);
            }
            event::REMOVE | event::UNMAP => {
                outputs.extend([("start", word(1)), ("end", word(2))]);
            }
            _ => outputs.extend([("unknown", word(1))]),
        }
        outputs
    }
}

/// Turns a raw reply into an answer.
fn answer(op: &Op, reply: Reply) -> Answer {
    let Reply {
        value,
        signal,
        code,
        address,
        lsb,
    } = reply;
    match (signal, op) {
        (sys::puppet::REFUSED, _) => return Answer::Refused,
        (11, _) => return Answer::Segv { code, address },
        (7, _) => return Answer::Bus { code, address, lsb },
        (_, Op::Load { .. } | Op::LoadWord { .. } | Op::Store { .. } | Op::StoreWord { .. }) => {
            return Answer::Value(value.cast_unsigned());
        }
        _ => {}
    }
    if (-4095..0).contains(&value) {
        return Answer::Errno(Errno(i32::try_from(-value).unwrap_or(0)));
    }
    match op {
        Op::Fork { .. }
        | Op::Thread { .. }
        | Op::Memfd { .. }
        | Op::Userfaultfd { .. }
        | Op::MakeRing { .. } => Answer::Value(0),
        _ => Answer::Value(value.cast_unsigned()),
    }
}
