//! What a puppet can be told, and how a command lies on the board.

/// The system calls that a puppet may make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum System {
    /// `mmap(2)`.
    Mmap,
    /// `munmap(2)`.
    Munmap,
    /// `mprotect(2)`.
    Mprotect,
    /// `mremap(2)`.
    Mremap,
    /// `madvise(2)`.
    Madvise,
    /// `mlock2(2)`.
    Mlock2,
    /// `munlock(2)`.
    Munlock,
    /// `mincore(2)`.
    Mincore,
    /// `memfd_create(2)`.
    MemfdCreate,
    /// `ftruncate(2)`.
    Ftruncate,
    /// `fallocate(2)`.
    Fallocate,
    /// `fcntl(2)`.
    Fcntl,
    /// `close(2)`.
    Close,
    /// `dup3(2)`.
    Dup3,
    /// `pread64(2)`.
    Pread,
    /// `pwrite64(2)`.
    Pwrite,
    /// `read(2)`.
    Read,
    /// `write(2)`.
    Write,
    /// `pipe2(2)`.
    Pipe2,
    /// `vmsplice(2)`.
    Vmsplice,
    /// `process_vm_readv(2)`; the process is always an [`Arg::Lane`].
    ProcessVmReadv,
    /// `process_vm_writev(2)`; the process is always an [`Arg::Lane`].
    ProcessVmWritev,
    /// `userfaultfd(2)`.
    Userfaultfd,
    /// `ioctl(2)`.
    Ioctl,
    /// `close_range(2)`.
    CloseRange,
}

impl System {
    /// Every call, in the order of their numbers on the board.
    pub(super) const ALL: &[Self] = &[
        Self::Mmap,
        Self::Munmap,
        Self::Mprotect,
        Self::Mremap,
        Self::Madvise,
        Self::Mlock2,
        Self::Munlock,
        Self::Mincore,
        Self::MemfdCreate,
        Self::Ftruncate,
        Self::Fallocate,
        Self::Fcntl,
        Self::Close,
        Self::Dup3,
        Self::Pread,
        Self::Pwrite,
        Self::Read,
        Self::Write,
        Self::Pipe2,
        Self::Vmsplice,
        Self::ProcessVmReadv,
        Self::ProcessVmWritev,
        Self::Userfaultfd,
        Self::Ioctl,
        Self::CloseRange,
    ];

    /// The kernel's number of the call.
    pub(super) fn number(self) -> libc::c_long {
        match self {
            Self::Mmap => libc::SYS_mmap,
            Self::Munmap => libc::SYS_munmap,
            Self::Mprotect => libc::SYS_mprotect,
            Self::Mremap => libc::SYS_mremap,
            Self::Madvise => libc::SYS_madvise,
            Self::Mlock2 => libc::SYS_mlock2,
            Self::Munlock => libc::SYS_munlock,
            Self::Mincore => libc::SYS_mincore,
            Self::MemfdCreate => libc::SYS_memfd_create,
            Self::Ftruncate => libc::SYS_ftruncate,
            Self::Fallocate => libc::SYS_fallocate,
            Self::Fcntl => libc::SYS_fcntl,
            Self::Close => libc::SYS_close,
            Self::Dup3 => libc::SYS_dup3,
            Self::Pread => libc::SYS_pread64,
            Self::Pwrite => libc::SYS_pwrite64,
            Self::Read => libc::SYS_read,
            Self::Write => libc::SYS_write,
            Self::Pipe2 => libc::SYS_pipe2,
            Self::Vmsplice => libc::SYS_vmsplice,
            Self::ProcessVmReadv => libc::SYS_process_vm_readv,
            Self::ProcessVmWritev => libc::SYS_process_vm_writev,
            Self::Userfaultfd => libc::SYS_userfaultfd,
            Self::Ioctl => libc::SYS_ioctl,
            Self::CloseRange => libc::SYS_close_range,
        }
    }

    /// Which arguments are the start and the length of memory that the call works on.
    pub(super) fn spans(self) -> &'static [(usize, usize)] {
        match self {
            Self::Mmap
            | Self::Munmap
            | Self::Mprotect
            | Self::Madvise
            | Self::Mlock2
            | Self::Munlock
            | Self::Mincore => &[(0, 1)],
            Self::Mremap => &[(0, 1), (0, 2), (4, 2)],
            Self::Pread | Self::Pwrite | Self::Read | Self::Write => &[(1, 2)],
            _ => &[],
        }
    }
}

/// An argument of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arg {
    /// A number.
    Value(u64),
    /// The address of data on the board.
    Data(u32),
    /// What an earlier command answered, by its index.
    Reply(u32),
    /// 32 bits of the board's data, read when the call is made.
    Word(u32),
    /// The process id of a lane.
    Lane(u8),
}

impl Arg {
    pub(super) fn pack(self) -> (u8, u64) {
        match self {
            Self::Value(value) => (0, value),
            Self::Data(at) => (1, at.into()),
            Self::Reply(index) => (2, index.into()),
            Self::Word(at) => (3, at.into()),
            Self::Lane(lane) => (4, lane.into()),
        }
    }

    pub(super) fn unpack(kind: u8, value: u64) -> Self {
        let small = u32::try_from(value).unwrap_or(0);
        match kind {
            1 => Self::Data(small),
            2 => Self::Reply(small),
            3 => Self::Word(small),
            4 => Self::Lane(u8::try_from(value).unwrap_or(0)),
            _ => Self::Value(value),
        }
    }
}

/// One command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// A system call.
    Call(System, [Arg; 6]),
    /// A load of 1 or 8 bytes.
    Load { address: u64, width: u64 },
    /// A store of 1 or 8 bytes.
    Store {
        address: u64,
        width: u64,
        value: u64,
    },
    /// Mappings and pagemap entries of `start..end`, written to the data at `out`.
    Look {
        start: u64,
        end: u64,
        out: u32,
        areas_max: u32,
    },
    /// A new process that becomes `lane`.
    Fork { lane: u8 },
    /// A new thread that becomes `lane`.
    Thread { lane: u8 },
    /// The end of the process.
    Exit,
    /// Writes a number to the process's `clear_refs`.
    ClearRefs { value: u8 },
    /// Switches transparent huge pages off (1) or on (0) for the process.
    HugeOff { value: u64 },
    /// Makes an io_uring whose descriptor gets the number `fd`.
    RingMake { fd: u64 },
    /// Registers one fixed buffer.
    RingPin { fd: u64, address: u64, len: u64 },
    /// Drops the fixed buffers.
    RingUnpin { fd: u64 },
    /// Reads from a file into the fixed buffer (or the other way, for `write`).
    RingMove {
        fd: u64,
        file: u64,
        offset: u64,
        address: u64,
        len: u64,
        write: bool,
    },
}

/// How many words a command takes.
pub(super) const WORDS: usize = 10;

impl Command {
    pub(super) fn pack(self) -> [u64; WORDS] {
        let mut words = [0; WORDS];
        match self {
            Self::Call(system, args) => {
                words[0] = 0;
                words[1] = system as u64;
                for (at, arg) in args.into_iter().enumerate() {
                    let (kind, value) = arg.pack();
                    words[2] |= u64::from(kind) << (8 * at);
                    words[3 + at] = value;
                }
            }
            Self::Load { address, width } => words[..3].copy_from_slice(&[1, address, width]),
            Self::Store {
                address,
                width,
                value,
            } => {
                words[..4].copy_from_slice(&[2, address, width, value]);
            }
            Self::Look {
                start,
                end,
                out,
                areas_max,
            } => {
                words[..5].copy_from_slice(&[3, start, end, out.into(), areas_max.into()]);
            }
            Self::Fork { lane } => words[..2].copy_from_slice(&[4, lane.into()]),
            Self::Thread { lane } => words[..2].copy_from_slice(&[5, lane.into()]),
            Self::Exit => words[0] = 6,
            Self::ClearRefs { value } => words[..2].copy_from_slice(&[7, value.into()]),
            Self::HugeOff { value } => words[..2].copy_from_slice(&[8, value]),
            Self::RingMake { fd } => words[..2].copy_from_slice(&[9, fd]),
            Self::RingPin { fd, address, len } => {
                words[..4].copy_from_slice(&[10, fd, address, len]);
            }
            Self::RingUnpin { fd } => words[..2].copy_from_slice(&[11, fd]),
            Self::RingMove {
                fd,
                file,
                offset,
                address,
                len,
                write,
            } => {
                words[..7].copy_from_slice(&[12, fd, file, offset, address, len, write.into()]);
            }
        }
        words
    }

    /// Reads a command from the board, or `None` where there is none.
    pub(super) fn unpack(words: [u64; WORDS]) -> Option<Self> {
        let small = |word: u64| u32::try_from(word).unwrap_or(u32::MAX);
        let tiny = |word: u64| u8::try_from(word).unwrap_or(u8::MAX);
        Some(match words[0] {
            0 => {
                let mut args = [Arg::Value(0); 6];
                for (at, arg) in args.iter_mut().enumerate() {
                    let kind = tiny((words[2] >> (8 * at)) & 0xFF);
                    *arg = Arg::unpack(kind, words[3 + at]);
                }
                let system = System::ALL.get(usize::try_from(words[1]).ok()?)?;
                Self::Call(*system, args)
            }
            1 => Self::Load {
                address: words[1],
                width: words[2],
            },
            2 => Self::Store {
                address: words[1],
                width: words[2],
                value: words[3],
            },
            3 => Self::Look {
                start: words[1],
                end: words[2],
                out: small(words[3]),
                areas_max: small(words[4]),
            },
            4 => Self::Fork {
                lane: tiny(words[1]),
            },
            5 => Self::Thread {
                lane: tiny(words[1]),
            },
            6 => Self::Exit,
            7 => Self::ClearRefs {
                value: tiny(words[1]),
            },
            8 => Self::HugeOff { value: words[1] },
            9 => Self::RingMake { fd: words[1] },
            10 => Self::RingPin {
                fd: words[1],
                address: words[2],
                len: words[3],
            },
            11 => Self::RingUnpin { fd: words[1] },
            12 => Self::RingMove {
                fd: words[1],
                file: words[2],
                offset: words[3],
                address: words[4],
                len: words[5],
                write: words[6] != 0,
            },
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_survive_the_board() {
        let args = [
            Arg::Value(u64::MAX),
            Arg::Data(7),
            Arg::Reply(9),
            Arg::Word(11),
            Arg::Lane(3),
            Arg::Value(0),
        ];
        let ring = Command::RingMove {
            fd: 1,
            file: 2,
            offset: 3,
            address: 4,
            len: 5,
            write: true,
        };
        for command in [
            Command::Call(System::CloseRange, args),
            Command::Load {
                address: 1,
                width: 8,
            },
            Command::Store {
                address: 1,
                width: 8,
                value: 5,
            },
            Command::Look {
                start: 1,
                end: 2,
                out: 3,
                areas_max: 4,
            },
            Command::Fork { lane: 2 },
            Command::Thread { lane: 2 },
            Command::Exit,
            Command::ClearRefs { value: 4 },
            Command::HugeOff { value: 1 },
            Command::RingMake { fd: 160 },
            Command::RingPin {
                fd: 160,
                address: 1,
                len: 2,
            },
            Command::RingUnpin { fd: 160 },
            ring,
        ] {
            assert_eq!(Command::unpack(command.pack()), Some(command));
        }
        assert_eq!(Command::unpack([99; WORDS]), None);
    }

    #[test]
    fn every_call_has_its_place_in_the_list() {
        for (at, system) in System::ALL.iter().enumerate() {
            assert_eq!(*system as usize, at);
        }
    }
}
