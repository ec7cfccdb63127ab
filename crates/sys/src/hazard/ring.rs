//! What `fdinfo` of an io_uring tells.
//!
//! The lists are written only if the kernel gets the ring's lock at once: while the ring is busy
//! they are missing, and the question is to be asked again.

use space::{PageRange, PageSize, Vaddr};
use thiserror::Error;

/// An io_uring, as its `fdinfo` shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ring {
    /// The thread of the kernel that takes requests out of shared memory (`SQPOLL`).
    pub poller: Option<u32>,
    /// The files registered with it, by name.
    pub files: Vec<String>,
    /// The buffers registered with it: address and length in bytes.
    pub buffers: Vec<(Vaddr, u64)>,
}

/// Why the state of a ring is not known.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RingError {
    /// The kernel did not write the lists.
    #[error("the ring was busy, so that the kernel did not list its buffers")]
    Busy,
    /// A line is not understood.
    #[error("the kernel's line {0:?} about its buffers is not understood")]
    Malformed(String),
}

/// Which list the lines belong to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum List {
    Files,
    Buffers,
    Other,
}

impl Ring {
    /// Reads the lines of `fdinfo` that only an io_uring has.
    ///
    /// # Errors
    ///
    /// [`RingError::Busy`] where the lists are missing, which another try may mend.
    pub fn parse(details: &str) -> Result<Self, RingError> {
        let mut ring = Self::default();
        let mut list = List::Other;
        let mut promised = None;
        let mut listed = 0;
        for line in details.lines() {
            if let Some((key, value)) = heading(line) {
                list = List::Other;
                match key {
                    "SqThread" => ring.poller = value.parse().ok(),
                    "UserFiles" => list = List::Files,
                    "UserBufs" => {
                        let count: u64 = value.parse().map_err(|_| malformed(line))?;
                        promised = Some(count);
                        list = List::Buffers;
                    }
                    _ => {}
                }
                continue;
            }
            let Some((_, entry)) = line.split_once(": ") else {
                continue;
            };
            match list {
                List::Files => ring.files.push(unescaped(entry.trim())),
                List::Buffers => {
                    listed += 1;
                    ring.buffers.extend(buffer(entry).ok_or(malformed(line))?);
                }
                List::Other => {}
            }
        }
        // Kernels before 6.15 write the count even where they could not take the lock.
        match promised {
            None => Err(RingError::Busy),
            Some(count) if count > 0 && listed == 0 => Err(RingError::Busy),
            Some(_) => Ok(ring),
        }
    }

    /// Returns the pages that the registered buffers touch.
    pub fn buffer_pages(&self, page_size: PageSize) -> impl Iterator<Item = PageRange> {
        self.buffers
            .iter()
            .filter_map(move |&(start, len)| pages_of(start, len, page_size))
    }
}

fn malformed(line: &str) -> RingError {
    RingError::Malformed(line.trim().to_owned())
}

/// Splits `Key:\tvalue`; entries of lists are indented.
fn heading(line: &str) -> Option<(&str, &str)> {
    if !line.starts_with(|first: char| first.is_ascii_alphabetic()) {
        return None;
    }
    let (key, value) = line.split_once(':')?;
    Some((key, value.trim()))
}

/// Reads `0xaddress/length`, or an empty slot; the outer `None` if it is neither.
fn buffer(entry: &str) -> Option<Option<(Vaddr, u64)>> {
    let entry = entry.trim();
    if entry == "<none>" {
        return Some(None);
    }
    let (address, len) = entry.strip_prefix("0x")?.split_once('/')?;
    let address = u64::from_str_radix(address, 16).ok()?;
    let len: u64 = len.parse().ok()?;
    // One without an address is the kernel's own: a block device's, lent to the ring.
    Some((len > 0 && address > 0).then_some((Vaddr(address), len)))
}

/// Undoes the kernel's writing of blanks and backslashes as `\\ooo` in a name.
fn unescaped(name: &str) -> String {
    let mut parts = name.split('\\');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part
            .get(..3)
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) if code.is_ascii() => {
                plain.push(char::from(code));
                plain.push_str(&part[3..]);
            }
            _ => {
                plain.push('\\');
                plain.push_str(part);
            }
        }
    }
    plain
}

/// Returns the whole pages that `len` bytes from `start` on touch.
pub(super) fn pages_of(start: Vaddr, len: u64, page_size: PageSize) -> Option<PageRange> {
    let end = Vaddr(start.0.checked_add(len)?).align_up(page_size)?;
    PageRange::new(start.align_down(page_size), end)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = "SqMask:\t0x3\nSqHead:\t0\nSQEs:\t1\n    0: opcode:READ_FIXED, fd:4, \
        flags:0, off:0, addr:0x7f00, rw_flags:0x0, buf_index:0 user_data:1\nCQEs:\t0\n\
        SqThread:\t-1\nSqThreadCpu:\t-1\nUserFiles:\t2\n    0: /usr/bin/ls\n    1: /a\\040b: c\n\
        UserBufs:\t3\n    0: 0x7fc65fd59000/8192\n    1: <none>\n    2: 0x7fc65fd5d064/5000\n\
        PollList:\n  op=6, task_works=0\nCqOverflowList:\nNAPI:\tdisabled\n";

    fn range(start: u64, end: u64) -> PageRange {
        PageRange::new(Vaddr(start), Vaddr(end)).unwrap()
    }

    #[test]
    fn buffers_and_files_are_listed() {
        let ring = Ring::parse(TEXT).unwrap();
        assert_eq!(ring.poller, None);
        assert_eq!(ring.files, ["/usr/bin/ls", "/a b: c"]);
        assert_eq!(
            ring.buffers,
            [
                (Vaddr(0x7fc6_5fd5_9000), 8192),
                (Vaddr(0x7fc6_5fd5_d064), 5000)
            ]
        );
        let pages: Vec<_> = ring.buffer_pages(PageSize::new(4096).unwrap()).collect();
        assert_eq!(
            pages,
            [
                range(0x7fc6_5fd5_9000, 0x7fc6_5fd5_b000),
                range(0x7fc6_5fd5_d000, 0x7fc6_5fd5_f000)
            ]
        );
    }

    #[test]
    fn a_buffer_of_the_kernel_is_none_of_the_process() {
        let text = "UserBufs:\t1\n    0: 0x0/4096\n";
        assert_eq!(Ring::parse(text), Ok(Ring::default()));
    }

    #[test]
    fn a_poller_is_seen() {
        let text = TEXT.replace("SqThread:\t-1", "SqThread:\t26798");
        assert_eq!(Ring::parse(&text).unwrap().poller, Some(26798));
    }

    #[test]
    fn missing_lists_are_no_empty_lists() {
        assert_eq!(Ring::parse(""), Err(RingError::Busy));
        let without = TEXT.split("UserFiles").next().unwrap();
        assert_eq!(Ring::parse(without), Err(RingError::Busy));
        let count_only = "UserFiles:\t0\nUserBufs:\t2\nPollList:\n";
        assert_eq!(Ring::parse(count_only), Err(RingError::Busy));
        assert_eq!(
            Ring::parse("UserBufs:\t0\nPollList:\n"),
            Ok(Ring::default())
        );
    }

    #[test]
    fn an_unknown_line_about_a_buffer_is_an_error() {
        for entry in ["8192", "0xzz/1", "0x1/", "kernel"] {
            let text = format!("UserBufs:\t1\n    0: {entry}\n");
            assert!(
                matches!(Ring::parse(&text), Err(RingError::Malformed(_))),
                "{entry}"
            );
        }
    }

    #[test]
    fn a_buffer_at_the_end_of_the_address_space_has_no_pages() {
        let size = PageSize::new(4096).unwrap();
        assert_eq!(pages_of(Vaddr(u64::MAX - 5), 100, size), None);
        assert_eq!(
            pages_of(Vaddr(0x1fff), 2, size),
            Some(range(0x1000, 0x3000))
        );
    }

    proptest! {
        #[test]
        fn damaged_text_does_not_panic(at in any::<prop::sample::Index>(), byte in 0_u8..128) {
            let mut text = TEXT.as_bytes().to_vec();
            let at = at.index(text.len());
            text[at] = byte;
            let _ = Ring::parse(&String::from_utf8(text).unwrap());
        }
    }
}
