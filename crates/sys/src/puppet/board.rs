//! The memory that the tool and its puppet share: commands, answers, data, and pages of known
//! bytes.
//!
//! # Layout
//!
//! | bytes | what |
//! |---|---|
//! | 0 | `done`: how many times a lane finished, a futex |
//! | 256 + 64·lane | the lane's cell: the parts of [`Cell`], 32 bits each |
//! | 4 Ki | commands, ten words each |
//! | behind them | answers, six words each |
//! | behind them | data: structures that the kernel reads and writes, and looks |
//! | the end | [`PATTERNS`] runs of 2 MiB, each filled with one byte |
//!
//! Nobody makes a reference into it but to atomics: everything else is copied in and out.
#![expect(
    unsafe_code,
    reason = "memory shared with a process that may write anything to it"
)]

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd};
use std::ptr::NonNull;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU32;

use space::Errno;

use super::command::{Command, WORDS};
use super::script::Reply;

/// The bytes of which the board has a run of pages each, to copy from.
pub const PATTERNS: [u8; 4] = [0x00, 0x5A, 0xA7, 0xFF];
/// How long each run is.
pub(super) const PATTERN_LEN: usize = 2 << 20;

/// How many commands a batch may have.
pub(super) const COMMANDS_MAX: usize = 8192;
/// How many bytes of data a batch may have.
pub(super) const DATA_LEN: usize = 16 << 20;

const CELLS: usize = 256;
const CELL_LEN: usize = 64;
const COMMANDS: usize = 4096; // not a page size
const REPLIES: usize = COMMANDS + COMMANDS_MAX * WORDS * 8;
const REPLY_WORDS: usize = 6;
const DATA: usize = REPLIES + COMMANDS_MAX * REPLY_WORDS * 8;
const DATA_START: usize = DATA.next_multiple_of(2 << 20);
const PATTERN_START: usize = DATA_START + DATA_LEN;
const LEN: usize = PATTERN_START + PATTERNS.len() * PATTERN_LEN;

/// The parts of a lane's cell.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cell {
    /// Counts the batches that were handed over; a futex.
    Go = 0,
    /// The first command of the batch.
    From = 4,
    /// The command behind the last.
    To = 8,
    /// What `Go` was when the lane finished last.
    Finished = 12,
    /// The process's id, once it lives.
    Pid = 16,
    /// The thread's id, once it lives.
    Tid = 20,
    /// The command that it carries out.
    At = 24,
}

/// A handle on the board. It lives as long as the process that maps it, or until
/// [`Board::unmap`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Board {
    base: NonNull<u8>,
}

impl Board {
    /// Maps a new board and fills its patterns.
    pub(super) fn map() -> Result<Self, Errno> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new mapping where the kernel chooses replaces nothing.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), LEN, protection, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(std::io::Error::last_os_error().into());
        }
        let base = NonNull::new(base.cast()).expect("a mapping is never at zero");
        let board = Self { base };
        if let Err(errno) = board.map_patterns() {
            board.unmap();
            return Err(errno);
        }
        Ok(board)
    }

    /// Maps the patterns: they are written once for all boards, and each has its own view of them.
    fn map_patterns(self) -> Result<(), Errno> {
        static FILE: OnceLock<Result<File, Errno>> = OnceLock::new();
        let file = FILE
            .get_or_init(pattern_file)
            .as_ref()
            .map_err(|why| *why)?;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_FIXED | libc::MAP_NORESERVE;
        let len = PATTERNS.len() * PATTERN_LEN;
        let start = self.at(PATTERN_START, len);
        let fd = file.as_raw_fd();
        // SAFETY: 1. `at` checked that the range lies on the board, which is replaced there. 2. nobody
        // else knows the board. 3. the file is as long as the range and is never cut.
        let mapped = unsafe { libc::mmap(start.cast(), len, protection, flags, fd, 0) };
        if mapped == libc::MAP_FAILED {
            return Err(std::io::Error::last_os_error().into());
        }
        Ok(())
    }

    /// Takes the mapping away from the calling process.
    pub(super) fn unmap(self) {
        // SAFETY: 1. the mapping is ours, as `map` made it. 2. the callers drop every handle with
        // it, and no reference into it outlives an expression.
        unsafe { libc::munmap(self.base.as_ptr().cast(), LEN) };
    }

    /// Returns a pointer to `len` bytes at an offset of the board.
    fn at(self, offset: usize, len: usize) -> *mut u8 {
        assert!(
            offset.checked_add(len).is_some_and(|end| end <= LEN),
            "an offset on the board"
        );
        // SAFETY: the range lies inside the mapping, as just checked.
        unsafe { self.base.as_ptr().add(offset) }
    }

    fn read(self, offset: usize) -> u64 {
        let at = self.at(offset, 8).cast::<u64>();
        // SAFETY: 1. `at` checked the range. 2. any bytes are a number. 3. others may write there
        // meanwhile: whatever comes is taken as untrusted.
        unsafe { at.read_unaligned() }
    }

    fn write(self, offset: usize, value: u64) {
        let at = self.at(offset, 8).cast::<u64>();
        // SAFETY: 1. `at` checked the range. 2. no reference into the board exists but to atomics,
        // which lie elsewhere.
        unsafe { at.write_unaligned(value) };
    }

    fn atomic(&self, offset: usize) -> &AtomicU32 {
        let at = self.at(offset, 4).cast::<u32>();
        // SAFETY: 1. `at` checked the range. 2. the offsets of atomics are multiples of four, and
        // the mapping begins at a page. 3. they are accessed as atomics by everybody.
        unsafe { AtomicU32::from_ptr(at) }
    }

    /// Counts how many times a lane finished.
    pub(super) fn done(&self) -> &AtomicU32 {
        self.atomic(0)
    }

    /// A part of a lane's cell.
    pub(super) fn cell(&self, lane: usize, part: Cell) -> &AtomicU32 {
        assert!(lane < super::LANES, "a lane's number");
        self.atomic(CELLS + lane * CELL_LEN + part as usize)
    }

    pub(super) fn set_command(self, index: usize, command: Command) {
        assert!(index < COMMANDS_MAX, "a command's index");
        for (at, word) in command.pack().into_iter().enumerate() {
            self.write(COMMANDS + (index * WORDS + at) * 8, word);
        }
        self.write(REPLIES + index * REPLY_WORDS * 8, 0);
    }

    pub(super) fn command(self, index: usize) -> Option<Command> {
        if index >= COMMANDS_MAX {
            return None;
        }
        let mut words = [0; WORDS];
        for (at, word) in words.iter_mut().enumerate() {
            *word = self.read(COMMANDS + (index * WORDS + at) * 8);
        }
        Command::unpack(words)
    }

    pub(super) fn set_reply(self, index: usize, reply: Reply) {
        if index >= COMMANDS_MAX {
            return;
        }
        let start = REPLIES + index * REPLY_WORDS * 8;
        let words = [
            reply.signal.into(),
            reply.code.into(),
            reply.address,
            reply.lsb.into(),
        ];
        self.write(start + 8, reply.value.cast_unsigned());
        for (at, word) in words.into_iter().enumerate() {
            self.write(start + 16 + at * 8, word);
        }
        self.write(start, 1);
    }

    /// Returns the answer to a command, if it has come.
    pub(super) fn reply(self, index: usize) -> Option<Reply> {
        if index >= COMMANDS_MAX {
            return None;
        }
        let start = REPLIES + index * REPLY_WORDS * 8;
        if self.read(start) == 0 {
            return None;
        }
        let small = |word: u64| u32::try_from(word & 0xFFFF_FFFF).expect("masked");
        Some(Reply {
            value: self.read(start + 8).cast_signed(),
            signal: small(self.read(start + 16)),
            code: small(self.read(start + 24)),
            address: self.read(start + 32),
            lsb: small(self.read(start + 40)),
        })
    }

    /// The address of data, the same in the tool and in each lane.
    pub(super) fn data_address(self, offset: usize) -> u64 {
        self.at(DATA_START + offset.min(DATA_LEN), 0)
            .expose_provenance() as u64
    }

    /// The address of a run of one of [`PATTERNS`].
    pub(super) fn pattern_address(self, pattern: usize) -> u64 {
        let offset = PATTERN_START + pattern.min(PATTERNS.len() - 1) * PATTERN_LEN;
        self.at(offset, 0).expose_provenance() as u64
    }

    pub(super) fn data_word(self, offset: usize) -> u64 {
        assert!(offset + 8 <= DATA_LEN, "data's offset");
        self.read(DATA_START + offset)
    }

    pub(super) fn set_data_word(self, offset: usize, value: u64) {
        assert!(offset + 8 <= DATA_LEN, "data's offset");
        self.write(DATA_START + offset, value);
    }
}

/// A file that holds the patterns.
fn pattern_file() -> Result<File, Errno> {
    // SAFETY: the name ends with a zero; a new descriptor is nobody's.
    let made = unsafe { libc::memfd_create(c"patterns".as_ptr(), libc::MFD_CLOEXEC) };
    if made < 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    // SAFETY: the call has just made it.
    let mut file = unsafe { File::from_raw_fd(made) };
    for byte in PATTERNS {
        file.write_all(&vec![byte; PATTERN_LEN])?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_keep_apart() {
        let board = Board::map().unwrap();
        let last = COMMANDS_MAX - 1;
        board.set_command(last, Command::Exit);
        board.set_data_word(0, 7);
        board.set_data_word(DATA_LEN - 8, 8);
        assert_eq!(board.reply(last), None);
        let reply = Reply {
            value: -5,
            signal: 7,
            code: 2,
            address: 9,
            lsb: 12,
        };
        board.set_reply(last, reply);
        assert_eq!(board.reply(last), Some(reply));
        assert_eq!(board.command(last), Some(Command::Exit));
        assert_eq!(board.data_word(0), 7);
        assert_eq!(board.data_word(DATA_LEN - 8), 8);
        assert_eq!(board.read(PATTERN_START + 3 * PATTERN_LEN), u64::MAX);
        board.unmap();
    }
}
