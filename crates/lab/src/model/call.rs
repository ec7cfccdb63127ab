//! The operations but those of userfaultfds.

use mm::{Fd, Iovec, Mmap, Mremap, PagemapScan, Pid, Tid};
use space::Errno;

use super::board::{self, SCRATCH};
use super::{Halt, Lane, Model, NOWHERE, Shown};
use crate::outcome::Output;
use crate::program::{Address, Amount, Closeable, FileSlot, LaneSlot, Op, Pipe, Ring};

impl Model {
    /// Carries out an operation. `choice` is the address that the kernel chose, if it chose one.
    pub(super) fn carry_out(&mut self, tid: Tid, op: &Op, choice: Option<u64>) -> Shown {
        match *op {
            Op::Mmap { .. } | Op::Mremap { .. } => self.placed(tid, op, choice),
            Op::Munmap { address, len } => {
                let (address, len) = (self.address(address), self.len(len));
                self.machine.munmap(tid, address, len).into()
            }
            Op::Mprotect { address, len, prot } => {
                let (address, len) = (self.address(address), self.len(len));
                self.machine.mprotect(tid, address, len, prot.0).into()
            }
            Op::Madvise {
                address,
                len,
                advice,
            } => {
                let (address, len) = (self.address(address), self.len(len));
                let advice = i32::try_from(int(advice.0)).unwrap_or(-1);
                self.machine.madvise(tid, address, len, advice).into()
            }
            Op::Mlock {
                address,
                len,
                flags,
            } => {
                let (address, len) = (self.address(address), self.len(len));
                self.machine.mlock(tid, address, len, int(flags.0)).into()
            }
            Op::Munlock { address, len } => {
                let (address, len) = (self.address(address), self.len(len));
                self.machine.munlock(tid, address, len).into()
            }
            Op::Mincore { address, len } => self.mincore(tid, address, len),
            Op::Load { address } => self.load(tid, address, 1),
            Op::LoadWord { address } => self.load(tid, address, 8),
            Op::Store { address, value } => {
                let address = self.address(address);
                self.machine.store(tid, address, &[value.0]).into()
            }
            Op::StoreWord { address, value } => {
                let address = self.address(address);
                self.machine
                    .store(tid, address, &value.0.to_le_bytes())
                    .into()
            }
            Op::Look {} => Ok::<(), Errno>(()).into(),
            Op::Fork { lane } => self.fork(tid, lane).into(),
            Op::Thread { lane } => self.thread(tid, lane).into(),
            Op::Exit {} => self.exit(tid).into(),
            Op::ClearRefs { value } => {
                let pid = self.pid(tid);
                self.machine.clear_refs(pid, value.0.into()).into()
            }
            Op::Memfd { file, flags } => self.memfd(tid, file, flags.0).into(),
            Op::Ftruncate { .. } | Op::Fallocate { .. } | Op::Seal { .. } | Op::Peek { .. } => {
                self.file(tid, op)
            }
            Op::Close { what } => self.close(tid, what).into(),
            Op::Pread {
                file,
                address,
                len,
                offset,
            } => {
                let (fd, span) = (
                    self.file_fd(tid, file),
                    (self.address(address), self.len(len)),
                );
                let offset = self.len(offset);
                self.machine.read(tid, fd, span.0, span.1, offset).into()
            }
            Op::Pwrite {
                file,
                address,
                len,
                offset,
            } => {
                let (fd, span) = (
                    self.file_fd(tid, file),
                    (self.address(address), self.len(len)),
                );
                let offset = self.len(offset);
                self.machine.write(tid, fd, span.0, span.1, offset).into()
            }
            Op::MakePipe { .. }
            | Op::Vmsplice { .. }
            | Op::PipeRead { .. }
            | Op::PipeInto { .. }
            | Op::PipeFrom { .. } => self.pipe(tid, op),
            Op::VmRead {
                lane,
                remote,
                len,
                local,
            } => {
                let (remote, local, len) =
                    (self.address(remote), self.address(local), self.len(len));
                let (remote, local) = (Iovec { base: remote, len }, Iovec { base: local, len });
                let pid = self.lane_pid(lane);
                self.machine
                    .process_vm_readv(tid, pid, &[local], &[remote], 0)
                    .into()
            }
            Op::VmWrite {
                lane,
                remote,
                len,
                local,
            } => {
                let (remote, local, len) =
                    (self.address(remote), self.address(local), self.len(len));
                let (remote, local) = (Iovec { base: remote, len }, Iovec { base: local, len });
                let pid = self.lane_pid(lane);
                self.machine
                    .process_vm_writev(tid, pid, &[local], &[remote], 0)
                    .into()
            }
            Op::MakeRing { .. }
            | Op::Pin { .. }
            | Op::Unpin { .. }
            | Op::RingRead { .. }
            | Op::RingWrite { .. } => self.ring(tid, op).into(),
            Op::Scan { .. } => self.scan(tid, op),
            _ => self.userfault(tid, op),
        }
    }

    pub(super) fn pid(&self, tid: Tid) -> Pid {
        self.machine.pid_of(tid).expect("a lane's thread lives")
    }

    fn lane_pid(&self, lane: LaneSlot) -> Pid {
        match self.lanes[usize::from(lane.0)] {
            Lane::Ready(tid) | Lane::Asleep { tid, .. } => self.pid(tid),
            Lane::Absent => unreachable!("the step would have been left out"),
        }
    }

    fn file_fd(&self, tid: Tid, file: FileSlot) -> Fd {
        self.descriptor(tid, Closeable::File(file))
    }

    fn placed(&mut self, tid: Tid, op: &Op, choice: Option<u64>) -> Shown {
        match *op {
            Op::Mmap {
                address,
                len,
                prot,
                flags,
                file,
                offset,
            } => {
                let args = Mmap {
                    addr: self.address(address),
                    len: self.len(len),
                    prot: prot.0,
                    flags: flags.0,
                    fd: file.0.map_or(-1, |file| self.file_fd(tid, file)),
                    offset: self.len(offset),
                    choice,
                };
                self.machine.mmap(tid, args).into()
            }
            Op::Mremap {
                address,
                old,
                new,
                flags,
                target,
            } => {
                let args = Mremap {
                    old: self.address(address),
                    old_len: self.len(old),
                    new_len: self.len(new),
                    flags: flags.0,
                    new: self.address(target),
                    choice,
                };
                self.machine.mremap(tid, args).into()
            }
            _ => unreachable!("the caller passes these operations only"),
        }
    }

    fn load(&mut self, tid: Tid, address: Address, width: usize) -> Shown {
        let address = self.address(address);
        let mut bytes = [0; 8];
        let loaded = self.machine.load(tid, address, &mut bytes[..width]);
        loaded.map(|()| u64::from_le_bytes(bytes)).into()
    }

    fn mincore(&mut self, tid: Tid, address: Address, len: Amount) -> Shown {
        let (address, len) = (self.address(address), self.len(len));
        let resident = match self.machine.mincore(tid, address, len) {
            Ok(resident) => resident,
            Err(errno) => return Err::<u64, _>(errno).into(),
        };
        let word = |pages: &[u8]| {
            let bits = pages.iter().enumerate();
            bits.fold(0, |word, (at, byte)| word | (u64::from(byte & 1) << at))
        };
        let outputs = resident
            .chunks(64)
            .map(|pages| ("resident", word(pages)))
            .collect();
        Shown {
            value: Ok(0),
            outputs,
        }
    }

    fn fork(&mut self, tid: Tid, lane: LaneSlot) -> Result<u64, Halt> {
        let parent = self.pid(tid);
        let child = self.machine.fork(tid)?;
        let pid = self.pid(child);
        if let Some(slots) = self.slots.get(&parent).cloned() {
            self.slots.insert(pid, slots);
        }
        if let Some(rings) = self.ring_slots.get(&parent).cloned() {
            for ring in rings.values() {
                self.rings.share(*ring);
            }
            self.ring_slots.insert(pid, rings);
        }
        self.lanes[usize::from(lane.0)] = Lane::Ready(child);
        Ok(0)
    }

    fn thread(&mut self, tid: Tid, lane: LaneSlot) -> Result<u64, Halt> {
        let new = self.machine.spawn_thread(tid)?;
        self.lanes[usize::from(lane.0)] = Lane::Ready(new);
        Ok(0)
    }

    fn exit(&mut self, tid: Tid) -> Result<u64, Halt> {
        let pid = self.pid(tid);
        for lane in &mut self.lanes {
            let (Lane::Ready(tid) | Lane::Asleep { tid, .. }) = *lane else {
                continue;
            };
            if self.machine.pid_of(tid) == Ok(pid) {
                *lane = Lane::Absent;
            }
        }
        let rings = self.ring_slots.remove(&pid).unwrap_or_default();
        for ring in rings.into_values() {
            self.rings.close(&mut self.machine, ring);
        }
        self.machine.exit(tid)?;
        self.slots.remove(&pid);
        Ok(0)
    }

    fn memfd(&mut self, tid: Tid, file: FileSlot, flags: u64) -> Result<u64, Halt> {
        let fd = self.machine.memfd_create(tid, "m", int(flags))?;
        self.set_descriptors(tid, Closeable::File(file), vec![fd]);
        Ok(0)
    }

    fn close(&mut self, tid: Tid, what: Closeable) -> Result<u64, Halt> {
        let pid = self.pid(tid);
        if let Closeable::Ring(slot) = what {
            let rings = self.ring_slots.entry(pid).or_default();
            let ring = rings.remove(&slot).ok_or(Errno::EBADF)?;
            self.rings.close(&mut self.machine, ring);
            return Ok(0);
        }
        let open = self
            .slots
            .get_mut(&pid)
            .and_then(|slots| slots.remove(&what));
        let mut last = Err(Errno::EBADF);
        for fd in open.unwrap_or_default() {
            last = self.machine.close(tid, fd);
        }
        last?;
        Ok(0)
    }

    fn file(&mut self, tid: Tid, op: &Op) -> Shown {
        match *op {
            Op::Ftruncate { file, len } => {
                let (fd, len) = (self.file_fd(tid, file), self.len(len));
                self.machine.ftruncate(tid, fd, len).into()
            }
            Op::Fallocate {
                file,
                mode,
                offset,
                len,
            } => {
                let (offset, len) = (self.len(offset), self.len(len));
                let fd = self.file_fd(tid, file);
                self.machine
                    .fallocate(tid, fd, int(mode.0), offset, len)
                    .into()
            }
            Op::Seal { file, seals } => {
                let fd = self.file_fd(tid, file);
                let seals = u32::try_from(int(seals.0)).expect("masked");
                self.machine.add_seals(tid, fd, seals).into()
            }
            Op::Peek { file, offset } => {
                board::prepare_scratch(&mut self.machine, tid);
                let (fd, offset) = (self.file_fd(tid, file), self.len(offset));
                let read = self.machine.read(tid, fd, SCRATCH, 1, offset);
                let byte = board::scratch(&mut self.machine, tid, 1).unwrap_or_default();
                let outputs = match (&read, byte.first()) {
                    (Ok(1), Some(byte)) => vec![("byte", u64::from(*byte))],
                    _ => Vec::new(),
                };
                Shown {
                    outputs,
                    ..read.into()
                }
            }
            _ => unreachable!("the caller passes these operations only"),
        }
    }

    fn pipe_fd(&self, tid: Tid, pipe: Pipe, end: usize) -> Fd {
        let both = self.descriptors(tid, Closeable::Pipe(pipe));
        both.get(end).copied().unwrap_or(NOWHERE)
    }

    fn pipe(&mut self, tid: Tid, op: &Op) -> Shown {
        match *op {
            Op::MakePipe { pipe } => {
                let made = self.machine.pipe(tid);
                if let Ok((read, write)) = made {
                    self.set_descriptors(tid, Closeable::Pipe(pipe), vec![read, write]);
                }
                made.map(|_| 0).into()
            }
            Op::Vmsplice {
                pipe,
                address,
                len,
                flags,
            } => {
                let (address, len) = (self.address(address), self.len(len));
                let fd = self.pipe_fd(tid, pipe, 1);
                self.machine
                    .vmsplice(tid, fd, address, len, int(flags.0))
                    .into()
            }
            Op::PipeRead { pipe, len } => {
                board::prepare_scratch(&mut self.machine, tid);
                let (fd, len) = (self.pipe_fd(tid, pipe, 0), self.len(len));
                let read = self.machine.read(tid, fd, SCRATCH, len, 0);
                let count = *read.as_ref().unwrap_or(&0);
                let bytes = board::scratch(&mut self.machine, tid, count).unwrap_or_default();
                Shown {
                    outputs: runs(&bytes),
                    ..read.into()
                }
            }
            Op::PipeInto { pipe, address, len } => {
                let (address, len) = (self.address(address), self.len(len));
                let fd = self.pipe_fd(tid, pipe, 0);
                self.machine.read(tid, fd, address, len, 0).into()
            }
            Op::PipeFrom { pipe, address, len } => {
                let (address, len) = (self.address(address), self.len(len));
                let fd = self.pipe_fd(tid, pipe, 1);
                self.machine.write(tid, fd, address, len, 0).into()
            }
            _ => unreachable!("the caller passes these operations only"),
        }
    }

    fn ring_of(&self, tid: Tid, slot: Ring) -> Result<super::rings::RingId, Errno> {
        let rings = self.ring_slots.get(&self.pid(tid));
        rings
            .and_then(|rings| rings.get(&slot))
            .copied()
            .ok_or(Errno::EBADF)
    }

    fn ring(&mut self, tid: Tid, op: &Op) -> Result<u64, Halt> {
        match *op {
            Op::MakeRing { ring } => {
                let pid = self.pid(tid);
                let made = self.rings.make();
                let old = self.ring_slots.entry(pid).or_default().insert(ring, made);
                if let Some(old) = old {
                    self.rings.close(&mut self.machine, old);
                }
                Ok(0)
            }
            Op::Pin { ring, address, len } => {
                let span = (self.address(address), self.len(len));
                let ring = self.ring_of(tid, ring)?;
                let pin = self.rings.pin(&mut self.machine, tid, ring, span)?;
                let holders = self.ring_slots.iter();
                let holders = holders.filter(|(_, rings)| rings.values().any(|had| *had == ring));
                for (&pid, _) in holders {
                    self.machine.share_pin(pin, pid)?;
                }
                Ok(0)
            }
            Op::Unpin { ring } => {
                let ring = self.ring_of(tid, ring)?;
                self.rings.unpin(&mut self.machine, ring)?;
                Ok(0)
            }
            Op::RingRead {
                ring,
                file,
                offset,
                address,
                len,
            } => {
                let (start, len) = (self.address(address), self.len(len));
                let ring = self.ring_of(tid, ring)?;
                let (fd, offset) = (self.file_fd(tid, file), self.len(offset));
                if fd == NOWHERE {
                    return Err(Errno::EBADF.into());
                }
                let (pin, at) = self.rings.transfer(ring, start, len)?;
                board::prepare_scratch(&mut self.machine, tid);
                let read = self.machine.read(tid, fd, SCRATCH, len, offset)?;
                let bytes = board::scratch(&mut self.machine, tid, read)?;
                self.machine.pin_write(pin, at, &bytes)?;
                Ok(read)
            }
            Op::RingWrite {
                ring,
                file,
                offset,
                address,
                len,
            } => {
                let (start, len) = (self.address(address), self.len(len));
                let ring = self.ring_of(tid, ring)?;
                let (fd, offset) = (self.file_fd(tid, file), self.len(offset));
                if fd == NOWHERE {
                    return Err(Errno::EBADF.into());
                }
                let (pin, at) = self.rings.transfer(ring, start, len)?;
                board::prepare_scratch(&mut self.machine, tid);
                let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
                self.machine.pin_read(pin, at, &mut bytes)?;
                self.machine.store(tid, SCRATCH, &bytes)?;
                Ok(self.machine.write(tid, fd, SCRATCH, len, offset)?)
            }
            _ => unreachable!("the caller passes these operations only"),
        }
    }

    fn scan(&mut self, tid: Tid, op: &Op) -> Shown {
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
        let args = PagemapScan {
            size: 96,
            flags: flags.0,
            start: self.address(start),
            end: self.address(end),
            vec_len: (regions.0 > 0).then_some(regions.0),
            max_pages: pages_max.0,
            category_inverted: inverted.0,
            category_mask: mask.0,
            category_anyof_mask: anyof.0,
            return_mask: shown.0,
        };
        let pid = self.pid(tid);
        let reply = self.machine.pagemap_scan(pid, &args);
        let mut outputs = vec![("walk_end", reply.walk_end.unwrap_or(0))];
        for region in reply.regions.iter().filter(|_| reply.result.is_ok()) {
            outputs.push(("start", region.start));
            outputs.push(("end", region.end));
            outputs.push(("categories", region.categories));
        }
        Shown {
            outputs,
            ..reply.result.into()
        }
    }
}

/// What is left of an argument where the kernel takes an `int`.
pub(super) fn int(value: u64) -> u64 {
    value & 0xFFFF_FFFF
}

/// Bytes as runs.
fn runs(bytes: &[u8]) -> Vec<Output> {
    let runs = bytes.chunk_by(|one, other| one == other);
    runs.flat_map(|run| [("byte", u64::from(run[0])), ("times", run.len() as u64)])
        .collect()
}
