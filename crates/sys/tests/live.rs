//! A real process, tracked, stopped, made to fork, and left as it was.
#![expect(clippy::unwrap_used, reason = "a test may fail where it stands")]

#[path = "../src/programs.rs"]
mod programs;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use programs::Live;
use space::{
    AddressSpace, Errno, Freeze, PageFlags, PageRange, PageSource, Rearm, Scan, Tracked, Tracking,
    Vaddr,
};
use sys::{Target, TrackError, TrackWish};

const LIMIT: Duration = Duration::from_secs(5);

/// The size of a page here, in bytes.
fn page_len() -> u64 {
    rustix::param::page_size() as u64
}

struct Program {
    live: Live,
    area: PageRange,
}

impl Program {
    fn start(directory: &Path) -> Self {
        Self::with_page_tables(directory, 0)
    }

    /// Starts it with more page tables, which make a fork slow.
    fn with_page_tables(directory: &Path, count: u32) -> Self {
        let (live, start) = Live::start(directory, count);
        let start = u64::from_str_radix(start.trim_start_matches("0x"), 16).unwrap();
        let area = PageRange::new(Vaddr(start), Vaddr(start + 1024 * page_len())).unwrap();
        Self { live, area }
    }

    fn ask(&mut self, line: &str) -> String {
        self.live.ask(line)
    }
}

/// Opens a process and has its writes tracked, where this kernel has a way.
fn attach(pid: u32) -> (Target, Result<(), TrackError>) {
    let mut target = Target::open(pid).unwrap();
    let tracked = target.attach(TrackWish::Best, LIMIT);
    assert!(
        matches!(tracked, Ok(()) | Err(TrackError::NoWay)),
        "{tracked:?}"
    );
    (target, tracked)
}

/// Asks for written pages, and arms them; soft-dirty bits want the process to stand still for it.
fn scan(target: &mut Target, range: PageRange) -> Vec<PageRange> {
    if target.tracking() == Tracking::WriteProtect {
        return scan_now(target, range);
    }
    target.stop(LIMIT).unwrap();
    let found = scan_now(target, range);
    target.resume().unwrap();
    found
}

fn scan_now(target: &mut Target, range: PageRange) -> Vec<PageRange> {
    let scan = Scan {
        all_of: PageFlags::WRITTEN,
        any_of: PageFlags::PRESENT | PageFlags::SWAPPED,
        report: PageFlags::PRESENT,
        rearm: Rearm::Rearm,
    };
    let mut runs = Vec::new();
    target.scan(&scan, &[range], &mut runs).unwrap();
    runs.iter().map(|run| run.range).collect()
}

#[test]
fn a_process_is_tracked_and_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let mut program = Program::start(directory.path());
    let pid = program.live.child.id();
    let (mut target, tracked) = attach(pid);
    if let Err(error) = tracked {
        println!("skipped: writes can't be tracked: {error}");
        return;
    }
    assert_ne!(target.tracking(), Tracking::None);
    assert_eq!(target.page_size().bytes(), page_len());
    let mut outcome = Vec::new();
    target.track(&[program.area], &mut outcome).unwrap();
    assert_eq!(outcome, [Tracked::Yes(program.area)]);

    let armed = scan(&mut target, program.area);
    assert_eq!(
        armed
            .iter()
            .map(|range| range.len().0 / page_len())
            .sum::<u64>(),
        513,
        "{armed:?}"
    );
    program.ask("w500");
    let written = scan(&mut target, program.area);
    let page = Vaddr(program.area.start().0 + 500 * page_len());
    assert!(
        written.iter().any(|range| range.contains(page)),
        "{written:?}"
    );
    assert!(
        written
            .iter()
            .map(|range| range.len().0 / page_len())
            .sum::<u64>()
            <= 3,
        "{written:?}"
    );
    assert_eq!(program.ask("?"), "bad=0 child=-1 errno=10");
}

#[test]
fn frozen_memory_stands_still_and_a_fork_holds_it() {
    let directory = tempfile::tempdir().unwrap();
    let mut program = Program::start(directory.path());
    let pid = program.live.child.id();
    let (mut target, _) = attach(pid);
    let counters = PageRange::new(
        program.area.start(),
        Vaddr(program.area.start().0 + 2 * page_len()),
    );
    let counters = counters.unwrap();
    let len = counters.len().as_usize();
    for _ in 0..50 {
        let mut frozen = [vec![0; len], vec![0; len], vec![0; len]];
        target.stop(LIMIT).unwrap();
        target.read(&[counters], &mut frozen[0]).unwrap();
        let tasks = target.tasks().unwrap();
        assert_eq!(tasks.len(), 6);
        assert_eq!(tasks[0].tid, pid);
        let twin = target
            .fork(LIMIT)
            .unwrap_or_else(|e| panic!("{e}: {:?}", target.inject_error()));
        target.read(&[counters], &mut frozen[1]).unwrap();
        assert!(frozen[0] == frozen[1], "it moved while it stood still");
        target.resume().unwrap();
        twin.read(&[counters], &mut frozen[2]).unwrap();
        assert!(frozen[0] == frozen[2], "the duplicate moved");
        let begun = Instant::now();
        let mut now = frozen[0].clone();
        while now == frozen[0] {
            assert!(begun.elapsed() < LIMIT, "it does not go on");
            target.read(&[counters], &mut now).unwrap();
        }
        target.reap(twin).unwrap();
    }
    assert_eq!(program.ask("?"), "bad=0 child=-1 errno=10");
}

#[test]
fn a_process_whose_fork_is_overdue_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let mut program = Program::with_page_tables(directory.path(), 8192);
    let pid = program.live.child.id();
    let (mut target, _) = attach(pid);
    let counters = Vaddr(program.area.start().0 + 2 * page_len());
    let counters = PageRange::new(program.area.start(), counters).unwrap();
    let mut overdue = 0;
    // Given up on the way to the call, in the midst of it, and perhaps at its end: six times each, and
    // on, where one processor has the tracer wait until the task has made it.
    let limits = [0, 20, 100, 500, 1000, 2000, 5000];
    let begun = Instant::now();
    for (round, micros) in limits.into_iter().cycle().enumerate() {
        let is_enough = overdue >= 6 || begun.elapsed() > 12 * LIMIT;
        if round >= 6 * limits.len() && is_enough {
            break;
        }
        target.stop(LIMIT).unwrap();
        match target.fork(Duration::from_micros(micros)) {
            Err(Errno::ETIMEDOUT) => {
                overdue += 1;
                target.resume().unwrap();
            }
            // The task that was left alone is on its way back still, over the place for frames.
            Err(Errno::ENOSYS) if overdue > 0 => target.resume().map(drop).unwrap(),
            made => {
                target.resume().unwrap();
                let twin = made.unwrap_or_else(|e| panic!("{e}: {:?}", target.inject_error()));
                target.reap(twin).unwrap();
            }
        }
        let (mut before, mut now) = (vec![0; counters.len().as_usize()], Vec::new());
        target.read(&[counters], &mut before).unwrap();
        now.clone_from(&before);
        let begun = Instant::now();
        while now == before {
            assert!(begun.elapsed() < LIMIT, "it does not go on");
            target.read(&[counters], &mut now).unwrap();
        }
    }
    assert!(overdue >= 6, "only {overdue} forks were overdue");
    // A fork with all the time it needs works again, and no child is left of any.
    let begun = Instant::now();
    loop {
        target.stop(LIMIT).unwrap();
        let made = target.fork(LIMIT);
        target.resume().unwrap();
        if let Ok(twin) = made {
            target.reap(twin).unwrap();
            break;
        }
        let why = target.inject_error();
        assert!(begun.elapsed() < LIMIT, "no fork any more: {why:?}");
    }
    while program.ask("?") != "bad=0 child=-1 errno=10" {
        assert!(begun.elapsed() < LIMIT, "{}", program.ask("?"));
    }
}

#[test]
fn a_stop_ends_by_itself_when_its_time_is_over() {
    let directory = tempfile::tempdir().unwrap();
    let mut program = Program::start(directory.path());
    let mut target = Target::open(program.live.child.id()).unwrap();
    let counters = Vaddr(program.area.start().0 + 2 * page_len());
    let counters = PageRange::new(program.area.start(), counters).unwrap();
    let read = |target: &Target| {
        let mut bytes = vec![0; counters.len().as_usize()];
        target.read(&[counters], &mut bytes).unwrap();
        bytes
    };
    target.stop(LIMIT).unwrap();
    target.hold(LIMIT);
    // The last word counts, be it for less time or for more.
    target.hold(Duration::from_millis(20));
    let (before, begun) = (read(&target), Instant::now());
    while read(&target) == before {
        assert!(begun.elapsed() < LIMIT, "it does not go on");
    }
    assert_eq!(target.resume(), Err(Errno::ETIMEDOUT));
    target.stop(LIMIT).unwrap();
    target.hold(Duration::from_millis(20));
    target.hold(LIMIT);
    let before = read(&target);
    std::thread::sleep(Duration::from_millis(50));
    assert!(read(&target) == before, "it moved while it stood still");
    assert!(target.resume().is_ok());
    assert_eq!(program.ask("?"), "bad=0 child=-1 errno=10");
}

/// Names the process that [`tool`] works on, where this program runs as the tool.
const TOOL_TARGET: &str = "ONIONSKIN_TEST_TOOL_TARGET";
/// Has it hold a duplicate until it is killed.
const TOOL_HOLDS: &str = "ONIONSKIN_TEST_TOOL_HOLDS";

/// Not a test by itself: what is killed by the test below.
#[test]
fn body_of_the_tool() {
    let Ok(pid) = std::env::var(TOOL_TARGET) else {
        return;
    };
    let pid = pid.parse().unwrap();
    println!("ready");
    if std::env::var_os(TOOL_HOLDS).is_some() {
        let mut target = Target::open(pid).unwrap();
        target.refresh().unwrap();
        target.stop(LIMIT).unwrap();
        let _twin = target.fork(LIMIT).unwrap();
        target.resume().unwrap();
        println!("forked");
        std::thread::park();
    }
    loop {
        let (mut target, _) = attach(pid);
        target.stop(LIMIT).unwrap();
        target.tasks().unwrap();
        let twin = target.fork(LIMIT).unwrap();
        target.resume().unwrap();
        target.reap(twin).unwrap();
    }
}

/// Starts the tool on a process and waits until it says that it is so far.
fn start_tool(pid: u32, holds: bool, so_far: &str) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    if holds {
        command.env(TOOL_HOLDS, "1");
    }
    let mut tool = command
        .args(["--exact", "body_of_the_tool", "--nocapture"])
        .env(TOOL_TARGET, pid.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(tool.stdout.take().unwrap()).lines();
    assert!(
        lines.any(|line| line.unwrap().contains(so_far)),
        "the tool failed"
    );
    tool
}

#[test]
fn what_a_killed_tool_left_behind_is_reaped_by_the_next() {
    let directory = tempfile::tempdir().unwrap();
    let mut program = Program::start(directory.path());
    let pid = program.live.child.id();
    let mut tool = start_tool(pid, true, "forked");
    tool.kill().unwrap();
    tool.wait().unwrap();
    let ended = || {
        let processes = sys::procfs::processes().unwrap();
        let stats = processes.into_iter().filter_map(|other| {
            let stat = sys::procfs::Process::open(other).ok()?.stat().ok()?;
            (stat.parent == pid).then_some(stat.state == sys::procfs::RunState::Zombie)
        });
        stats.collect::<Vec<bool>>()
    };
    let begun = Instant::now();
    while ended() != [true] {
        assert!(begun.elapsed() < LIMIT, "the duplicate lives on");
    }
    Target::open(pid).unwrap().refresh().unwrap();
    assert_eq!(program.ask("?"), "bad=0 child=-1 errno=10");
}

#[test]
fn the_tool_may_be_killed_at_any_moment() {
    let kills = std::env::var("ONIONSKIN_KILLS").map_or(150, |kills| kills.parse().unwrap());
    let directory = tempfile::tempdir().unwrap();
    let mut program = Program::start(directory.path());
    for round in 0..kills {
        let mut tool = start_tool(program.live.child.id(), false, "ready");
        // Spread over a cycle of a few milliseconds, evenly and without a seed to remember.
        std::thread::sleep(Duration::from_micros(round * 7919 % 9000));
        assert!(
            tool.try_wait().unwrap().is_none(),
            "the tool ended by itself"
        );
        tool.kill().unwrap();
        tool.wait().unwrap();
        let answer = program.ask("?");
        // A tool killed in the microseconds between the stop of a task and what makes it restart
        // its `epoll_wait` leaves that with EINTR, as any stop does (bit 4).
        let fine = answer.starts_with("bad=0 ") || answer.starts_with("bad=4 ");
        assert!(fine, "round {round}: {answer}");
    }
}
