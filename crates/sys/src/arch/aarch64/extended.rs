//! Registers beside the general ones: vectors, of fixed length and scalable.

use space::Errno;

use crate::raw::ptrace;
use crate::task::read_set;
use crate::uapi::aarch64::{
    FPSIMD_LEN, FPSIMD_MAGIC, NT_ARM_SVE, NT_PRFPREG, RECORD_ALIGN, RECORD_HEADER, RECORDS_MAX,
    SVE_HEADER, SVE_MAGIC, SVE_PT_REGS_SVE,
};

/// Vector registers of a task.
#[derive(Debug)]
pub(crate) struct Extended {
    /// `NT_PRFPREG`.
    fixed: Vec<u8>,
    /// `NT_ARM_SVE`, where more than the fixed part of it is in use: a call drops the rest.
    scalable: Option<Vec<u8>>,
}

impl Extended {
    /// Reads them of a stopped task.
    pub(crate) fn read(tid: u32) -> Result<Self, Errno> {
        Ok(Self {
            fixed: read_set(tid, NT_PRFPREG)?,
            // A processor without them has no such set.
            scalable: read_set(tid, NT_ARM_SVE)
                .ok()
                .filter(|set| holds_scalable(set)),
        })
    }

    /// The most bytes that they add to a frame.
    pub(crate) fn frame_len_max(&self) -> u64 {
        self.records().len() as u64
    }

    /// Tells whether a frame can hold them without a part elsewhere.
    pub(super) fn fits_frame(&self) -> bool {
        self.records().len() <= RECORDS_MAX
    }

    /// Brings back what a call takes from a task.
    pub(crate) fn put_back(&self, tid: u32) -> Result<(), Errno> {
        match &self.scalable {
            Some(set) => ptrace::set_regset(tid, NT_ARM_SVE, set),
            None => Ok(()),
        }
    }

    /// The records of a frame that brings them back.
    pub(super) fn records(&self) -> Vec<u8> {
        let mut records = fixed_record(&self.fixed);
        if let Some(set) = &self.scalable {
            records.extend(scalable_record(set));
        }
        records.extend([0; RECORD_ALIGN]);
        records
    }
}

/// The records of a frame that sets all vector registers to zero.
pub(super) fn zero_records() -> Vec<u8> {
    let mut records = fixed_record(&[]);
    records.extend([0; RECORD_ALIGN]);
    records
}

/// Tells whether a task has scalable vectors in use in the set `note`.
pub(super) fn is_scalable(tid: u32, note: u32) -> bool {
    read_set(tid, note).is_ok_and(|set| holds_scalable(&set))
}

fn holds_scalable(set: &[u8]) -> bool {
    field(set, 12) & SVE_PT_REGS_SVE != 0
}

/// A number of 16 bits in a set's header.
fn field(set: &[u8], at: usize) -> u16 {
    let bytes = set.get(at..at + 2).and_then(|bytes| bytes.try_into().ok());
    bytes.map_or(0, u16::from_le_bytes)
}

fn header(magic: u32, len: usize) -> [u8; RECORD_HEADER] {
    let len = u32::try_from(len).expect("some KiB");
    (u64::from(magic) | u64::from(len) << 32).to_le_bytes()
}

/// `struct fpsimd_context`: status and control come first there, and last in the set.
fn fixed_record(set: &[u8]) -> Vec<u8> {
    const VECTORS: usize = 512;
    const STATUS: usize = 8;
    let mut record = header(FPSIMD_MAGIC, FPSIMD_LEN).to_vec();
    record.extend(set.get(VECTORS..VECTORS + STATUS).unwrap_or(&[0; STATUS]));
    record.extend(set.get(..VECTORS).unwrap_or(&[0; VECTORS]));
    record
}

/// `struct sve_context`: 32 vectors, 16 predicates of an eighth of their length and one more.
fn scalable_record(set: &[u8]) -> Vec<u8> {
    const VECTOR_LEN: usize = 8;
    let vector = field(set, VECTOR_LEN);
    let registers = usize::from(vector) * 32 + usize::from(vector) / 8 * 17;
    let len = (SVE_HEADER + registers).next_multiple_of(RECORD_ALIGN);
    let mut record = header(SVE_MAGIC, len).to_vec();
    record.extend(vector.to_le_bytes());
    record.resize(SVE_HEADER, 0);
    record.extend(set.iter().skip(SVE_HEADER).take(registers));
    record.resize(len, 0);
    record
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_those_of_the_kernel() {
        let mut fixed: Vec<u8> = (0..=255).cycle().take(512).collect();
        fixed.extend([7; 4]);
        fixed.extend([8; 4]);
        fixed.extend([0; 8]);
        // A vector length of 32: 32 vectors and 17 predicates of 4, behind a header of 16 bytes.
        let mut set = vec![0; 16 + 32 * 32 + 17 * 4 + 12];
        (set[8], set[12], set[16], set[16 + 1024 + 67]) = (32, 1, 0xaa, 0xbb);
        let extended = Extended {
            fixed: fixed.clone(),
            scalable: Some(set),
        };
        let records = extended.records();
        assert_eq!(records[..8], [0x01, 0x80, 0x50, 0x46, 0x10, 0x02, 0, 0]);
        assert_eq!(records[8..16], [7, 7, 7, 7, 8, 8, 8, 8]);
        assert_eq!(records[16..528], fixed[..512]);
        let scalable = &records[528..];
        assert_eq!(
            scalable[..10],
            [0x01, 0x45, 0x56, 0x53, 0x60, 0x04, 0, 0, 32, 0]
        );
        assert_eq!((scalable[16], scalable[16 + 1024 + 67]), (0xaa, 0xbb));
        // The end: a record without magic number and length.
        assert_eq!(scalable[0x460..], [0; 16]);
        assert!(extended.fits_frame());
    }

    #[test]
    fn what_is_not_scalable_is_no_record() {
        assert!(!holds_scalable(&[0; 16]));
        assert_eq!(zero_records().len(), FPSIMD_LEN + RECORD_ALIGN);
    }
}
