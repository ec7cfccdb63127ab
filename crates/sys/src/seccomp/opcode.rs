//! The opcodes of classic BPF that seccomp allows, by name (`include/uapi/linux/bpf_common.h`).

/// `A = *(u32 *)(data + k)`.
pub(super) const LD_ABS: u16 = 0x20;
/// `A = sizeof(struct seccomp_data)`.
pub(super) const LD_LEN: u16 = 0x80;
/// `A = k`.
pub(super) const LD_IMM: u16 = 0x00;
/// `A = M[k]`.
pub(super) const LD_MEM: u16 = 0x60;
/// `X = sizeof(struct seccomp_data)`.
pub(super) const LDX_LEN: u16 = 0x81;
/// `X = k`.
pub(super) const LDX_IMM: u16 = 0x01;
/// `X = M[k]`.
pub(super) const LDX_MEM: u16 = 0x61;
/// `M[k] = A`.
pub(super) const ST: u16 = 0x02;
/// `M[k] = X`.
pub(super) const STX: u16 = 0x03;
/// `A += k`; the operators of arithmetic with `X` are these plus [`SOURCE_X`].
pub(super) const ADD: u16 = 0x04;
/// `A -= k`.
pub(super) const SUB: u16 = 0x14;
/// `A *= k`.
pub(super) const MUL: u16 = 0x24;
/// `A /= k`.
pub(super) const DIV: u16 = 0x34;
/// `A |= k`.
pub(super) const OR: u16 = 0x44;
/// `A &= k`.
pub(super) const AND: u16 = 0x54;
/// `A <<= k`.
pub(super) const LSH: u16 = 0x64;
/// `A >>= k`.
pub(super) const RSH: u16 = 0x74;
/// `A ^= k`.
pub(super) const XOR: u16 = 0xa4;
/// `A = -A`.
pub(super) const NEG: u16 = 0x84;
/// `pc += k`.
pub(super) const JA: u16 = 0x05;
/// `pc += A == k ? jt : jf`; comparisons with `X` are these plus [`SOURCE_X`].
pub(super) const JEQ: u16 = 0x15;
/// `pc += A > k ? jt : jf`.
pub(super) const JGT: u16 = 0x25;
/// `pc += A >= k ? jt : jf`.
pub(super) const JGE: u16 = 0x35;
/// `pc += A & k ? jt : jf`.
pub(super) const JSET: u16 = 0x45;
/// `return k`.
pub(super) const RET_K: u16 = 0x06;
/// `return A`.
pub(super) const RET_A: u16 = 0x16;
/// `X = A`.
pub(super) const TAX: u16 = 0x07;
/// `A = X`.
pub(super) const TXA: u16 = 0x87;

/// The bit that makes `X` the second operand instead of `k`.
pub(super) const SOURCE_X: u16 = 0x08;

/// The number of cells of scratch memory, `M[0..16]`.
pub(super) const MEMORY_CELLS: usize = 16;
/// The size of `struct seccomp_data` in bytes.
pub(super) const DATA_BYTES: u32 = 64;
/// The most instructions that a program may have (`BPF_MAXINSNS`; not a page size).
pub(super) const INSTRUCTIONS_MAX: usize = 4096;
