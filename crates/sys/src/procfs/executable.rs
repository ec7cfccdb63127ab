//! What kind of program a file is, from the start of its ELF header.

/// The width of a program's addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElfClass {
    /// 32 bits.
    Bits32,
    /// 64 bits.
    Bits64,
}

/// What the first bytes of an ELF file tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ElfKind {
    /// The width of its addresses.
    pub class: ElfClass,
    /// The machine number: 62 for x86_64, 183 for arm64.
    pub machine: u16,
}

impl ElfKind {
    /// How many bytes of the header are needed.
    pub(super) const HEADER: usize = 20;

    /// Reads the start of a file; `None` if it is no ELF file.
    pub fn parse(header: &[u8]) -> Option<Self> {
        let header: &[u8; Self::HEADER] = header.first_chunk()?;
        if !header.starts_with(b"\x7fELF") {
            return None;
        }
        let class = match header[4] {
            1 => ElfClass::Bits32,
            2 => ElfClass::Bits64,
            _ => return None,
        };
        let machine = [header[18], header[19]];
        let machine = match header[5] {
            1 => u16::from_le_bytes(machine),
            2 => u16::from_be_bytes(machine),
            _ => return None,
        };
        Some(Self { class, machine })
    }
}

/// Returns the machine number of this program: that of any 64-bit process beside it.
pub(super) fn own_machine() -> u16 {
    const X86_64: u16 = 62;
    const ARM64: u16 = 183;
    const RISCV: u16 = 243;
    match std::env::consts::ARCH {
        "x86_64" => X86_64,
        "aarch64" => ARM64,
        "riscv64" => RISCV,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(class: u8, order: u8, machine: [u8; 2]) -> Vec<u8> {
        let mut header = b"\x7fELF".to_vec();
        header.extend([class, order]);
        header.resize(18, 0);
        header.extend(machine);
        header
    }

    #[test]
    fn class_order_and_machine() {
        let amd64 = ElfKind {
            class: ElfClass::Bits64,
            machine: 62,
        };
        assert_eq!(ElfKind::parse(&header(2, 1, [62, 0])), Some(amd64));
        let powerpc = ElfKind {
            class: ElfClass::Bits32,
            machine: 20,
        };
        assert_eq!(ElfKind::parse(&header(1, 2, [0, 20])), Some(powerpc));
    }

    #[test]
    fn anything_else_is_no_program() {
        let good = header(2, 1, [62, 0]);
        assert_eq!(ElfKind::parse(&good[..19]), None);
        assert_eq!(ElfKind::parse(b"#!/bin/sh and something more"), None);
        assert_eq!(ElfKind::parse(&header(3, 1, [62, 0])), None);
        assert_eq!(ElfKind::parse(&header(2, 0, [62, 0])), None);
    }
}
