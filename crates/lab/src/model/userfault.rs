//! The operations of userfaultfds.

use mm::uffd::{Transfer, UffdCopy, UffdMsg};
use mm::{Fd, Tid};

use super::call::int;
use super::{Lane, Model, NOWHERE, Shown, board};
use crate::outcome::Output;
use crate::program::{Address, Closeable, Context, Op};

impl Model {
    fn context_fd(&self, tid: Tid, context: Context) -> Fd {
        self.descriptor(tid, Closeable::Context(context))
    }

    pub(super) fn userfault(&mut self, tid: Tid, op: &Op) -> Shown {
        match *op {
            Op::Userfaultfd { context, flags } => {
                let made = self.machine.userfaultfd(tid, int(flags.0));
                if let Ok(fd) = made {
                    self.set_descriptors(tid, Closeable::Context(context), vec![fd]);
                }
                made.map(|_| 0).into()
            }
            Op::Api {
                context,
                api,
                features,
            } => {
                let fd = self.context_fd(tid, context);
                let (result, mut left) = self.machine.uffd_api(tid, fd, api.0, features.0);
                if fd == NOWHERE {
                    // Nobody looked at the structure.
                    left.features = features.0;
                }
                let outputs = vec![("features", left.features), ("ioctls", left.ioctls)];
                Shown {
                    outputs,
                    ..result.into()
                }
            }
            Op::Register {
                context,
                address,
                len,
                mode,
            } => {
                let fd = self.context_fd(tid, context);
                let (start, len) = (self.address(address), self.len(len));
                let result = self.machine.uffd_register(tid, fd, start, len, mode.0);
                let outputs = vec![("ioctls", result.unwrap_or(0))];
                Shown {
                    outputs,
                    ..result.map(|_| ()).into()
                }
            }
            Op::Unregister {
                context,
                address,
                len,
            } => {
                let fd = self.context_fd(tid, context);
                let (start, len) = (self.address(address), self.len(len));
                self.machine.uffd_unregister(tid, fd, start, len).into()
            }
            Op::Wake {
                context,
                address,
                len,
            } => {
                let fd = self.context_fd(tid, context);
                let (start, len) = (self.address(address), self.len(len));
                self.machine.uffd_wake(tid, fd, start, len).into()
            }
            Op::Writeprotect {
                context,
                address,
                len,
                mode,
            } => {
                let fd = self.context_fd(tid, context);
                let (start, len) = (self.address(address), self.len(len));
                self.machine
                    .uffd_writeprotect(tid, fd, start, len, mode.0)
                    .into()
            }
            Op::ReadEvent { context, new } => self.read_event(tid, context, new),
            Op::Rwprotect { context, .. } | Op::SetMode { context, .. } => {
                let _ = context;
                Err::<u64, _>(space::Errno::ENOTTY).into()
            }
            _ => self.transfer(tid, op),
        }
    }

    fn transfer(&mut self, tid: Tid, op: &Op) -> Shown {
        match *op {
            Op::Copy {
                context,
                target,
                source,
                len,
                mode,
            } => {
                let fd = self.context_fd(tid, context);
                let (dst, src, len) = (self.address(target), self.address(source), self.len(len));
                if let Address::Pattern(byte) = source
                    && fd != NOWHERE
                {
                    let page = self.geometry.page;
                    board::prepare_pattern(&mut self.machine, tid, byte, len, page);
                }
                let args = UffdCopy {
                    dst,
                    src,
                    len,
                    mode: mode.0,
                };
                filled("copy", self.machine.uffd_copy(tid, fd, args))
            }
            Op::Move {
                context,
                target,
                source,
                len,
                mode,
            } => {
                let fd = self.context_fd(tid, context);
                let (dst, src, len) = (self.address(target), self.address(source), self.len(len));
                let args = UffdCopy {
                    dst,
                    src,
                    len,
                    mode: mode.0,
                };
                filled("move", self.machine.uffd_move(tid, fd, args))
            }
            Op::Zeropage {
                context,
                address,
                len,
                mode,
            } => {
                let fd = self.context_fd(tid, context);
                let (start, len) = (self.address(address), self.len(len));
                filled(
                    "zeropage",
                    self.machine.uffd_zeropage(tid, fd, start, len, mode.0),
                )
            }
            Op::Continue {
                context,
                address,
                len,
                mode,
            } => {
                let fd = self.context_fd(tid, context);
                let (start, len) = (self.address(address), self.len(len));
                filled(
                    "mapped",
                    self.machine.uffd_continue(tid, fd, start, len, mode.0),
                )
            }
            Op::Poison {
                context,
                address,
                len,
                mode,
            } => {
                let fd = self.context_fd(tid, context);
                let (start, len) = (self.address(address), self.len(len));
                filled(
                    "updated",
                    self.machine.uffd_poison(tid, fd, start, len, mode.0),
                )
            }
            _ => unreachable!("every other operation has its own function"),
        }
    }

    fn read_event(&mut self, tid: Tid, context: Context, new: Context) -> Shown {
        let fd = self.context_fd(tid, context);
        let message = match self.machine.uffd_read(tid, fd) {
            Ok(message) => message,
            Err(stop) => return Err::<u64, _>(stop).into(),
        };
        let outputs = match message {
            UffdMsg::Pagefault {
                flags,
                address,
                ptid,
            } => {
                let thread = self.lane_of_thread(ptid);
                vec![
                    ("event", 0x12),
                    ("flags", flags),
                    ("address", address),
                    ("thread", thread),
                ]
            }
            UffdMsg::Fork { fd, .. } => {
                self.set_descriptors(tid, Closeable::Context(new), vec![fd]);
                vec![("event", 0x13)]
            }
            UffdMsg::Remap { from, to, len } => {
                vec![("event", 0x14), ("from", from), ("to", to), ("len", len)]
            }
            UffdMsg::Remove { start, end } => vec![("event", 0x15), ("start", start), ("end", end)],
            UffdMsg::Unmap { start, end } => vec![("event", 0x16), ("start", start), ("end", end)],
        };
        const MESSAGE: u64 = 32;
        Shown {
            value: Ok(MESSAGE),
            outputs,
        }
    }

    /// The number of a thread's lane from 1, or 0 for none.
    fn lane_of_thread(&self, ptid: u32) -> u64 {
        if ptid == 0 {
            return 0;
        }
        let mut lanes = self.lanes.iter().enumerate();
        let same = lanes.find(|(_, lane)| match lane {
            Lane::Ready(tid) | Lane::Asleep { tid, .. } => tid.0 == ptid,
            Lane::Absent => false,
        });
        same.map_or(u64::MAX, |(lane, _)| lane as u64 + 1)
    }
}

/// The outcome of a call that fills pages.
fn filled(name: &'static str, transfer: Transfer) -> Shown {
    let outputs: Vec<Output> = vec![(name, transfer.out.unwrap_or(0).cast_unsigned())];
    Shown {
        outputs,
        ..transfer.result.into()
    }
}
