//! A real process, tracked, stopped, made to fork, and left as it was.
#![expect(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use space::{
    AddressSpace, Freeze, PageFlags, PageRange, PageSource, Rearm, Scan, Tracked, Tracking, Vaddr,
};
use sys::{Target, TrackWish};

const LIMIT: Duration = Duration::from_secs(5);

/// Counts in memory, one page a thread, and checks that its calls wait as long as they should.
const PROGRAM: &str = r#"
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#define PAGES 1024
static volatile unsigned char *area;
static volatile int stop, bad;
static double now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec + t.tv_nsec / 1e9; }
static void *count(void *arg) {
    long id = (long)arg;
    volatile uint64_t *cell = (volatile uint64_t *)(area + id * 4096);
    while (!stop) { cell[0]++; cell[1]++; }
    return 0;
}
static void *nap(void *arg) {
    while (!stop) {
        struct timespec t = {0, 50000000};
        double from = now();
        if (nanosleep(&t, 0)) bad |= 1;
        if (now() - from < 0.05) bad |= 2;
    }
    return 0;
}
static void *wait_events(void *arg) {
    int set = epoll_create1(0);
    struct epoll_event event;
    while (!stop) {
        double from = now();
        int got = epoll_wait(set, &event, 1, 40);
        if (got < 0) bad |= 4;
        if (got == 0 && now() - from < 0.039) bad |= 8;
    }
    return 0;
}
static void *wait_poll(void *arg) {
    while (!stop) {
        double from = now();
        if (poll(0, 0, 30) != 0) bad |= 16;
        if (now() - from < 0.029) bad |= 32;
    }
    return 0;
}
int main(void) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    area = mmap(0, PAGES * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    madvise((void *)area, PAGES * 4096, MADV_NOHUGEPAGE);
    for (long i = 0; i < PAGES; i += 2) area[i * 4096 + 100] = 1 + i % 200;
    pthread_t t;
    for (long i = 0; i < 2; i++) pthread_create(&t, 0, count, (void *)i);
    pthread_create(&t, 0, nap, 0);
    pthread_create(&t, 0, wait_events, 0);
    pthread_create(&t, 0, wait_poll, 0);
    printf("%p\n", (void *)area);
    fflush(stdout);
    char line[16];
    while (fgets(line, sizeof line, stdin)) {
        if (line[0] == 'w') { area[strtol(line + 1, 0, 10) * 4096 + 200] = 7; }
        int child = waitpid(-1, 0, WNOHANG | __WALL);
        printf("bad=%d child=%d errno=%d\n", bad, child, child < 0 ? errno : 0);
        fflush(stdout);
    }
    return 0;
}
"#;

struct Program {
    child: Child,
    answers: BufReader<ChildStdout>,
    area: PageRange,
}

impl Program {
    fn start(directory: &Path) -> Self {
        let source = directory.join("program.c");
        std::fs::write(&source, PROGRAM).unwrap();
        let binary: PathBuf = directory.join("program");
        let built = Command::new("cc")
            .args(["-O1", "-pthread", "-o"])
            .args([&binary, &source])
            .status()
            .expect("a C compiler");
        assert!(built.success());
        let mut child = Command::new(&binary)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut answers = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        answers.read_line(&mut line).unwrap();
        let start = u64::from_str_radix(line.trim().trim_start_matches("0x"), 16).unwrap();
        let area = PageRange::new(Vaddr(start), Vaddr(start + 1024 * 4096)).unwrap();
        Self {
            child,
            answers,
            area,
        }
    }

    fn ask(&mut self, line: &str) -> String {
        writeln!(self.child.stdin.as_mut().unwrap(), "{line}").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        answer.trim().to_owned()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn scan(target: &mut Target, range: PageRange, rearm: Rearm) -> Vec<PageRange> {
    let scan = Scan {
        all_of: PageFlags::WRITTEN,
        any_of: PageFlags::PRESENT | PageFlags::SWAPPED,
        report: PageFlags::PRESENT,
        rearm,
    };
    let mut runs = Vec::new();
    target.scan(&scan, &[range], &mut runs).unwrap();
    runs.iter().map(|run| run.range).collect()
}

#[test]
fn a_process_is_tracked_and_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let mut program = Program::start(directory.path());
    let pid = program.child.id();
    let mut target = Target::open(pid).unwrap();
    target.attach(TrackWish::Best, LIMIT).unwrap();
    assert_eq!(target.tracking(), Tracking::WriteProtect);
    let mut outcome = Vec::new();
    target.track(&[program.area], &mut outcome).unwrap();
    assert_eq!(outcome, [Tracked::Yes(program.area)]);

    let armed = scan(&mut target, program.area, Rearm::Rearm);
    assert_eq!(
        armed.iter().map(|range| range.len().0 / 4096).sum::<u64>(),
        513,
        "{armed:?}"
    );
    program.ask("w500");
    let written = scan(&mut target, program.area, Rearm::Rearm);
    let page = Vaddr(program.area.start().0 + 500 * 4096);
    assert!(
        written.iter().any(|range| range.contains(page)),
        "{written:?}"
    );
    assert!(
        written
            .iter()
            .map(|range| range.len().0 / 4096)
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
    let pid = program.child.id();
    let mut target = Target::open(pid).unwrap();
    target.attach(TrackWish::Best, LIMIT).unwrap();
    let counters = PageRange::new(program.area.start(), Vaddr(program.area.start().0 + 8192));
    let counters = counters.unwrap();
    for _ in 0..50 {
        let mut frozen = [vec![0; 8192], vec![0; 8192], vec![0; 8192]];
        target.stop(LIMIT).unwrap();
        target.read(&[counters], &mut frozen[0]).unwrap();
        let tasks = target.tasks().unwrap();
        assert_eq!(tasks.len(), 6);
        assert_eq!(tasks[0].tid, pid);
        let twin = target
            .fork()
            .unwrap_or_else(|e| panic!("{e}: {:?}", target.inject_error()));
        target.read(&[counters], &mut frozen[1]).unwrap();
        assert_eq!(frozen[0], frozen[1]);
        target.resume();
        std::thread::sleep(Duration::from_millis(5));
        twin.read(&[counters], &mut frozen[2]).unwrap();
        assert_eq!(frozen[0], frozen[2]);
        let mut now = vec![0; 8192];
        target.read(&[counters], &mut now).unwrap();
        assert_ne!(frozen[0], now);
        target.reap(twin).unwrap();
    }
    assert_eq!(program.ask("?"), "bad=0 child=-1 errno=10");
}

/// Names the process that [`tool`] works on, where this program runs as the tool.
const TOOL_TARGET: &str = "ONIONSKIN_TEST_TOOL_TARGET";

/// Not a test by itself: what is killed by the test below.
#[test]
fn tool() {
    let Ok(pid) = std::env::var(TOOL_TARGET) else {
        return;
    };
    let pid = pid.parse().unwrap();
    println!("ready");
    loop {
        let mut target = Target::open(pid).unwrap();
        target.attach(TrackWish::Best, LIMIT).unwrap();
        target.stop(LIMIT).unwrap();
        target.tasks().unwrap();
        let twin = target.fork().unwrap();
        target.resume();
        target.reap(twin).unwrap();
    }
}

#[test]
fn the_tool_may_be_killed_at_any_moment() {
    let kills = std::env::var("ONIONSKIN_KILLS").map_or(150, |kills| kills.parse().unwrap());
    let directory = tempfile::tempdir().unwrap();
    let mut program = Program::start(directory.path());
    for round in 0..kills {
        let mut tool = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "tool", "--nocapture"])
            .env(TOOL_TARGET, program.child.id().to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(tool.stdout.take().unwrap()).lines();
        assert!(
            lines.any(|line| line.unwrap().contains("ready")),
            "the tool failed"
        );
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
