//! What a step showed, on the kernel or on the model.

use std::fmt;

use space::Errno;

use crate::program::expect::{access, letters};

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It succeeded: what was returned or loaded. New descriptors and processes count as 0.
    Value(u64),
    /// It failed.
    Errno(Errno),
    /// SIGSEGV.
    Segv {
        /// The signal's code.
        code: u32,
        /// The address that it names.
        address: u64,
    },
    /// SIGBUS.
    Bus {
        /// The signal's code.
        code: u32,
        /// The address that it names.
        address: u64,
        /// How much memory is lost, as a power of two, for hardware errors.
        lsb: u32,
    },
    /// The lane sleeps in the kernel.
    Blocked,
    /// The process ended.
    Ended,
    /// It never ended: the lane was still running when patience did.
    Endless,
    /// There is no such lane, or it sleeps: the step was left out.
    LeftOut,
    /// It reaches beyond the memory that the kernel placed for an earlier step, where no program
    /// may, or would harm the machine: left out as well.
    Refused,
}

/// How an operation ended, without the values: to count by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ending {
    /// It succeeded.
    Ok,
    /// It failed.
    Errno(Errno),
    /// SIGSEGV with this code.
    Segv(u32),
    /// SIGBUS with this code.
    Bus(u32),
    /// The lane sleeps.
    Blocked,
    /// The process ended.
    Ended,
    /// It never ended.
    Endless,
    /// The step was left out.
    LeftOut,
}

/// A field of an operation's output.
pub type Output = (&'static str, u64);

/// A mapping in the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Area {
    /// Its first address.
    pub start: u64,
    /// The address behind it.
    pub end: u64,
    /// 1 readable, 2 writable, 4 executable, 8 shared.
    pub access: u64,
    /// The offset in its file, 0 without one.
    pub offset: u64,
    /// Its file, by the order in which files were first seen, from 1; 0 without one.
    pub file: u64,
    /// The size of its pages.
    pub page_size: u64,
}

/// What a lane sees of its memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// The mappings in the window, by address.
    pub areas: Vec<Area>,
    /// Pagemap's entry of each page of the window: the bits that are compared.
    pub entries: Vec<u64>,
}

/// All that a step showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// How the operation ended.
    pub answer: Answer,
    /// Its output, in order.
    pub outputs: Vec<Output>,
    /// What the lane saw afterwards.
    pub view: Option<View>,
    /// Lanes that had slept and went on because of this step, and how their steps ended.
    pub woken: Vec<(u8, Answer, Vec<Output>)>,
}

impl Outcome {
    /// An outcome without output.
    pub fn plain(answer: Answer) -> Self {
        Self {
            answer,
            outputs: Vec::new(),
            view: None,
            woken: Vec::new(),
        }
    }
}

/// Numbers files by the order in which they are first seen.
#[derive(Clone, Debug, Default)]
pub struct FileNames(Vec<u64>);

impl FileNames {
    /// Returns a file's number.
    pub fn number(&mut self, inode: u64) -> u64 {
        if inode == 0 {
            return 0;
        }
        let known = self.0.iter().position(|seen| *seen == inode);
        let index = known.unwrap_or_else(|| {
            self.0.push(inode);
            self.0.len() - 1
        });
        index as u64 + 1
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(value) => write!(f, "{value:#x}"),
            Self::Errno(errno) => write!(f, "{errno:?}"),
            Self::Segv { code, address } => write!(f, "SIGSEGV {code} at {address:#x}"),
            Self::Bus { code, address, lsb } => {
                write!(f, "SIGBUS {code} at {address:#x} lsb {lsb}")
            }
            Self::Blocked => f.write_str("blocked"),
            Self::Ended => f.write_str("ended"),
            Self::Endless => f.write_str("endless"),
            Self::LeftOut => f.write_str("left out"),
            Self::Refused => f.write_str("refused"),
        }
    }
}

impl Answer {
    /// The answer without its values.
    pub fn ending(&self) -> Ending {
        match *self {
            Self::Value(_) => Ending::Ok,
            Self::Errno(errno) => Ending::Errno(errno),
            Self::Segv { code, .. } => Ending::Segv(code),
            Self::Bus { code, .. } => Ending::Bus(code),
            Self::Blocked => Ending::Blocked,
            Self::Ended => Ending::Ended,
            Self::Endless => Ending::Endless,
            Self::LeftOut | Self::Refused => Ending::LeftOut,
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ok => f.write_str("ok"),
            Self::Errno(errno) => write!(f, "{errno:?}"),
            Self::Segv(code) => write!(f, "SIGSEGV {code}"),
            Self::Bus(code) => write!(f, "SIGBUS {code}"),
            Self::Blocked => f.write_str("blocked"),
            Self::Ended => f.write_str("ended"),
            Self::Endless => f.write_str("endless"),
            Self::LeftOut => f.write_str("left out"),
        }
    }
}

impl fmt::Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for area in &self.areas {
            let Area {
                start,
                end,
                access: bits,
                offset,
                file,
                page_size,
            } = area;
            write!(
                f,
                "{start:#x}-{end:#x} {} {offset:#x} file {file}",
                access(*bits)
            )?;
            writeln!(f, " pages of {page_size:#x}")?;
        }
        let runs = self.entries.chunk_by(|one, other| one == other);
        let mut page = 0;
        for run in runs {
            if run[0] != 0 {
                write!(f, "{page}..{}:{} ", page + run.len(), letters(run[0]))?;
            }
            page += run.len();
        }
        Ok(())
    }
}
