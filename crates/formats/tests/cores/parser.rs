//! Reads core files, knowing nothing of the writer.

use std::ops::Range;

/// A note.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Note {
    pub(crate) owner: String,
    pub(crate) kind: u32,
    pub(crate) bytes: Vec<u8>,
}

/// A program header.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) kind: u32,
    pub(crate) flags: u32,
    pub(crate) offset: u64,
    pub(crate) address: u64,
    pub(crate) file_len: u64,
    pub(crate) memory_len: u64,
    pub(crate) align: u64,
}

impl Segment {
    pub(crate) fn addresses(&self) -> Range<u64> {
        self.address..self.address + self.memory_len
    }
}

/// A core file.
pub(crate) struct Core {
    file: Vec<u8>,
    pub(crate) machine: u16,
    pub(crate) notes: Vec<Note>,
    pub(crate) loads: Vec<Segment>,
}

impl Core {
    pub(crate) fn parse(file: Vec<u8>) -> Self {
        assert_eq!(&file[..7], b"\x7fELF\x02\x01\x01", "64-bit, little-endian");
        assert_eq!(u16_at(&file, 16), 4, "ET_CORE");
        let (segments_at, sections_at) = (u64_at(&file, 32), u64_at(&file, 40));
        assert_eq!(u16_at(&file, 54), 56, "size of a program header");
        let count = match u16_at(&file, 56) {
            0xffff => {
                assert_eq!((u16_at(&file, 58), u16_at(&file, 60)), (64, 1));
                u64::from(u32_at(&file, index(sections_at) + 44))
            }
            count => count.into(),
        };
        let mut segments: Vec<_> = (0..count)
            .map(|nth| segment(&file[index(segments_at + nth * 56)..]))
            .collect();
        let loads = segments.split_off(1);
        let notes_at = index(segments[0].offset);
        assert_eq!(segments[0].kind, 4, "PT_NOTE comes first");
        assert!(loads.iter().all(|segment| segment.kind == 1), "PT_LOAD");
        let notes = notes(&file[notes_at..notes_at + index(segments[0].file_len)]);
        Self {
            machine: u16_at(&file, 18),
            file,
            notes,
            loads,
        }
    }

    /// Returns the segment that covers `address`.
    pub(crate) fn segment(&self, address: u64) -> &Segment {
        let mut found = self
            .loads
            .iter()
            .filter(|load| load.addresses().contains(&address));
        let segment = found.next().expect("a segment covers the address");
        assert!(found.next().is_none(), "only one does");
        segment
    }

    /// Returns `len` bytes of memory, if the file holds them.
    pub(crate) fn memory(&self, address: u64, len: u64) -> Option<&[u8]> {
        let segment = self.segment(address);
        let at = address - segment.address;
        if at + len > segment.file_len {
            return None;
        }
        let from = index(segment.offset + at);
        Some(&self.file[from..from + index(len)])
    }

    /// Returns the notes of a kind.
    pub(crate) fn notes_of(&self, kind: u32) -> Vec<&[u8]> {
        let notes = self.notes.iter().filter(|note| note.kind == kind);
        notes.map(|note| note.bytes.as_slice()).collect()
    }
}

fn segment(bytes: &[u8]) -> Segment {
    Segment {
        kind: u32_at(bytes, 0),
        flags: u32_at(bytes, 4),
        offset: u64_at(bytes, 8),
        address: u64_at(bytes, 16),
        file_len: u64_at(bytes, 32),
        memory_len: u64_at(bytes, 40),
        align: u64_at(bytes, 48),
    }
}

fn notes(mut bytes: &[u8]) -> Vec<Note> {
    let mut notes = Vec::new();
    while !bytes.is_empty() {
        let name_len = u32_at(bytes, 0) as usize;
        let len = u32_at(bytes, 4) as usize;
        let at = 12 + name_len.next_multiple_of(4);
        notes.push(Note {
            owner: String::from_utf8(bytes[12..12 + name_len - 1].to_vec()).unwrap(),
            kind: u32_at(bytes, 8),
            bytes: bytes[at..at + len].to_vec(),
        });
        bytes = &bytes[at + len.next_multiple_of(4)..];
    }
    notes
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap())
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn index(value: u64) -> usize {
    value.try_into().unwrap()
}
