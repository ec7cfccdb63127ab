//! The kernel's checks of a filter before it is installed.

use super::filter::{BpfInstruction, FilterError};
use super::opcode::{
    ADD, AND, DATA_BYTES, DIV, INSTRUCTIONS_MAX, JA, JEQ, JGE, JGT, JSET, LD_ABS, LD_IMM, LD_LEN,
    LD_MEM, LDX_IMM, LDX_LEN, LDX_MEM, LSH, MEMORY_CELLS, MUL, NEG, OR, RET_A, RET_K, RSH,
    SOURCE_X, ST, STX, SUB, TAX, TXA, XOR,
};

/// Checks a program as the kernel does.
pub(super) fn check(instructions: &[BpfInstruction]) -> Result<(), FilterError> {
    if !(1..=INSTRUCTIONS_MAX).contains(&instructions.len()) {
        return Err(FilterError::Length(instructions.len()));
    }
    for (at, instruction) in instructions.iter().enumerate() {
        check_one(*instruction, at, instructions.len())?;
    }
    if !matches!(instructions.last(), Some(last) if [RET_K, RET_A].contains(&last.code)) {
        return Err(FilterError::NoReturn);
    }
    check_memory(instructions)
}

/// Checks one instruction by itself.
fn check_one(instruction: BpfInstruction, at: usize, len: usize) -> Result<(), FilterError> {
    let BpfInstruction { code, k, .. } = instruction;
    let operand_is_good = match code {
        LD_ABS => k < DATA_BYTES && k.is_multiple_of(4),
        LD_MEM | LDX_MEM | ST | STX => cell(k).is_some(),
        DIV => k != 0,
        LSH | RSH => k < u32::BITS,
        LD_LEN | LD_IMM | LDX_LEN | LDX_IMM | NEG | RET_K | RET_A | TAX | TXA => true,
        JA => return jump(at, len, target(at, k)),
        _ => match code & !SOURCE_X {
            JEQ | JGT | JGE | JSET => {
                jump(at, len, target(at, instruction.jt.into()))?;
                return jump(at, len, target(at, instruction.jf.into()));
            }
            ADD | SUB | MUL | DIV | OR | AND | LSH | RSH | XOR => true,
            _ => return Err(FilterError::Code { at, code }),
        },
    };
    operand_is_good
        .then_some(())
        .ok_or(FilterError::Operand { at, k })
}

/// Returns where a jump over `skip` instructions leads; `None` far behind any end.
pub(super) fn target(at: usize, skip: u32) -> Option<usize> {
    at.checked_add(1)?.checked_add(usize::try_from(skip).ok()?)
}

/// Returns the index of a cell of memory; `None` where there is no such cell.
pub(super) fn cell(k: u32) -> Option<usize> {
    usize::try_from(k).ok().filter(|&cell| cell < MEMORY_CELLS)
}

fn jump(at: usize, len: usize, target: Option<usize>) -> Result<(), FilterError> {
    match target {
        Some(target) if target < len => Ok(()),
        _ => Err(FilterError::Jump { at }),
    }
}

/// Checks that no way leads to a load of a cell that was not written on it.
///
/// All jumps go forward, so one pass is enough: `written[i]` gathers what every way to
/// instruction `i` has written.
fn check_memory(instructions: &[BpfInstruction]) -> Result<(), FilterError> {
    let mut written = vec![u16::MAX; instructions.len()];
    let mut valid = 0u16;
    for (at, instruction) in instructions.iter().enumerate() {
        valid &= written[at];
        let bit = cell(instruction.k).map_or(0, |cell| 1 << cell);
        let mut reach = |skip: u32, valid: u16| {
            if let Some(seen) = target(at, skip).and_then(|at| written.get_mut(at)) {
                *seen &= valid;
            }
        };
        match instruction.code {
            ST | STX => valid |= bit,
            LD_MEM | LDX_MEM if valid & bit == 0 => {
                return Err(FilterError::Uninitialised { at });
            }
            JA => {
                reach(instruction.k, valid);
                valid = u16::MAX;
            }
            code if [JEQ, JGT, JGE, JSET].contains(&(code & !SOURCE_X)) => {
                reach(instruction.jt.into(), valid);
                reach(instruction.jf.into(), valid);
                valid = u16::MAX;
            }
            _ => {}
        }
    }
    Ok(())
}
