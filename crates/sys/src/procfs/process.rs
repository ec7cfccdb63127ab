//! A process's directory in `/proc`, held open.

use std::fs::File;
use std::io::Read;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, Mode, OFlags, RawDir, Stat as Stat64, openat, readlinkat, statat};
use space::{Errno, Mapping, PageSize};

use super::descriptors::{Descriptor, FdInfo};
use super::error::ProcfsError;
use super::executable::ElfKind;
use super::maps;
use super::smaps::{self, Smap};
use super::stat::Stat;
use super::status::Status;
use super::text::{fields, hex, small};

/// A process, or one task of it, by its directory in `/proc`.
///
/// The directory stays open: when the process is gone, every question is answered with
/// [`ProcfsError::Gone`], even after its number was given to another process.
#[derive(Debug)]
pub struct Process {
    pid: u32,
    directory: OwnedFd,
}

impl Process {
    /// Opens `/proc/PID`. That of a process whose first thread ended tells nothing of its memory
    /// and descriptors: see [`task`](Self::task).
    ///
    /// # Errors
    ///
    /// [`ProcfsError::Gone`] where there is no such process, [`ProcfsError::Read`] where `/proc`
    /// is not there or may not be read.
    pub fn open(pid: u32) -> Result<Self, ProcfsError> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let path = format!("/proc/{pid}");
        match rustix::fs::open(&path, flags, Mode::empty()) {
            Ok(directory) => Ok(Self { pid, directory }),
            Err(errno) => Err(opening(pid, &path, errno)),
        }
    }

    /// Opens `/proc/PID/task/TID`.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Self::open) and [`task`](Self::task).
    pub fn open_task(pid: u32, tid: u32) -> Result<Self, ProcfsError> {
        Self::open(pid)?.task(tid)
    }

    /// Opens `task/TID`, which has the same files.
    ///
    /// # Errors
    ///
    /// [`ProcfsError::Gone`] where there is no such task, [`ProcfsError::Read`] where it may not
    /// be looked at.
    pub fn task(&self, tid: u32) -> Result<Self, ProcfsError> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let path = format!("task/{tid}");
        match openat(&self.directory, &path, flags, Mode::empty()) {
            Ok(directory) => Ok(Self {
                pid: tid,
                directory,
            }),
            Err(errno) => Err(opening(tid, &path, errno)),
        }
    }

    /// Returns the id of the process or task.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Returns the open directory.
    pub fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// Reads `file`, a path relative to the directory, into `buf`, whose content is replaced.
    ///
    /// # Errors
    ///
    /// [`ProcfsError::Gone`] where the process is, [`ProcfsError::Read`] else.
    pub fn read_into(&self, file: &str, buf: &mut Vec<u8>) -> Result<(), ProcfsError> {
        const BUFFER_MIN: usize = 1 << 16;
        buf.clear();
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let opened = openat(&self.directory, file, flags, Mode::empty())
            .map_err(|errno| self.error(file, errno.into()))?;
        buf.reserve(BUFFER_MIN);
        File::from(opened)
            .read_to_end(buf)
            .map_err(|error| self.error(file, error))?;
        Ok(())
    }

    /// Reads `file`, a path relative to the directory.
    ///
    /// # Errors
    ///
    /// Those of [`read_into`](Self::read_into).
    pub fn read(&self, file: &str) -> Result<Vec<u8>, ProcfsError> {
        let mut buf = Vec::new();
        self.read_into(file, &mut buf)?;
        Ok(buf)
    }

    /// Opens `file` for reading and closes it again: tells whether we may.
    ///
    /// # Errors
    ///
    /// Those of [`read_into`](Self::read_into).
    pub fn opens(&self, file: &str) -> Result<(), ProcfsError> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let opened = openat(&self.directory, file, flags, Mode::empty());
        opened
            .map(drop)
            .map_err(|errno| self.error(file, errno.into()))
    }

    /// Reads the target of a link, as `exe` or `fd/3`. Bytes that are no UTF-8 are replaced.
    ///
    /// # Errors
    ///
    /// Those of [`read_into`](Self::read_into); `ENOENT` also where a kernel thread has no file.
    pub fn link(&self, file: &str) -> Result<String, ProcfsError> {
        let target = readlinkat(&self.directory, file, Vec::new())
            .map_err(|errno| self.error(file, errno.into()))?;
        Ok(target.to_string_lossy().into_owned())
    }

    /// Appends the mappings to `out`; `buf` is a buffer to be used again.
    ///
    /// Exact only while the process stands still: the kernel writes the list in pieces.
    ///
    /// # Errors
    ///
    /// Those of [`read_into`](Self::read_into) and [`parse_maps`](super::parse_maps).
    pub fn maps(
        &self,
        page_size: PageSize,
        buf: &mut Vec<u8>,
        out: &mut Vec<Mapping>,
    ) -> Result<(), ProcfsError> {
        self.read_into("maps", buf)?;
        maps::parse(buf, page_size, out)
    }

    /// Returns the mappings with all their flags and counters. Slow: the kernel walks the page
    /// tables.
    ///
    /// # Errors
    ///
    /// Those of [`read_into`](Self::read_into) and of [`parse_smaps`](super::parse_smaps).
    pub fn smaps(&self, page_size: PageSize) -> Result<Vec<Smap>, ProcfsError> {
        let mut out = Vec::new();
        smaps::parse(&self.read("smaps")?, page_size, &mut out)?;
        Ok(out)
    }

    /// Reads `smaps_rollup`: what `smaps` counts, of all mappings together. The kernel walks as many
    /// page tables for it, but lets go of the mappings' lock where the process wants it.
    ///
    /// # Errors
    ///
    /// Those of [`smaps`](Self::smaps); `ENOENT` or `ESRCH` where it has no memory.
    pub fn smaps_rollup(&self, page_size: PageSize) -> Result<Smap, ProcfsError> {
        let mut out = Vec::new();
        smaps::parse(&self.read("smaps_rollup")?, page_size, &mut out)?;
        out.pop().ok_or(ProcfsError::Gone { pid: self.pid })
    }

    /// Reads `stat`.
    ///
    /// # Errors
    ///
    /// Those of [`read_into`](Self::read_into) and [`Stat::parse`].
    pub fn stat(&self) -> Result<Stat, ProcfsError> {
        Stat::parse(&self.read("stat")?)
    }

    /// Reads `status`.
    ///
    /// # Errors
    ///
    /// Those of [`read_into`](Self::read_into) and [`Status::parse`].
    pub fn status(&self) -> Result<Status, ProcfsError> {
        Status::parse(&self.read("status")?)
    }

    /// Returns the ids of the tasks, sorted. Of a running process the list may lack some that
    /// were made meanwhile: whoever needs all stops those it found and looks again.
    ///
    /// # Errors
    ///
    /// Those of [`read_into`](Self::read_into).
    pub fn tasks(&self) -> Result<Vec<u32>, ProcfsError> {
        self.numbers("task")
    }

    /// Returns the children that task `tid` made, where the kernel keeps that list.
    ///
    /// # Errors
    ///
    /// Those of [`read_into`](Self::read_into).
    pub fn children(&self, tid: u32) -> Result<Vec<u32>, ProcfsError> {
        let text = self.read(&format!("task/{tid}/children"))?;
        fields(&text)
            .map(small)
            .collect::<Option<_>>()
            .ok_or(ProcfsError::Malformed {
                file: "children",
                line: 1,
            })
    }

    /// Returns the arguments. Bytes that are no UTF-8 are replaced.
    ///
    /// # Errors
    ///
    /// Those of [`read_into`](Self::read_into).
    pub fn command_line(&self) -> Result<Vec<String>, ProcfsError> {
        let text = self.read("cmdline")?;
        let text = text.strip_suffix(b"\0").unwrap_or(&text);
        if text.is_empty() {
            return Ok(Vec::new());
        }
        Ok(text
            .split(|&byte| byte == 0)
            .map(|argument| String::from_utf8_lossy(argument).into_owned())
            .collect())
    }

    /// Returns which kinds of mapping the kernel's dump would take, bit by bit as `core(5)` says.
    ///
    /// # Errors
    ///
    /// Those of [`read_into`](Self::read_into).
    pub fn coredump_filter(&self) -> Result<u64, ProcfsError> {
        let text = self.read("coredump_filter")?;
        hex(text.trim_ascii()).ok_or(ProcfsError::Malformed {
            file: "coredump_filter",
            line: 1,
        })
    }

    /// Returns the kind of the program it runs; `None` where the file is no ELF program.
    ///
    /// # Errors
    ///
    /// Those of [`read_into`](Self::read_into): reading needs the right to trace the process.
    pub fn program_kind(&self) -> Result<Option<ElfKind>, ProcfsError> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = openat(&self.directory, "exe", flags, Mode::empty())
            .map_err(|errno| self.error("exe", errno.into()))?;
        let mut header = [0; ElfKind::HEADER];
        match File::from(file).read_exact(&mut header) {
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
            result => result.map_err(|error| self.error("exe", error))?,
        }
        Ok(ElfKind::parse(&header))
    }

    /// Returns the open descriptors. One that is closed meanwhile is left out.
    ///
    /// # Errors
    ///
    /// Those of [`read_into`](Self::read_into): reading needs the right to trace the process.
    pub fn descriptors(&self) -> Result<Vec<Descriptor>, ProcfsError> {
        let mut descriptors = Vec::new();
        for number in self.numbers("fd")? {
            match self.link(&format!("fd/{number}")) {
                Ok(target) => descriptors.push(Descriptor { number, target }),
                Err(ProcfsError::Read {
                    errno: Errno::ENOENT,
                    ..
                }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(descriptors)
    }

    /// Lists the numbers of its open descriptors.
    ///
    /// # Errors
    ///
    /// Those of [`read_into`](Self::read_into).
    pub(crate) fn descriptor_numbers(&self) -> Result<Vec<u32>, ProcfsError> {
        self.numbers("fd")
    }

    /// Asks for the status of the file that descriptor `number` refers to.
    ///
    /// # Errors
    ///
    /// Those of [`read_into`](Self::read_into), and those of asking the file.
    pub(crate) fn descriptor_status(&self, number: u32) -> Result<Stat64, ProcfsError> {
        let file = format!("fd/{number}");
        statat(&self.directory, &file, AtFlags::empty())
            .map_err(|errno| self.error(&file, errno.into()))
    }

    /// Reads what is known of the descriptor `number`.
    ///
    /// # Errors
    ///
    /// Those of [`read_into`](Self::read_into) and [`FdInfo::parse`].
    pub fn descriptor_info(&self, number: u32) -> Result<FdInfo, ProcfsError> {
        FdInfo::parse(&self.read(&format!("fdinfo/{number}"))?)
    }

    /// Returns the protocol of the socket that descriptor `number` refers to, as the kernel
    /// names it (`TCP`, `XDP`, `PACKET`, …); `None` where it does not say.
    pub fn socket_protocol(&self, number: u32) -> Option<String> {
        let path = format!(
            "/proc/thread-self/fd/{}/fd/{number}",
            self.directory.as_raw_fd()
        );
        let mut name = [0_u8; 64];
        let length = rustix::fs::getxattr(path, "system.sockprotoname", &mut name[..]).ok()?;
        let name = name.get(..length)?.trim_ascii_end();
        let name = name.strip_suffix(b"\0").unwrap_or(name);
        Some(String::from_utf8_lossy(name).into_owned())
    }

    /// Returns the names in a directory that are numbers, sorted.
    fn numbers(&self, directory: &str) -> Result<Vec<u32>, ProcfsError> {
        const BUFFER: usize = 1 << 15;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = openat(&self.directory, directory, flags, Mode::empty())
            .map_err(|errno| self.error(directory, errno.into()))?;
        let mut buffer = Box::new([MaybeUninit::uninit(); BUFFER]);
        let mut numbers = Vec::new();
        let mut entries = RawDir::new(opened, &mut buffer[..]);
        while let Some(entry) = entries.next() {
            let entry = entry.map_err(|errno| self.error(directory, errno.into()))?;
            numbers.extend(small::<u32>(entry.file_name().to_bytes()));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Turns an error of the kernel into ours. A missing file means a missing process only if
    /// the whole directory is empty.
    fn error(&self, file: &str, error: std::io::Error) -> ProcfsError {
        let errno = Errno::from(error);
        let gone = errno == Errno::ESRCH
            || errno == Errno::ENOENT && statat(&self.directory, "stat", AtFlags::empty()).is_err();
        if gone {
            ProcfsError::Gone { pid: self.pid }
        } else {
            ProcfsError::Read {
                pid: self.pid,
                file: file.into(),
                errno,
            }
        }
    }
}

/// What it means that a directory could not be opened.
fn opening(pid: u32, path: &str, errno: rustix::io::Errno) -> ProcfsError {
    match errno {
        rustix::io::Errno::NOENT | rustix::io::Errno::SRCH => ProcfsError::Gone { pid },
        other => ProcfsError::Read {
            pid,
            file: path.into(),
            errno: Errno(other.raw_os_error()),
        },
    }
}
