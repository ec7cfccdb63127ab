//! A lane: what runs in the puppet's processes and threads.
//!
//! Nothing here allocates, prints, panics or uses the library's state: the process is a copy of
//! one thread of a tool that may have had many.
#![expect(unsafe_code, reason = "the inside of a process without a library")]

use std::sync::atomic::{AtomicU32, Ordering};

use super::board::{Board, Cell};
use super::call::call;
use super::command::{Arg, Command, System};
use super::look::AREA_WORDS;
use super::maps::Way;
use super::script::Reply;
use super::{LANES, REFUSED, access, clone, ring, signal};

/// The descriptor of the process's own pagemap.
const PAGEMAP: u64 = 10;
/// The descriptor of the process's own maps.
const MAPS: u64 = 11;
/// How many descriptors a lane may have.
const DESCRIPTORS_MAX: u64 = 1024;

/// What a lane is.
#[derive(Clone, Copy)]
pub(super) struct Lane {
    pub(super) board: Board,
    pub(super) number: usize,
    /// The tool, without which a lane ends.
    pub(super) tool: u32,
    /// How it learns of its mappings.
    pub(super) way: Way,
}

/// Ends the process if a panic unwinds to here, which would else go on in the tool's own code.
struct NoWayBack;

impl Drop for NoWayBack {
    fn drop(&mut self) {
        exit(98);
    }
}

fn exit(status: u64) -> ! {
    loop {
        // SAFETY: the call ends the process.
        unsafe { call(libc::SYS_exit_group, [status, 0, 0, 0, 0, 0]) };
    }
}

/// Makes a system call, without the library.
pub(super) fn simple(number: libc::c_long, args: [u64; 6]) -> i64 {
    // SAFETY: the callers, here and in `maps`, name descriptors and memory of their own, or what a
    // script was allowed to name: at worst this process breaks itself, and the tool sees it end.
    unsafe { call(number, args) }
}

/// Runs the first process of a puppet: never returns.
pub(super) fn begin(board: Board, tool: u32, way: Way) -> ! {
    let guard = NoWayBack;
    signal::install();
    let lane = Lane {
        board,
        number: 0,
        tool,
        way,
    };
    lane.set_up_process();
    lane.obey(&guard)
}

/// The first function of a lane that is a thread. The argument is an `Entry`'s address.
extern "C" fn begin_thread(argument: u64) -> ! {
    let guard = NoWayBack;
    let at = std::ptr::with_exposed_provenance::<Lane>(usize::try_from(argument).unwrap_or(0));
    // SAFETY: 1. `Lane::thread` passes the address of a lane on its own stack. 2. it waits until
    // this copy is made.
    let lane = unsafe { at.read() };
    let tid = simple(libc::SYS_gettid, [0; 6]);
    let pid = simple(libc::SYS_getpid, [0; 6]);
    lane.cell(Cell::Pid).store(number(pid), Ordering::Release);
    lane.cell(Cell::Tid).store(number(tid), Ordering::Release);
    lane.obey(&guard)
}

fn number(answer: i64) -> u32 {
    u32::try_from(answer).unwrap_or(0)
}

impl Lane {
    fn cell(&self, part: Cell) -> &AtomicU32 {
        self.board.cell(self.number, part)
    }

    /// Ties the process to the tool, gives it its own descriptors, and bounds what it may take.
    fn set_up_process(&self) {
        let kill = u64::from(libc::SIGKILL.cast_unsigned());
        let death = u64::from(libc::PR_SET_PDEATHSIG.cast_unsigned());
        simple(libc::SYS_prctl, [death, kill, 0, 0, 0, 0]);
        if simple(libc::SYS_getppid, [0; 6]) != i64::from(self.tool) {
            exit(96);
        }
        // A program's slots stay as a fork copied them; the tool's descriptors go.
        if self.number == 0 {
            simple(libc::SYS_close_range, [3, u64::from(u32::MAX), 0, 0, 0, 0]);
            let null = open(c"/dev/null");
            for standard in 0..3 {
                simple(libc::SYS_dup3, [null, standard, 0, 0, 0, 0]);
            }
            simple(libc::SYS_close, [null, 0, 0, 0, 0, 0]);
            let limit = [DESCRIPTORS_MAX, DESCRIPTORS_MAX];
            set_limit(libc::RLIMIT_NOFILE, &limit);
            set_limit(libc::RLIMIT_CORE, &[0, 0]);
            simple(libc::SYS_setpgid, [0; 6]);
        }
        for (path, fd) in [(c"/proc/self/pagemap", PAGEMAP), (c"/proc/self/maps", MAPS)] {
            let made = open(path);
            simple(libc::SYS_dup3, [made, fd, 0, 0, 0, 0]);
            simple(libc::SYS_close, [made, 0, 0, 0, 0, 0]);
        }
        let pid = number(simple(libc::SYS_getpid, [0; 6]));
        self.cell(Cell::Tid).store(pid, Ordering::Release);
        self.cell(Cell::Pid).store(pid, Ordering::Release);
        self.report_done();
    }

    /// Runs batches as they come.
    fn obey(mut self, guard: &NoWayBack) -> ! {
        let mut seen = 0;
        loop {
            let go = self.cell(Cell::Go).load(Ordering::Acquire);
            if go == seen {
                self.sleep(go);
                continue;
            }
            seen = go;
            let from = self.cell(Cell::From).load(Ordering::Relaxed);
            let to = self.cell(Cell::To).load(Ordering::Relaxed);
            if let Some(new) = self.batch(from, to, guard) {
                // The child of a fork: the rest of the batch is the parent's.
                self = new;
                seen = 0;
                continue;
            }
            self.cell(Cell::Finished).store(go, Ordering::Release);
            self.report_done();
        }
    }

    /// Sleeps until there may be something to do.
    fn sleep(&self, go: u32) {
        let cell: *const AtomicU32 = self.cell(Cell::Go);
        let pause = [1_u64, 0];
        let pause = (&raw const pause).expose_provenance() as u64;
        let wait = u64::from(libc::FUTEX_WAIT.cast_unsigned());
        let address = cell.expose_provenance() as u64;
        simple(libc::SYS_futex, [address, wait, go.into(), pause, 0, 0]);
    }

    fn report_done(&self) {
        let done = self.board.done();
        done.fetch_add(1, Ordering::AcqRel);
        let address = std::ptr::from_ref(done).expose_provenance() as u64;
        let wake = u64::from(libc::FUTEX_WAKE.cast_unsigned());
        simple(libc::SYS_futex, [address, wake, 1, 0, 0, 0]);
    }

    /// Runs a batch. In the child of a fork, returns what it is now.
    fn batch(&self, from: u32, to: u32, guard: &NoWayBack) -> Option<Self> {
        for index in from..to {
            let command = self.board.command(index as usize)?;
            self.cell(Cell::At).store(index, Ordering::Relaxed);
            let reply = match command {
                Command::Fork { lane } => {
                    let made = clone::fork();
                    if made == 0 {
                        let number = usize::from(lane).min(LANES - 1);
                        let child = Self { number, ..*self };
                        child.set_up_process();
                        return Some(child);
                    }
                    value(made)
                }
                Command::Thread { lane } => value(self.thread(lane.into())),
                other => self.run(other, guard),
            };
            self.board.set_reply(index as usize, reply);
        }
        None
    }

    /// Starts a thread and waits until it has taken over what it needs.
    fn thread(&self, lane: usize) -> i64 {
        let new = Self {
            number: lane.min(LANES - 1),
            ..*self
        };
        new.cell(Cell::Tid).store(0, Ordering::Release);
        let argument = (&raw const new).expose_provenance() as u64;
        let made = clone::thread(new.number, begin_thread, argument);
        while made > 0 && new.cell(Cell::Tid).load(Ordering::Acquire) == 0 {
            simple(libc::SYS_sched_yield, [0; 6]);
        }
        made
    }

    fn run(&self, command: Command, _guard: &NoWayBack) -> Reply {
        match command {
            Command::Call(system, args) => {
                let args = args.map(|arg| self.resolve(arg));
                if system == System::Mremap && self.loses_a_reservation(args) {
                    return Reply {
                        signal: REFUSED,
                        ..Reply::default()
                    };
                }
                value(simple(system.number(), args))
            }
            Command::Load { address, width } => access::load(address, width),
            Command::Store {
                address,
                width,
                value,
            } => access::store(address, width, value),
            Command::Look {
                start,
                end,
                out,
                areas_max,
            } => value(self.look(start..end, out as usize, areas_max as usize)),
            Command::Exit => exit(0),
            Command::ClearRefs { value: digit } => value(clear_refs(digit)),
            Command::HugeOff { value: off } => {
                let option = u64::from(libc::PR_SET_THP_DISABLE.cast_unsigned());
                value(simple(libc::SYS_prctl, [option, off, 0, 0, 0, 0]))
            }
            Command::RingMake { fd } => value(ring::make(fd)),
            Command::RingPin { fd, address, len } => value(ring::pin(fd, address, len)),
            Command::RingUnpin { fd } => value(ring::unpin(fd)),
            Command::RingMove {
                fd,
                file,
                offset,
                address,
                len,
                write,
            } => {
                let wish = ring::Move {
                    fd,
                    file,
                    offset,
                    address,
                    len,
                    write,
                };
                value(ring::transfer(&wish))
            }
            Command::Fork { .. } | Command::Thread { .. } => value(0),
        }
    }

    fn resolve(&self, arg: Arg) -> u64 {
        match arg {
            Arg::Value(value) => value,
            Arg::Data(at) => self.board.data_address(at as usize),
            Arg::Reply(index) => {
                let reply = self.board.reply(index as usize).unwrap_or_default();
                reply.value.cast_unsigned()
            }
            Arg::Word(at) => self.board.data_word(at as usize) & 0xFFFF_FFFF,
            Arg::Lane(lane) => {
                let lane = usize::from(lane).min(LANES - 1);
                self.board
                    .cell(lane, Cell::Pid)
                    .load(Ordering::Acquire)
                    .into()
            }
        }
    }

    /// Writes down the mappings and entries of a range. Returns how many mappings there are.
    fn look(&self, range: std::ops::Range<u64>, out: usize, areas_max: usize) -> i64 {
        let mut count = 0;
        self.way.each_from(MAPS, range.start, |area| {
            let start = area[0].max(range.start);
            let end = area[1].min(range.end);
            if start >= range.end || count >= areas_max {
                return false;
            }
            let clipped = [
                start,
                end,
                area[2],
                area[3] + (start - area[0]) * u64::from(area[4] != 0),
            ];
            let words = clipped.into_iter().chain([area[4], area[5]]);
            for (part, word) in words.enumerate() {
                let offset = out + 8 * (1 + count * AREA_WORDS + part);
                self.board.set_data_word(offset, word);
            }
            count += 1;
            end < range.end
        });
        self.board.set_data_word(out, count as u64);
        let entries = self
            .board
            .data_address(out + 8 * (1 + areas_max * AREA_WORDS));
        let page_shift = u64::from(page_shift());
        let (first, behind) = (range.start >> page_shift, range.end >> page_shift);
        let len = (behind - first) * 8;
        simple(libc::SYS_pread64, [PAGEMAP, entries, len, first * 8, 0, 0]);
        i64::try_from(count).unwrap_or(0)
    }

    /// Tells whether `mremap` would move a part of a private mapping of huge pages.
    fn loses_a_reservation(&self, [start, len, _, flags, ..]: [u64; 6]) -> bool {
        const SHARED: u64 = 8;
        let moves = flags & u64::from(libc::MREMAP_FIXED.cast_unsigned()) != 0;
        let found = moves.then(|| self.way.first_from(MAPS, start)).flatten();
        let Some([first, behind, access, _, _, page]) = found else {
            return false;
        };
        let huge = page > 1 << page_shift();
        let inside = first <= start && start < behind;
        let end = start
            .saturating_add(len)
            .div_ceil(page.max(1))
            .saturating_mul(page);
        huge && inside && access & SHARED == 0 && (first, behind) != (start, end)
    }
}

fn value(value: i64) -> Reply {
    Reply {
        value,
        ..Reply::default()
    }
}

fn open(path: &std::ffi::CStr) -> u64 {
    let here = i64::from(libc::AT_FDCWD).cast_unsigned();
    let flags = u64::from((libc::O_RDWR | libc::O_CLOEXEC).cast_unsigned());
    let path = path.as_ptr().expose_provenance() as u64;
    let opened = simple(libc::SYS_openat, [here, path, flags, 0, 0, 0]);
    if opened >= 0 {
        return opened.cast_unsigned();
    }
    let flags = u64::from((libc::O_RDONLY | libc::O_CLOEXEC).cast_unsigned());
    simple(libc::SYS_openat, [here, path, flags, 0, 0, 0]).cast_unsigned()
}

fn set_limit(resource: libc::__rlimit_resource_t, limit: &[u64; 2]) {
    let limit = std::ptr::from_ref(limit).expose_provenance() as u64;
    simple(libc::SYS_prlimit64, [0, resource.into(), limit, 0, 0, 0]);
}

fn clear_refs(digit: u8) -> i64 {
    let here = i64::from(libc::AT_FDCWD).cast_unsigned();
    let path = c"/proc/self/clear_refs".as_ptr().expose_provenance() as u64;
    let flags = u64::from((libc::O_WRONLY | libc::O_CLOEXEC).cast_unsigned());
    let opened = simple(libc::SYS_openat, [here, path, flags, 0, 0, 0]);
    if opened < 0 {
        return opened;
    }
    let text = [b'0'.wrapping_add(digit)];
    let text = text.as_ptr().expose_provenance() as u64;
    let written = simple(libc::SYS_write, [opened.cast_unsigned(), text, 1, 0, 0, 0]);
    simple(libc::SYS_close, [opened.cast_unsigned(), 0, 0, 0, 0, 0]);
    written.min(0)
}

/// The page's shift: from the auxiliary vector, which the library read before the fork.
fn page_shift() -> u32 {
    rustix::param::page_size().trailing_zeros()
}
