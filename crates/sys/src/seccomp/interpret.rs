//! The run of one filter on the data of one call.

use super::check::{cell, target};
use super::filter::{BpfInstruction, Filter};
use super::opcode::{
    ADD, AND, DATA_BYTES, DIV, JA, JEQ, JGE, JGT, JSET, LD_ABS, LD_IMM, LD_LEN, LD_MEM, LDX_IMM,
    LDX_LEN, LDX_MEM, LSH, MEMORY_CELLS, MUL, NEG, OR, RET_A, RET_K, RSH, SOURCE_X, ST, STX, SUB,
    TAX, TXA, XOR,
};
use super::verdict::SeccompData;

/// What a program returns that does something no checked filter can do: kill the process, so
/// that nothing is injected on the strength of it.
const CORRUPT: u32 = 0x8000_0000;

/// What the kernel returns for a division by an `X` of zero: kill the thread.
const DIVIDED_BY_ZERO: u32 = 0;

#[derive(Default)]
struct Machine {
    a: u32,
    x: u32,
    memory: [u32; MEMORY_CELLS],
}

/// What comes after an instruction.
enum Next {
    Skip(u32),
    Return(u32),
}

/// Runs a filter and returns its value: an action and its data.
///
/// Ends after as many steps as the filter has instructions: every step leads forward.
pub(super) fn run(filter: &Filter, data: &SeccompData) -> u32 {
    let mut machine = Machine::default();
    let mut at = 0;
    while let Some(&instruction) = filter.instructions().get(at) {
        match machine.step(instruction, data) {
            Some(Next::Return(value)) => return value,
            Some(Next::Skip(skip)) => match target(at, skip) {
                Some(next) => at = next,
                None => return CORRUPT,
            },
            None => return CORRUPT,
        }
    }
    CORRUPT
}

impl Machine {
    /// Carries out one instruction; `None` for one that the kernel would not have installed.
    fn step(&mut self, instruction: BpfInstruction, data: &SeccompData) -> Option<Next> {
        let BpfInstruction { code, k, .. } = instruction;
        match code {
            LD_ABS => self.a = data.word(k)?,
            LD_LEN => self.a = DATA_BYTES,
            LD_IMM => self.a = k,
            LD_MEM => self.a = self.memory[cell(k)?],
            LDX_LEN => self.x = DATA_BYTES,
            LDX_IMM => self.x = k,
            LDX_MEM => self.x = self.memory[cell(k)?],
            ST => self.memory[cell(k)?] = self.a,
            STX => self.memory[cell(k)?] = self.x,
            NEG => self.a = self.a.wrapping_neg(),
            TAX => self.x = self.a,
            TXA => self.a = self.x,
            JA => return Some(Next::Skip(k)),
            RET_K => return Some(Next::Return(k)),
            RET_A => return Some(Next::Return(self.a)),
            _ => return self.operate(instruction),
        }
        Some(Next::Skip(0))
    }

    /// Carries out an instruction whose second operand is `k` or `X`.
    fn operate(&mut self, instruction: BpfInstruction) -> Option<Next> {
        let from_x = instruction.code & SOURCE_X != 0;
        let operand = if from_x { self.x } else { instruction.k };
        let branch = |holds: bool| {
            let skip = if holds {
                instruction.jt
            } else {
                instruction.jf
            };
            Some(Next::Skip(skip.into()))
        };
        self.a = match instruction.code & !SOURCE_X {
            ADD => self.a.wrapping_add(operand),
            SUB => self.a.wrapping_sub(operand),
            MUL => self.a.wrapping_mul(operand),
            DIV => match self.a.checked_div(operand) {
                Some(quotient) => quotient,
                None => return Some(Next::Return(DIVIDED_BY_ZERO)),
            },
            OR => self.a | operand,
            AND => self.a & operand,
            // Only the low five bits of the distance count, as in the kernel's own machine.
            LSH => self.a.wrapping_shl(operand),
            RSH => self.a.wrapping_shr(operand),
            XOR => self.a ^ operand,
            JEQ => return branch(self.a == operand),
            JGT => return branch(self.a > operand),
            JGE => return branch(self.a >= operand),
            JSET => return branch(self.a & operand != 0),
            _ => return None,
        };
        Some(Next::Skip(0))
    }
}
