//! Turns an operation into commands of a puppet.

use sys::puppet::{Arg, Script, ScriptError, Span, System, Token, Transfer, Way};

use super::uapi::{self, uffdio};
use crate::program::{Address, Amount, Closeable, Geometry, Op};

/// The most regions that a scan may ask for.
const REGIONS_MAX: u64 = 4096; // not a page size
/// The most bytes that are read from a pipe at once.
const PIPE_READ_MAX: u64 = 1 << 16;

/// Why an operation can't be carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// It names memory that it may not, or the batch is full.
    #[error("{0}")]
    Script(#[from] ScriptError),
    /// It names an address that no step returned.
    #[error("step {0} returned no address")]
    NotChosen(u32),
    /// A source of bytes that there is not.
    #[error("there are no pages filled with {0:#x}")]
    Pattern(u8),
    /// More than a lane is given room for.
    #[error("{0} is more than a program may ask for")]
    TooMuch(u64),
}

/// An operation that was compiled.
#[derive(Clone, Copy, Debug)]
pub(super) struct Compiled {
    /// The command whose answer counts.
    pub(super) main: Token,
    /// Where its structure or buffer lies, if it has one.
    pub(super) at: u32,
}

/// What compiling needs to know.
pub(super) struct Compiler<'a> {
    pub(super) script: &'a mut Script,
    pub(super) geometry: Geometry,
    /// The addresses that steps returned.
    pub(super) chosen: &'a [Option<u64>],
}

impl Compiler<'_> {
    fn address(&self, address: Address) -> Result<u64, CompileError> {
        Ok(match address {
            Address::Arena(amount) => {
                sys::puppet::Arena::START.wrapping_add(amount.resolve(self.geometry))
            }
            Address::Raw(raw) => raw,
            Address::Pattern(byte) => {
                let known = sys::puppet::PATTERNS
                    .iter()
                    .position(|known| *known == byte);
                self.script
                    .pattern_address(known.ok_or(CompileError::Pattern(byte))?)
            }
            Address::Chosen(step, amount) => {
                let chosen = self.chosen.get(step as usize).copied().flatten();
                let chosen = chosen.ok_or(CompileError::NotChosen(step))?;
                chosen.wrapping_add(amount.resolve(self.geometry))
            }
        })
    }

    fn len(&self, amount: Amount) -> u64 {
        amount.resolve(self.geometry)
    }

    fn span(&self, address: Address, len: Amount) -> Result<Span, CompileError> {
        let span = Span {
            start: self.address(address)?,
            len: self.len(len),
        };
        self.script.check(span)?;
        Ok(span)
    }

    fn call(&mut self, system: System, args: &[u64]) -> Result<Compiled, CompileError> {
        let mut all = [Arg::Value(0); 6];
        for (arg, value) in all.iter_mut().zip(args) {
            *arg = Arg::Value(*value);
        }
        let main = self.script.call(system, &all[..args.len()])?;
        Ok(Compiled { main, at: 0 })
    }

    /// Makes a call that returns a descriptor, and moves that to a number of ours.
    fn descriptor(
        &mut self,
        system: System,
        args: &[Arg],
        number: u64,
    ) -> Result<Compiled, CompileError> {
        let main = self.script.call(system, args)?;
        let moved = [main.arg(), Arg::Value(number), Arg::Value(0)];
        self.script.call(System::Dup3, &moved)?;
        self.script.call(System::Close, &[main.arg()])?;
        Ok(Compiled { main, at: 0 })
    }

    /// Makes an ioctl on a structure.
    fn ioctl(&mut self, fd: u64, number: u64, words: &[u64]) -> Result<Compiled, CompileError> {
        let at = self.script.words(words)?;
        let args = [Arg::Value(fd), Arg::Value(number), Arg::Data(at)];
        let main = self.script.call(System::Ioctl, &args)?;
        Ok(Compiled { main, at })
    }

    pub(super) fn compile(&mut self, op: &Op) -> Result<Compiled, CompileError> {
        match *op {
            Op::Mmap { .. }
            | Op::Munmap { .. }
            | Op::Mprotect { .. }
            | Op::Mremap { .. }
            | Op::Madvise { .. }
            | Op::Mlock { .. }
            | Op::Munlock { .. }
            | Op::Mincore { .. } => self.mapping(op),
            Op::Load { address } => self.load(address, 1),
            Op::LoadWord { address } => self.load(address, 8),
            Op::Store { address, value } => self.store(address, 1, value.0.into()),
            Op::StoreWord { address, value } => self.store(address, 8, value.0),
            Op::Look {} => self.call(System::Madvise, &[sys::puppet::Arena::START, 0, 0]),
            Op::Fork { lane } => Ok(plain(self.script.fork(lane.0)?)),
            Op::Thread { lane } => Ok(plain(self.script.thread(lane.0)?)),
            Op::Exit {} => Ok(plain(self.script.exit()?)),
            Op::ClearRefs { value } => Ok(plain(self.script.clear_refs(value.0)?)),
            Op::Memfd { .. }
            | Op::Ftruncate { .. }
            | Op::Fallocate { .. }
            | Op::Seal { .. }
            | Op::Close { .. }
            | Op::Peek { .. }
            | Op::Pread { .. }
            | Op::Pwrite { .. } => self.file(op),
            Op::MakePipe { .. }
            | Op::Vmsplice { .. }
            | Op::PipeRead { .. }
            | Op::PipeInto { .. }
            | Op::PipeFrom { .. } => self.pipe(op),
            Op::VmRead {
                lane,
                remote,
                len,
                local,
            } => self.remote(System::ProcessVmReadv, lane.0, (remote, local), len),
            Op::VmWrite {
                lane,
                remote,
                len,
                local,
            } => self.remote(System::ProcessVmWritev, lane.0, (remote, local), len),
            Op::MakeRing { .. }
            | Op::Pin { .. }
            | Op::Unpin { .. }
            | Op::RingRead { .. }
            | Op::RingWrite { .. } => self.ring(op),
            Op::Scan { .. } => self.scan(op),
            _ => self.userfault(op),
        }
    }

    fn load(&mut self, address: Address, width: u64) -> Result<Compiled, CompileError> {
        let address = self.address(address)?;
        Ok(plain(self.script.load(address, width)?))
    }

    fn store(
        &mut self,
        address: Address,
        width: u64,
        value: u64,
    ) -> Result<Compiled, CompileError> {
        let address = self.address(address)?;
        Ok(plain(self.script.store(address, width, value)?))
    }

    fn mapping(&mut self, op: &Op) -> Result<Compiled, CompileError> {
        match *op {
            Op::Mmap {
                address,
                len,
                prot,
                flags,
                file,
                offset,
            } => {
                let file = file.0.map_or(u64::from(u32::MAX), uapi::file);
                let (address, offset) = (self.address(address)?, self.len(offset));
                let args = [address, self.len(len), prot.0, flags.0, file, offset];
                self.call(System::Mmap, &args)
            }
            Op::Munmap { address, len } => {
                self.call(System::Munmap, &[self.address(address)?, self.len(len)])
            }
            Op::Mprotect { address, len, prot } => self.call(
                System::Mprotect,
                &[self.address(address)?, self.len(len), prot.0],
            ),
            Op::Mremap {
                address,
                old,
                new,
                flags,
                target,
            } => {
                let (address, target) = (self.address(address)?, self.address(target)?);
                let args = [address, self.len(old), self.len(new), flags.0, target];
                self.call(System::Mremap, &args)
            }
            Op::Madvise {
                address,
                len,
                advice,
            } => self.call(
                System::Madvise,
                &[self.address(address)?, self.len(len), advice.0],
            ),
            Op::Mlock {
                address,
                len,
                flags,
            } => self.call(
                System::Mlock2,
                &[self.address(address)?, self.len(len), flags.0],
            ),
            Op::Munlock { address, len } => {
                self.call(System::Munlock, &[self.address(address)?, self.len(len)])
            }
            Op::Mincore { address, len } => {
                let span = self.span(address, len)?;
                let wraps = span.start.checked_add(span.len).is_none();
                let pages = if wraps {
                    0
                } else {
                    span.len.div_ceil(self.geometry.page)
                };
                let at = self.script.buffer(usize::try_from(pages).unwrap_or(0))?;
                let args = [Arg::Value(span.start), Arg::Value(span.len), Arg::Data(at)];
                let main = self.script.call(System::Mincore, &args)?;
                Ok(Compiled { main, at })
            }
            _ => unreachable!("the caller passes these operations only"),
        }
    }

    fn file(&mut self, op: &Op) -> Result<Compiled, CompileError> {
        match *op {
            Op::Memfd { file, flags } => {
                let name = self.script.words(&[u64::from(b'm')])?;
                let args = [Arg::Data(name), Arg::Value(flags.0)];
                self.descriptor(System::MemfdCreate, &args, uapi::file(file))
            }
            Op::Ftruncate { file, len } => {
                self.call(System::Ftruncate, &[uapi::file(file), self.len(len)])
            }
            Op::Fallocate {
                file,
                mode,
                offset,
                len,
            } => {
                let args = [uapi::file(file), mode.0, self.len(offset), self.len(len)];
                self.call(System::Fallocate, &args)
            }
            Op::Seal { file, seals } => self.call(
                System::Fcntl,
                &[uapi::file(file), uapi::F_ADD_SEALS, seals.0],
            ),
            Op::Close { what } => self.close(what),
            Op::Peek { file, offset } => {
                let at = self.script.buffer(8)?;
                let (fd, offset) = (uapi::file(file), self.len(offset));
                let args = [
                    Arg::Value(fd),
                    Arg::Data(at),
                    Arg::Value(1),
                    Arg::Value(offset),
                ];
                let main = self.script.call(System::Pread, &args)?;
                Ok(Compiled { main, at })
            }
            Op::Pread {
                file,
                address,
                len,
                offset,
            } => {
                let span = self.span(address, len)?;
                let args = [uapi::file(file), span.start, span.len, self.len(offset)];
                self.call(System::Pread, &args)
            }
            Op::Pwrite {
                file,
                address,
                len,
                offset,
            } => {
                let span = self.span(address, len)?;
                let args = [uapi::file(file), span.start, span.len, self.len(offset)];
                self.call(System::Pwrite, &args)
            }
            _ => unreachable!("the caller passes these operations only"),
        }
    }

    fn close(&mut self, what: Closeable) -> Result<Compiled, CompileError> {
        let mut last = None;
        for fd in uapi::descriptors(what) {
            last = Some(self.call(System::Close, &[fd])?);
        }
        Ok(last.expect("everything has a descriptor"))
    }

    fn pipe(&mut self, op: &Op) -> Result<Compiled, CompileError> {
        match *op {
            Op::MakePipe { pipe } => {
                let at = self.script.buffer(8)?;
                let args = [Arg::Data(at), Arg::Value(uapi::O_NONBLOCK)];
                let main = self.script.call(System::Pipe2, &args)?;
                let (read, write) = uapi::pipe(pipe);
                for (end, number) in [(at, read), (at + 4, write)] {
                    let moved = [Arg::Word(end), Arg::Value(number), Arg::Value(0)];
                    self.script.call(System::Dup3, &moved)?;
                    self.script.call(System::Close, &[Arg::Word(end)])?;
                }
                Ok(Compiled { main, at })
            }
            Op::Vmsplice {
                pipe,
                address,
                len,
                flags,
            } => {
                let span = self.span(address, len)?;
                let vector = self.script.words(&[span.start, span.len])?;
                let fd = Arg::Value(uapi::pipe(pipe).1);
                let args = [fd, Arg::Data(vector), Arg::Value(1), Arg::Value(flags.0)];
                Ok(plain(self.script.call(System::Vmsplice, &args)?))
            }
            Op::PipeRead { pipe, len } => {
                let len = self.len(len);
                if len > PIPE_READ_MAX {
                    return Err(CompileError::TooMuch(len));
                }
                let at = self.script.buffer(usize::try_from(len).unwrap_or(0))?;
                let fd = Arg::Value(uapi::pipe(pipe).0);
                let main = self
                    .script
                    .call(System::Read, &[fd, Arg::Data(at), Arg::Value(len)])?;
                Ok(Compiled { main, at })
            }
            Op::PipeInto { pipe, address, len } => {
                let span = self.span(address, len)?;
                self.call(System::Read, &[uapi::pipe(pipe).0, span.start, span.len])
            }
            Op::PipeFrom { pipe, address, len } => {
                let span = self.span(address, len)?;
                self.call(System::Write, &[uapi::pipe(pipe).1, span.start, span.len])
            }
            _ => unreachable!("the caller passes these operations only"),
        }
    }

    fn remote(
        &mut self,
        system: System,
        lane: u8,
        (remote, local): (Address, Address),
        len: Amount,
    ) -> Result<Compiled, CompileError> {
        let (remote, local) = (self.span(remote, len)?, self.span(local, len)?);
        let local = self.script.words(&[local.start, local.len])?;
        let remote = self.script.words(&[remote.start, remote.len])?;
        let one = Arg::Value(1);
        let args = [
            Arg::Lane(lane),
            Arg::Data(local),
            one,
            Arg::Data(remote),
            one,
        ];
        Ok(plain(self.script.call(system, &args)?))
    }

    fn ring(&mut self, op: &Op) -> Result<Compiled, CompileError> {
        match *op {
            Op::MakeRing { ring } => Ok(plain(self.script.ring_make(uapi::ring(ring))?)),
            Op::Pin { ring, address, len } => {
                let span = self.span(address, len)?;
                Ok(plain(self.script.ring_pin(uapi::ring(ring), span)?))
            }
            Op::Unpin { ring } => Ok(plain(self.script.ring_unpin(uapi::ring(ring))?)),
            Op::RingRead {
                ring,
                file,
                offset,
                address,
                len,
            }
            | Op::RingWrite {
                ring,
                file,
                offset,
                address,
                len,
            } => {
                let reads = matches!(op, Op::RingRead { .. });
                let transfer = Transfer {
                    ring: uapi::ring(ring),
                    file: uapi::file(file),
                    offset: self.len(offset),
                    span: self.span(address, len)?,
                    way: if reads { Way::ToMemory } else { Way::ToFile },
                };
                Ok(plain(self.script.ring_move(transfer)?))
            }
            _ => unreachable!("the caller passes these operations only"),
        }
    }

    fn scan(&mut self, op: &Op) -> Result<Compiled, CompileError> {
        let Op::Scan {
            start,
            end,
            flags,
            regions,
            pages_max,
            inverted,
            mask,
            anyof,
            shown,
        } = *op
        else {
            unreachable!("the caller passes scans only");
        };
        let (start, end) = (self.address(start)?, self.address(end)?);
        let len = end.checked_sub(start).unwrap_or(u64::MAX);
        self.script.check(Span { start, len })?;
        if regions.0 > REGIONS_MAX {
            return Err(CompileError::TooMuch(regions.0));
        }
        let buffer = self
            .script
            .buffer(usize::try_from(regions.0).unwrap_or(0) * 24)?;
        let vector = if regions.0 == 0 {
            0
        } else {
            self.script.data_address(buffer)
        };
        let words = [
            96,
            flags.0,
            start,
            end,
            0,
            vector,
            regions.0,
            pages_max.0,
            inverted.0,
            mask.0,
            anyof.0,
            shown.0,
        ];
        let scan = self.ioctl(uapi::PAGEMAP, uapi::PAGEMAP_SCAN, &words)?;
        // The regions lie right before the structure.
        Ok(Compiled {
            main: scan.main,
            at: buffer,
        })
    }

    fn userfault(&mut self, op: &Op) -> Result<Compiled, CompileError> {
        match *op {
            Op::Userfaultfd { context, flags } => {
                let args = [Arg::Value(flags.0)];
                self.descriptor(System::Userfaultfd, &args, uapi::context(context))
            }
            Op::Api {
                context,
                api,
                features,
            } => self.ioctl(uapi::context(context), uffdio::API, &[api.0, features.0, 0]),
            Op::SetMode {
                context,
                enable,
                disable,
            } => {
                let words = [enable.0, disable.0];
                self.ioctl(uapi::context(context), uffdio::SET_MODE, &words)
            }
            Op::Register {
                context,
                address,
                len,
                mode,
            } => {
                let span = self.span(address, len)?;
                let words = [span.start, span.len, mode.0, 0];
                self.ioctl(uapi::context(context), uffdio::REGISTER, &words)
            }
            Op::Unregister {
                context,
                address,
                len,
            } => {
                let span = self.span(address, len)?;
                self.ioctl(
                    uapi::context(context),
                    uffdio::UNREGISTER,
                    &[span.start, span.len],
                )
            }
            Op::Wake {
                context,
                address,
                len,
            } => {
                let span = self.span(address, len)?;
                self.ioctl(
                    uapi::context(context),
                    uffdio::WAKE,
                    &[span.start, span.len],
                )
            }
            Op::Copy {
                context,
                target,
                source,
                len,
                mode,
            } => {
                let (target, source) = (self.span(target, len)?, self.span(source, len)?);
                let words = [target.start, source.start, target.len, mode.0, 0];
                self.ioctl(uapi::context(context), uffdio::COPY, &words)
            }
            Op::Move {
                context,
                target,
                source,
                len,
                mode,
            } => {
                let (target, source) = (self.span(target, len)?, self.span(source, len)?);
                let words = [target.start, source.start, target.len, mode.0, 0];
                self.ioctl(uapi::context(context), uffdio::MOVE, &words)
            }
            Op::Zeropage {
                context,
                address,
                len,
                mode,
            } => self.filler(uffdio::ZEROPAGE, context, (address, len), mode.0),
            Op::Continue {
                context,
                address,
                len,
                mode,
            } => self.filler(uffdio::CONTINUE, context, (address, len), mode.0),
            Op::Poison {
                context,
                address,
                len,
                mode,
            } => self.filler(uffdio::POISON, context, (address, len), mode.0),
            Op::Writeprotect {
                context,
                address,
                len,
                mode,
            } => {
                let span = self.span(address, len)?;
                let words = [span.start, span.len, mode.0];
                self.ioctl(uapi::context(context), uffdio::WRITEPROTECT, &words)
            }
            Op::Rwprotect {
                context,
                address,
                len,
                mode,
            } => {
                let span = self.span(address, len)?;
                let words = [span.start, span.len, mode.0];
                self.ioctl(uapi::context(context), uffdio::RWPROTECT, &words)
            }
            Op::ReadEvent { context, .. } => {
                let at = self.script.buffer(32)?;
                let fd = Arg::Value(uapi::context(context));
                let main = self
                    .script
                    .call(System::Read, &[fd, Arg::Data(at), Arg::Value(32)])?;
                Ok(Compiled { main, at })
            }
            _ => unreachable!("every other operation has its own function"),
        }
    }

    fn filler(
        &mut self,
        number: u64,
        context: crate::program::Context,
        (address, len): (Address, Amount),
        mode: u64,
    ) -> Result<Compiled, CompileError> {
        let span = self.span(address, len)?;
        let words = [span.start, span.len, mode, 0];
        self.ioctl(uapi::context(context), number, &words)
    }
}

fn plain(main: Token) -> Compiled {
    Compiled { main, at: 0 }
}
