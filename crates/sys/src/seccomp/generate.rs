//! Random programs for tests: mostly such that the kernel takes, some that it refuses.

use super::filter::BpfInstruction;
use super::opcode::{
    ADD, AND, DIV, JA, JEQ, JGE, JGT, JSET, LD_ABS, LD_IMM, LD_LEN, LD_MEM, LDX_IMM, LDX_LEN,
    LDX_MEM, LSH, MUL, NEG, OR, RET_A, RET_K, RSH, SOURCE_X, ST, STX, SUB, TAX, TXA, XOR,
};
use super::verdict::SeccompData;

/// A small generator of random numbers (`SplitMix64`), the same on every run of a seed.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number below `bound`.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(super) fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        let at = self.below(u64::try_from(items.len()).unwrap());
        items[usize::try_from(at).unwrap()]
    }

    fn number(&mut self) -> u32 {
        let interesting = [0, 1, 2, 31, 32, 64, 0x7fff_ffff, 0x8000_0000, u32::MAX];
        match self.below(3) {
            0 => self.pick(&interesting),
            1 => u32::try_from(self.below(80)).unwrap(),
            _ => u32::try_from(self.next() >> 32).unwrap(),
        }
    }

    /// Returns a value for a filter to return.
    fn action(&mut self) -> u32 {
        let actions = [0x8000, 0, 3, 5, 5, 0x7fc0, 0x7ff0, 0x7ffc, 0x7fff, 0x7fff];
        let action = if self.below(12) == 0 {
            self.next()
        } else {
            self.pick(&actions)
        };
        let data = self.pick(&[0, 1, 7, 38, 4095, 4096, 0xffff]);
        (u32::try_from(action & 0xffff).unwrap() << 16) | data
    }

    fn skip(&mut self, left: u64, wild: bool) -> u32 {
        let bound = if wild { left + 2 } else { left.max(1) };
        u32::try_from(self.below(bound)).unwrap()
    }

    fn instruction(&mut self, left: u64, wild: bool) -> BpfInstruction {
        let source = self.pick(&[0, SOURCE_X]);
        let plain = |code, k| BpfInstruction {
            code,
            k,
            ..BpfInstruction::default()
        };
        let cells = if wild { 18 } else { 16 };
        let cell = u32::try_from(self.below(cells)).unwrap();
        match self.below(if wild { 34 } else { 33 }) {
            0..8 => {
                let off_by = u32::from(wild && self.below(4) == 0);
                plain(LD_ABS, u32::try_from(self.below(16)).unwrap() * 4 + off_by)
            }
            8 => plain(self.pick(&[LD_LEN, LDX_LEN]), self.number()),
            9..11 => plain(self.pick(&[LD_IMM, LDX_IMM]), self.number()),
            11 if wild => plain(self.pick(&[LD_MEM, LDX_MEM]), cell),
            11..14 => plain(self.pick(&[ST, STX]), cell),
            14 => plain(self.pick(&[NEG, TAX, TXA]), 0),
            15..21 => {
                let code = self.pick(&[ADD, SUB, MUL, OR, AND, XOR]);
                plain(code | source, self.number())
            }
            21 => {
                let k = self.number().max(u32::from(!wild));
                plain(DIV | source, k)
            }
            22 => {
                let code = self.pick(&[LSH, RSH]);
                let k = self.number() % if wild { 40 } else { 32 };
                plain(code | source, k)
            }
            23 => plain(JA, self.skip(left, wild)),
            24..32 => BpfInstruction {
                code: self.pick(&[JEQ, JGT, JGE, JSET]) | source,
                jt: u8::try_from(self.skip(left, wild)).unwrap(),
                jf: u8::try_from(self.skip(left, wild)).unwrap(),
                k: self.number(),
            },
            32 => plain(RET_K, self.action()),
            _ => plain(u16::try_from(self.below(0x200)).unwrap(), self.number()),
        }
    }

    /// Returns a program; a `wild` one may be one that the kernel refuses.
    pub(super) fn program(&mut self, wild: bool) -> Vec<BpfInstruction> {
        let len = 1 + self.below(14);
        let mut program = Vec::new();
        // Written first, so that loads of these cells are good on every way.
        for cell in 0..self.below(3) {
            let k = u32::try_from(cell).unwrap();
            program.push(BpfInstruction {
                code: ST,
                k,
                ..BpfInstruction::default()
            });
        }
        let written = u64::try_from(program.len()).unwrap();
        for at in 0..len {
            let mut next = self.instruction(len - at, wild);
            if written > 0 && self.below(10) == 0 {
                let k = u32::try_from(self.below(written)).unwrap();
                let code = self.pick(&[LD_MEM, LDX_MEM]);
                next = BpfInstruction {
                    code,
                    k,
                    ..BpfInstruction::default()
                };
            }
            program.push(next);
        }
        let (code, k) = if self.below(4) == 0 {
            (RET_A, 0)
        } else {
            (RET_K, self.action())
        };
        if !(wild && self.below(16) == 0) {
            program.push(BpfInstruction {
                code,
                k,
                ..BpfInstruction::default()
            });
        }
        program
    }

    /// Returns data for a filter to look at, of call `nr`.
    pub(super) fn data(&mut self, nr: u32) -> SeccompData {
        let argument =
            |random: &mut Self| (u64::from(random.number()) << 32) | u64::from(random.number());
        SeccompData {
            nr,
            arch: SeccompData::NATIVE_ARCH,
            instruction_pointer: argument(self),
            args: std::array::from_fn(|_| argument(self)),
        }
    }
}
