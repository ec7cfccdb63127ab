//! What a lane sees of its own memory: mappings and pagemap entries.
//!
//! The lane writes plain words to the board's data: how many mappings there are, six words for
//! each, then an entry for each page of the range. The tool reads them as a [`Look`].

use super::board::Board;

/// `struct procmap_query` (Linux 6.11), in words.
pub(super) const QUERY_WORDS: usize = 13;
/// Its number: `_IOWR('f', 17, struct procmap_query)`.
pub(super) const PROCMAP_QUERY: u64 = 0xC068_6611;
const _: () = assert!(PROCMAP_QUERY == crate::uapi::iowr::<[u64; QUERY_WORDS]>(b'f', 17));
/// Asks for the mapping at an address or, where there is none, the next.
pub(super) const COVERING_OR_NEXT: u64 = 0x10;

/// How many words of the board one mapping takes.
pub(super) const AREA_WORDS: usize = 6;

/// A mapping, clipped to the range that was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Area {
    /// Its first address.
    pub start: u64,
    /// The address behind it.
    pub end: u64,
    /// 1 readable, 2 writable, 4 executable, 8 shared.
    pub access: u64,
    /// The file's offset at `start`, in bytes; 0 without a file.
    pub offset: u64,
    /// The file's inode, 0 without a file.
    pub inode: u64,
    /// The size of the pages that it is made of.
    pub page_size: u64,
}

/// What a lane saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// The mappings, by address.
    pub areas: Vec<Area>,
    /// An entry of pagemap for each page of the range.
    pub entries: Vec<u64>,
}

impl Look {
    /// How many bytes of the board's data a look takes.
    pub(super) fn room(pages: usize, areas_max: usize) -> usize {
        8 * (1 + areas_max * AREA_WORDS + pages)
    }

    /// Reads what a lane left at `at`.
    pub(super) fn read(board: Board, at: usize, pages: usize, areas_max: usize) -> Self {
        let word = |index: usize| board.data_word(at + index * 8);
        let count = usize::try_from(word(0)).unwrap_or(0).min(areas_max);
        let area = |index: usize| {
            let word = |part: usize| word(1 + index * AREA_WORDS + part);
            Area {
                start: word(0),
                end: word(1),
                access: word(2) & 0xF,
                offset: word(3),
                inode: word(4),
                page_size: word(5),
            }
        };
        let first_entry = 1 + areas_max * AREA_WORDS;
        Self {
            areas: (0..count).map(area).collect(),
            entries: (0..pages).map(|page| word(first_entry + page)).collect(),
        }
    }
}
