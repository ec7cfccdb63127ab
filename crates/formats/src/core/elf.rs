//! The headers of a 64-bit little-endian ELF file (`include/uapi/linux/elf.h`).

use super::record::Record;

/// Size of the ELF header (`Elf64_Ehdr`), in bytes.
pub(super) const HEADER_LEN: u16 = 64;
/// Size of a program header (`Elf64_Phdr`), in bytes.
pub(super) const PROGRAM_HEADER_LEN: u16 = 56;
/// Size of a section header (`Elf64_Shdr`), in bytes.
pub(super) const SECTION_HEADER_LEN: u16 = 64;
/// As the number of segments: it does not fit, and stands in the first section header.
pub(super) const PN_XNUM: u16 = 0xffff;

/// A segment that is to be loaded.
pub(super) const PT_LOAD: u32 = 1;
/// A segment of notes.
pub(super) const PT_NOTE: u32 = 4;

/// The ELF header of a core.
pub(super) struct Header {
    /// The machine's number.
    pub(super) machine: u16,
    /// How many program headers follow.
    pub(super) segments: u64,
    /// Where the one section header is, if there is one.
    pub(super) sections_at: Option<u64>,
}

impl Header {
    /// Returns the header's bytes.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        const IDENT: [u8; 16] = *b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0";
        const ET_CORE: u16 = 4;
        const EV_CURRENT: u32 = 1;
        let segments = u16::try_from(self.segments).unwrap_or(PN_XNUM);
        let (section_len, sections) = match self.sections_at {
            Some(_) => (SECTION_HEADER_LEN, 1),
            None => (0, 0),
        };
        Record::with_len(HEADER_LEN.into())
            .bytes(&IDENT)
            .u16([ET_CORE, self.machine])
            .u32([EV_CURRENT])
            // e_entry, e_phoff, e_shoff
            .u64([0, HEADER_LEN.into(), self.sections_at.unwrap_or(0)])
            // e_flags
            .u32([0])
            .u16([HEADER_LEN, PROGRAM_HEADER_LEN, segments])
            // e_shentsize, e_shnum, e_shstrndx
            .u16([section_len, sections, 0])
            .finish(HEADER_LEN.into())
    }
}

/// A program header.
pub(super) struct ProgramHeader {
    /// `PT_*`.
    pub(super) kind: u32,
    /// `PF_*`.
    pub(super) flags: u32,
    /// Where its contents are in the file.
    pub(super) offset: u64,
    /// Where they were in memory.
    pub(super) address: u64,
    /// Their length in the file.
    pub(super) file_len: u64,
    /// Their length in memory.
    pub(super) memory_len: u64,
    /// Their alignment.
    pub(super) align: u64,
}

impl ProgramHeader {
    /// Returns the header's bytes.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let physical = 0;
        Record::with_len(PROGRAM_HEADER_LEN.into())
            .u32([self.kind, self.flags])
            .u64([self.offset, self.address, physical])
            .u64([self.file_len, self.memory_len, self.align])
            .finish(PROGRAM_HEADER_LEN.into())
    }
}

/// Returns the section header that holds the number of segments where the ELF header can't.
pub(super) fn segment_count_section(segments: u32) -> Vec<u8> {
    let sections = 1;
    Record::with_len(SECTION_HEADER_LEN.into())
        // sh_name, sh_type (SHT_NULL)
        .u32([0, 0])
        // sh_flags, sh_addr, sh_offset, sh_size
        .u64([0, 0, 0, sections])
        // sh_link (no section of names), sh_info
        .u32([0, segments])
        // sh_addralign, sh_entsize
        .u64([0, 0])
        .finish(SECTION_HEADER_LEN.into())
}
