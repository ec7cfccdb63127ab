//! The run of one filter on what is known of one call.
//!
//! A filter has no loops: every jump leads forward. So one pass over its instructions, in their
//! order, visits each way that the call may take. Where a comparison hangs on something that is not
//! known, both ways are taken; where ways meet, what they disagree about is not known from there
//! on. Of a call that is known altogether this is the one run that the kernel makes.

use super::check::{cell, target};
use super::filter::{BpfInstruction, Filter};
use super::foreseen::Foreseen;
use super::opcode::{
    ADD, AND, DATA_BYTES, DIV, JA, JEQ, JGE, JGT, JSET, LD_ABS, LD_IMM, LD_LEN, LD_MEM, LDX_IMM,
    LDX_LEN, LDX_MEM, LSH, MEMORY_CELLS, MUL, NEG, OR, RET_A, RET_K, RSH, SOURCE_X, ST, STX, SUB,
    TAX, TXA, XOR,
};

/// What a program returns that does something no checked filter can do: kill the process, so
/// that nothing is injected on the strength of it.
const CORRUPT: u32 = 0x8000_0000;

/// What the kernel returns for a division by an `X` of zero: kill the thread.
const DIVIDED_BY_ZERO: u32 = 0;

/// What a filter returns that lets the call through.
pub(super) const ALLOW: u32 = 0x7fff_0000;

/// A number of the machine; `None` where it is not known.
type Word = Option<u32>;

#[derive(Clone, Copy)]
struct Machine {
    a: Word,
    x: Word,
    memory: [Word; MEMORY_CELLS],
}

/// What may come after an instruction.
enum Next {
    Skip(u32),
    /// One of the two.
    Either(u32, u32),
    Return(Word),
    /// A division by something that may be zero.
    SkipOrReturn(u32),
}

/// Runs a filter and returns every value, an action and its data, that it may return: one, if all of
/// the call is known. There may be more of them than a real call can bring about, but never fewer.
pub(super) fn run(filter: &Filter, data: &Foreseen) -> Vec<u32> {
    let instructions = filter.instructions();
    let mut reached: Vec<Option<Machine>> = vec![None; instructions.len()];
    let mut values = Vec::new();
    if let Some(first) = reached.first_mut() {
        *first = Some(Machine::NEW);
    }
    for (at, &instruction) in instructions.iter().enumerate() {
        let Some(mut machine) = reached[at] else {
            continue;
        };
        let next = machine.step(instruction, data);
        let mut go = |skip| match target(at, skip).and_then(|next| reached.get_mut(next)) {
            Some(reached) => *reached = Some(reached.map_or(machine, |it| it.meet(machine))),
            None => values.push(CORRUPT),
        };
        match next {
            Some(Next::Skip(skip)) => go(skip),
            Some(Next::Either(one, other)) => {
                go(one);
                go(other);
            }
            Some(Next::SkipOrReturn(skip)) => {
                go(skip);
                values.push(DIVIDED_BY_ZERO);
            }
            Some(Next::Return(Some(value))) => values.push(value),
            // Anything, so the best and the worst.
            Some(Next::Return(None)) => values.extend([CORRUPT, ALLOW]),
            None => values.push(CORRUPT),
        }
    }
    values.sort_unstable();
    values.dedup();
    values
}

impl Machine {
    /// As the kernel begins.
    const NEW: Self = Self {
        a: Some(0),
        x: Some(0),
        memory: [Some(0); MEMORY_CELLS],
    };

    /// What is known where two ways meet: what both know.
    fn meet(self, other: Self) -> Self {
        let meet = |one: Word, other: Word| if one == other { one } else { None };
        Self {
            a: meet(self.a, other.a),
            x: meet(self.x, other.x),
            memory: std::array::from_fn(|cell| meet(self.memory[cell], other.memory[cell])),
        }
    }

    /// Carries out one instruction; `None` for one that the kernel would not have installed.
    fn step(&mut self, instruction: BpfInstruction, data: &Foreseen) -> Option<Next> {
        let BpfInstruction { code, k, .. } = instruction;
        match code {
            LD_ABS => self.a = data.word(k)?,
            LD_LEN => self.a = Some(DATA_BYTES),
            LD_IMM => self.a = Some(k),
            LD_MEM => self.a = self.memory[cell(k)?],
            LDX_LEN => self.x = Some(DATA_BYTES),
            LDX_IMM => self.x = Some(k),
            LDX_MEM => self.x = self.memory[cell(k)?],
            ST => self.memory[cell(k)?] = self.a,
            STX => self.memory[cell(k)?] = self.x,
            NEG => self.a = self.a.map(u32::wrapping_neg),
            TAX => self.x = self.a,
            TXA => self.a = self.x,
            JA => return Some(Next::Skip(k)),
            RET_K => return Some(Next::Return(Some(k))),
            RET_A => return Some(Next::Return(self.a)),
            _ => return self.operate(instruction),
        }
        Some(Next::Skip(0))
    }

    /// Carries out an instruction whose second operand is `k` or `X`.
    fn operate(&mut self, instruction: BpfInstruction) -> Option<Next> {
        let from_x = instruction.code & SOURCE_X != 0;
        let operand = if from_x { self.x } else { Some(instruction.k) };
        let both = self.a.zip(operand);
        let branch = |holds: fn(u32, u32) -> bool| {
            let (yes, no) = (instruction.jt.into(), instruction.jf.into());
            Some(match both {
                Some((a, operand)) if holds(a, operand) => Next::Skip(yes),
                Some(_) => Next::Skip(no),
                None => Next::Either(yes, no),
            })
        };
        let compute = |operate: fn(u32, u32) -> u32| both.map(|(a, operand)| operate(a, operand));
        self.a = match instruction.code & !SOURCE_X {
            ADD => compute(u32::wrapping_add),
            SUB => compute(u32::wrapping_sub),
            MUL => compute(u32::wrapping_mul),
            DIV => match operand {
                Some(0) => return Some(Next::Return(Some(DIVIDED_BY_ZERO))),
                Some(_) => compute(|a, operand| a / operand),
                None => {
                    self.a = None;
                    return Some(Next::SkipOrReturn(0));
                }
            },
            OR => compute(|a, operand| a | operand),
            // What hides all of a number hides that it is not known.
            AND if operand == Some(0) => Some(0),
            AND => compute(|a, operand| a & operand),
            // Only the low five bits of the distance count, as in the kernel's own machine.
            LSH => compute(u32::wrapping_shl),
            RSH => compute(u32::wrapping_shr),
            XOR => compute(|a, operand| a ^ operand),
            JEQ => return branch(|a, operand| a == operand),
            JGT => return branch(|a, operand| a > operand),
            JGE => return branch(|a, operand| a >= operand),
            JSET => return branch(|a, operand| a & operand != 0),
            _ => return None,
        };
        Some(Next::Skip(0))
    }
}
