//! `/proc/PID/maps`: one line for a mapping.
//!
//! A line is `start-end perms offset major:minor inode`, then blanks up to a column, then a
//! name that may hold anything but a newline (the kernel writes one as `\012`; a name that holds
//! these four characters looks the same, so they are kept as they are).
//!
//! A target may have 70,000 mappings, and this runs while it stands still: one pass over the
//! bytes, an allocation only for a name.

use space::{Mapping, MappingFlags, PageRange, PageSize, Protection, Sharing, Vaddr};

use super::error::ProcfsError;
use super::text::decimal;

/// Appends the mappings that `text` lists to `out`, in its order.
///
/// What only `smaps` tells is left out: of the flags, only [`MappingFlags::UNLINKED`] is known,
/// and every page size is the base page size `page_size`.
///
/// # Errors
///
/// [`ProcfsError::Malformed`] names the first line that is not understood; `out` then holds the
/// mappings before it.
pub fn parse(text: &[u8], page_size: PageSize, out: &mut Vec<Mapping>) -> Result<(), ProcfsError> {
    let mut cursor = Cursor(text);
    let mut line = 0;
    while !cursor.0.is_empty() {
        line += 1;
        let malformed = ProcfsError::Malformed { file: "maps", line };
        out.push(cursor.mapping(page_size).ok_or(malformed)?);
    }
    Ok(())
}

/// Reads one line; `None` if it is none of `maps`.
pub(super) fn parse_line(line: &[u8], page_size: PageSize) -> Option<Mapping> {
    Cursor(line).mapping(page_size)
}

/// What is left to be read. Each step looks at a byte once.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    /// Reads one line with its end; `None` if it is none of `maps`.
    fn mapping(&mut self, page_size: PageSize) -> Option<Mapping> {
        let start = Vaddr(self.hex(b'-')?);
        let end = Vaddr(self.hex(b' ')?);
        let (protection, sharing) = self.permissions()?;
        let file_offset = self.hex(b' ')?;
        let device = (
            self.hex(b':')?.try_into().ok()?,
            self.hex(b' ')?.try_into().ok()?,
        );
        let inode = self.inode()?;
        let name = self.name();
        Some(Mapping {
            range: PageRange::new(start, end)?,
            protection,
            sharing,
            file_offset,
            device,
            inode,
            flags: if is_unlinked(name) {
                MappingFlags::UNLINKED
            } else {
                MappingFlags::empty()
            },
            name: String::from_utf8_lossy(name).into_owned(),
            page_size,
        })
    }

    fn next(&mut self) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(byte)
    }

    /// Reads a hexadecimal number and the mark behind it.
    fn hex(&mut self, mark: u8) -> Option<u64> {
        const DIGITS_MAX: u32 = 16;
        let mut value = 0;
        for digits in 0..=DIGITS_MAX {
            let digit = match self.next()? {
                byte @ b'0'..=b'9' => byte - b'0',
                byte @ b'a'..=b'f' => byte - b'a' + 10,
                byte => return (byte == mark && digits > 0).then_some(value),
            };
            if digits < DIGITS_MAX {
                value = value << 4 | u64::from(digit);
            }
        }
        None
    }

    /// Reads the inode. Without a name behind it, some kernels write a blank and some don't.
    fn inode(&mut self) -> Option<u64> {
        let digits = self
            .0
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        let (number, rest) = self.0.split_at(digits);
        if !matches!(rest.first(), None | Some(b' ' | b'\n')) {
            return None;
        }
        self.0 = rest;
        decimal(number)
    }

    /// Reads `rwxp` and the blank behind, with `-` for what is missing and `s` for shared.
    fn permissions(&mut self) -> Option<(Protection, Sharing)> {
        let mut protection = Protection::empty();
        for (letter, flag) in [
            (b'r', Protection::READ),
            (b'w', Protection::WRITE),
            (b'x', Protection::EXEC),
        ] {
            match self.next()? {
                byte if byte == letter => protection |= flag,
                b'-' => {}
                _ => return None,
            }
        }
        let sharing = match self.next()? {
            b'p' => Sharing::Private,
            b's' => Sharing::Shared,
            _ => return None,
        };
        (self.next()? == b' ').then_some((protection, sharing))
    }

    /// Reads blanks, the name, and the end of the line.
    fn name(&mut self) -> &'a [u8] {
        let blanks = self.0.iter().take_while(|&&byte| byte == b' ').count();
        let rest = &self.0[blanks..];
        let len = rest
            .iter()
            .position(|&byte| byte == b'\n')
            .unwrap_or(rest.len());
        self.0 = rest.get(len + 1..).unwrap_or_default();
        &rest[..len]
    }
}

/// Tells from the name whether the file has none any more. Shared anonymous memory that was
/// given a name (`PR_SET_VMA_ANON_NAME`) is shown without the usual ending.
fn is_unlinked(name: &[u8]) -> bool {
    name.ends_with(b" (deleted)") || name.starts_with(b"[anon_shmem:")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn page_size() -> PageSize {
        PageSize::new(4096).unwrap()
    }

    fn one(line: &str) -> Mapping {
        let mut out = Vec::new();
        parse(line.as_bytes(), page_size(), &mut out).unwrap();
        assert_eq!(out.len(), 1);
        out.remove(0)
    }

    #[test]
    fn a_file_mapping() {
        let mapping = one(
            "558a7df84000-558a7df89000 r-xp 00002000 fe:10 247030                     /usr/bin/cat\n",
        );
        assert_eq!(
            mapping,
            Mapping {
                range: PageRange::new(Vaddr(0x558a_7df8_4000), Vaddr(0x558a_7df8_9000)).unwrap(),
                protection: Protection::READ | Protection::EXEC,
                sharing: Sharing::Private,
                file_offset: 0x2000,
                device: (0xfe, 0x10),
                inode: 247_030,
                name: "/usr/bin/cat".into(),
                flags: MappingFlags::empty(),
                page_size: page_size(),
            }
        );
    }

    #[test]
    fn names_of_every_kind() {
        for (name, unlinked) in [
            ("", false),
            ("[heap]", false),
            ("[stack]", false),
            ("[anon:a name]", false),
            ("[anon_shmem:a name]", true),
            ("/dev/zero (deleted)", true),
            ("/memfd:x (deleted)", true),
            ("/SYSV0000002a (deleted)", true),
            ("/[aio] (deleted)", true),
            ("/a file with  blanks", false),
            ("/new\\012line", false),
            ("/(deleted)", false),
            ("anon_inode:[io_uring]", false),
        ] {
            let mapping = one(&format!(
                "7f0000000000-7f0000001000 rw-s 00000000 00:01 1026                       {name}\n"
            ));
            assert_eq!(mapping.name, name);
            assert_eq!(
                mapping.flags.contains(MappingFlags::UNLINKED),
                unlinked,
                "{name}"
            );
        }
    }

    #[test]
    fn a_nameless_line_with_and_without_the_last_blank() {
        for line in [
            "00001000-00002000 ---p 00000000 00:00 0 \n",
            "00001000-00002000 ---p 00000000 00:00 0",
        ] {
            let mapping = one(line);
            assert_eq!(mapping.name, "");
            assert_eq!(mapping.protection, Protection::empty());
            assert!(!mapping.has_file());
        }
    }

    #[test]
    fn the_highest_mapping() {
        let mapping = one(
            "ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]",
        );
        assert_eq!(mapping.range.end(), Vaddr(0xffff_ffff_ff60_1000));
    }

    #[test]
    fn rubbish_is_named_by_its_line() {
        let good = "00001000-00002000 ---p 00000000 00:00 0 \n";
        for wrong in [
            "",
            "x",
            "00001000-00001000 ---p 00000000 00:00 0 ",
            "00001000-00002001 ---p 00000000 00:00 0 ",
            "00001000-00002000 --p 00000000 00:00 0 ",
            "00001000-00002000 -w-q 00000000 00:00 0 ",
            "00001000-00002000 zw-p 00000000 00:00 0 ",
            "00001000-00002000 ---p 00000000 00 0 ",
            "00001000-00002000 ---p 00000000 00:100000000 0 ",
            "00001000-00002000 ---p 00000000 00:00 z ",
        ] {
            let mut out = Vec::new();
            let text = format!("{good}{wrong}\n{good}");
            assert_eq!(
                parse(text.as_bytes(), page_size(), &mut out),
                Err(ProcfsError::Malformed {
                    file: "maps",
                    line: 2
                }),
                "{wrong}"
            );
            assert_eq!(out.len(), 1);
        }
    }

    proptest! {
        #[test]
        fn bytes_of_any_kind_do_not_panic(text in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&text, page_size(), &mut Vec::new());
        }

        #[test]
        fn a_damaged_line_does_not_panic(at in 0_usize..80, byte in any::<u8>()) {
            let mut line =
                *b"558a7df84000-558a7df89000 r-xp 00002000 fe:10 247030                 /usr/bin/cat";
            let at = at % line.len();
            line[at] = byte;
            let mut out = Vec::new();
            let _ = parse(&line, page_size(), &mut out);
        }

        #[test]
        fn what_is_written_is_read_back(
            page in 0_u64..1 << 51, pages in 1_u64..1 << 20, bits in 0_u8..8, shared in any::<bool>(),
            offset in any::<u64>(), device in any::<(u32, u32)>(), inode in any::<u64>(),
            name in "(/[a-z \\\\.]{0,20}[a-z])?",
        ) {
            let protection = Protection::from_bits_truncate(bits);
            let letter = |flag, yes| if protection.contains(flag) { yes } else { '-' };
            let (start, end) = (page << 12, (page + pages) << 12);
            let line = format!(
                "{start:08x}-{end:08x} {}{}{}{} {offset:08x} {:02x}:{:02x} {inode}{}{name}\n",
                letter(Protection::READ, 'r'), letter(Protection::WRITE, 'w'),
                letter(Protection::EXEC, 'x'), if shared { 's' } else { 'p' },
                device.0, device.1, " ".repeat(20),
            );
            let mut out = Vec::new();
            prop_assert_eq!(parse(line.as_bytes(), page_size(), &mut out), Ok(()));
            prop_assert_eq!(out, [Mapping {
                range: PageRange::new(Vaddr(start), Vaddr(end)).unwrap(),
                protection,
                sharing: if shared { Sharing::Shared } else { Sharing::Private },
                file_offset: offset, device, inode, name,
                flags: MappingFlags::empty(), page_size: page_size(),
            }]);
        }
    }
}
