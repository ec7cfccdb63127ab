//! A lane's mappings: asked for one by one, or read as text where the kernel is older than Linux 6.11.
//!
//! As in the rest of a lane, nothing allocates, prints or panics here, but for
//! [`Way::of_this_kernel`], which is the tool's.

use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;

use super::lane::simple;
use super::look::{AREA_WORDS, COVERING_OR_NEXT, PROCMAP_QUERY, QUERY_WORDS};

/// Start, end, access, offset, inode and page size of a mapping.
pub(super) type Mapping = [u64; AREA_WORDS];

/// How much of the text is read at once.
const CHUNK: usize = 2048;

/// How a lane learns of its mappings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// By `PROCMAP_QUERY` (Linux 6.11).
    Ask,
    /// By reading `/proc/self/maps`. It does not tell the size of pages: those of one file system
    /// are huge.
    Read(Option<Hugetlb>),
}

/// The kernel's own file system of huge pages of the default size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hugetlb {
    /// Major and minor number of its device.
    device: (u64, u64),
    page_size: u64,
}

impl Way {
    /// Finds out which way this kernel has. To be called by the tool.
    pub(super) fn of_this_kernel() -> Self {
        let Ok(maps) = File::open("/proc/self/maps") else {
            return Self::Read(None);
        };
        match ask(maps.as_raw_fd().unsigned_abs().into(), 0) {
            Some(_) => Self::Ask,
            None => Self::Read(Hugetlb::of_this_kernel()),
        }
    }

    /// Hands over the mappings at and behind an address, in order, until `each` wants no more. `maps`
    /// is a descriptor of `/proc/self/maps`.
    pub(super) fn each_from(self, maps: u64, at: u64, mut each: impl FnMut(Mapping) -> bool) {
        match self {
            Self::Ask => {
                let mut next = Some(at);
                while let Some(mapping) = next.and_then(|at| ask(maps, at)) {
                    next = each(mapping).then_some(mapping[1]);
                }
            }
            Self::Read(huge) => read(maps, huge, |mapping| mapping[1] <= at || each(mapping)),
        }
    }

    /// The mapping at or behind an address.
    pub(super) fn first_from(self, maps: u64, at: u64) -> Option<Mapping> {
        let mut first = None;
        self.each_from(maps, at, |mapping| {
            first = Some(mapping);
            false
        });
        first
    }
}

impl Hugetlb {
    /// Makes a file of huge pages, which takes none, and looks at it.
    fn of_this_kernel() -> Option<Self> {
        let name = c"huge".as_ptr().expose_provenance() as u64;
        let flags = u64::from(libc::MFD_HUGETLB);
        let made = simple(libc::SYS_memfd_create, [name, flags, 0, 0, 0, 0]);
        let file = u64::try_from(made).ok()?;
        let found = fs::metadata(format!("/proc/self/fd/{file}"));
        simple(libc::SYS_close, [file, 0, 0, 0, 0, 0]);
        let found = found.ok()?;
        Some(Self {
            device: (
                libc::major(found.dev()).into(),
                libc::minor(found.dev()).into(),
            ),
            page_size: found.blksize(),
        })
    }
}

/// Asks for the mapping at or behind an address.
fn ask(maps: u64, at: u64) -> Option<Mapping> {
    let mut query = [0_u64; QUERY_WORDS];
    query[0] = (QUERY_WORDS * 8) as u64;
    query[1] = COVERING_OR_NEXT;
    query[2] = at;
    let address = (&raw mut query).expose_provenance() as u64;
    let answer = simple(libc::SYS_ioctl, [maps, PROCMAP_QUERY, address, 0, 0, 0]);
    let [_, _, _, start, end, access, page_size, offset, inode, ..] = query;
    (answer == 0).then_some([start, end, access, offset, inode, page_size])
}

/// Reads all mappings, until `each` wants no more.
fn read(maps: u64, huge: Option<Hugetlb>, mut each: impl FnMut(Mapping) -> bool) {
    let mut chunk = [0_u8; CHUNK];
    let mut line = Line::default();
    let mut offset = 0;
    loop {
        let address = (&raw mut chunk).expose_provenance() as u64;
        let wish = [maps, address, CHUNK as u64, offset, 0, 0];
        let Ok(len) = u64::try_from(simple(libc::SYS_pread64, wish)) else {
            return;
        };
        if len == 0 {
            return;
        }
        offset += len;
        let len = usize::try_from(len).unwrap_or(CHUNK);
        for &byte in chunk.iter().take(len) {
            if let Some(mapping) = line.byte(byte, huge)
                && !each(mapping)
            {
                return;
            }
        }
    }
}

/// A line of `/proc/self/maps`, as far as it has been read: `start-end access offset major:minor
/// inode name`.
#[derive(Default)]
struct Line {
    /// Which part is being read.
    part: usize,
    parts: [u64; NAME],
}

/// The parts of a line that are not just a number in hexadecimal.
const ACCESS: usize = 2;
const INODE: usize = 6;
const NAME: usize = 7;

impl Line {
    /// Reads the next byte, and returns the mapping at the end of its line.
    fn byte(&mut self, byte: u8, huge: Option<Hugetlb>) -> Option<Mapping> {
        match (byte, self.part) {
            (b'\n', _) => return std::mem::take(self).mapping(huge),
            (b'-', 0) | (b':', 4) | (b' ', 1..=3 | 5..=INODE) => self.part += 1,
            (_, NAME..) => {}
            (_, part) => {
                let value = self.parts.get_mut(part)?;
                *value = match part {
                    ACCESS => *value | access(byte),
                    INODE => value.wrapping_mul(10).wrapping_add(digit(byte)),
                    _ => value.wrapping_mul(16).wrapping_add(digit(byte)),
                };
            }
        }
        None
    }

    fn mapping(self, huge: Option<Hugetlb>) -> Option<Mapping> {
        let [start, end, access, offset, major, minor, inode] = self.parts;
        let huge = huge.filter(|huge| inode != 0 && huge.device == (major, minor));
        let page_size = huge.map_or(super::page_size(), |huge| huge.page_size);
        (self.part >= INODE).then_some([start, end, access, offset, inode, page_size])
    }
}

/// The bit of an [`Area`](super::Area)'s access that a letter stands for.
fn access(letter: u8) -> u64 {
    match letter {
        b'r' => 1,
        b'w' => 2,
        b'x' => 4,
        b's' => 8,
        _ => 0,
    }
}

fn digit(byte: u8) -> u64 {
    char::from(byte).to_digit(16).unwrap_or(0).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Big enough for what a test program maps.
    const MAPPINGS: usize = 4096;

    #[test]
    fn lines_are_read_byte_by_byte() {
        let huge = Some(Hugetlb {
            device: (0, 15),
            page_size: 2 << 20,
        });
        let text = "00400000-0041f000 r-xp 00002000 fe:01 1234  /a name: of-two words\n\
                    7f1200000000-7f1200400000 rw-s 00000000 00:0f 77  /memfd:x (deleted)\n\
                    7ffd00000000-7ffd00021000 rw-p 00000000 00:00 0 \nbroken\n";
        let mut line = Line::default();
        let read: Vec<_> = text
            .bytes()
            .filter_map(|byte| line.byte(byte, huge))
            .collect();
        let page = super::super::page_size();
        let expected = [
            [0x40_0000, 0x41_F000, 5, 0x2000, 1234, page],
            [0x7F12_0000_0000, 0x7F12_0040_0000, 11, 0, 77, 2 << 20],
            [0x7FFD_0000_0000, 0x7FFD_0002_1000, 3, 0, 0, page],
        ];
        assert_eq!(read, expected);
    }

    #[test]
    fn both_ways_tell_the_same() {
        let maps = File::open("/proc/self/maps").unwrap();
        let maps = maps.as_raw_fd().unsigned_abs().into();
        if Way::of_this_kernel() != Way::Ask {
            println!("skipped: both_ways_tell_the_same: no PROCMAP_QUERY");
            return;
        }
        // Other tests map and unmap meanwhile, but not where this program lies.
        let here = (both_ways_tell_the_same as fn() as usize) as u64;
        let asked = Way::Ask.first_from(maps, here).unwrap();
        let read = Way::Read(Hugetlb::of_this_kernel());
        assert_eq!(read.first_from(maps, here), Some(asked));
        let mut seen = 0;
        read.each_from(maps, 0, |mapping| {
            assert!(mapping[0] < mapping[1]);
            seen += 1;
            seen < MAPPINGS
        });
        assert!(seen > 3);
    }
}
