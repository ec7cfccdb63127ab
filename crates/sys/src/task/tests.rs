//! Stops of a program that waits in calls which any signal ends.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::stop::{Seized, ask, await_late, seize, take_stop};
use super::*;
use crate::programs::program;
use crate::raw::process::signal_task;
use crate::raw::ptrace;

const LIMIT: Duration = Duration::from_secs(20);

struct Waiting {
    child: Child,
    answers: BufReader<ChildStdout>,
    _directory: TempDir,
}

/// What became of its waits.
#[derive(Debug)]
struct Waited {
    ended: [u64; 3],
    interrupted: u64,
    early: u64,
    waiter: u32,
}

impl Waiting {
    fn start(ms: u32) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut child = Command::new(program("waits", directory.path()))
            .arg(ms.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut answers = BufReader::new(child.stdout.take().unwrap());
        answers.read_line(&mut String::new()).unwrap();
        Self {
            child,
            answers,
            _directory: directory,
        }
    }

    fn ask(&mut self) -> Waited {
        self.child
            .stdin
            .as_mut()
            .unwrap()
            .write_all(b"?\n")
            .unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        let numbers: Vec<u64> = line
            .split_whitespace()
            .filter_map(|word| word.parse().ok())
            .collect();
        let [a, b, c, interrupted, early, waiter] = numbers[..] else {
            panic!("{line}");
        };
        Waited {
            ended: [a, b, c],
            interrupted,
            early,
            waiter: u32::try_from(waiter).unwrap(),
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        self.child.wait().unwrap();
    }
}

#[test]
fn waits_that_carry_no_mark_end_in_one_session() {
    let mut program = Waiting::start(600);
    let pid = program.child.id();
    let mut interrupted = Interrupted::new(false);
    interrupted.marks = false;
    let mut sharers = Sharers::find(pid, pid).unwrap();
    let begun = Instant::now();
    let mut stops = 0;
    let waited = loop {
        drop(Tracer::stop(&mut sharers, &interrupted, LIMIT).unwrap());
        stops += 1;
        std::thread::sleep(Duration::from_millis(20));
        let waited = program.ask();
        if waited.ended.iter().all(|&rounds| rounds > 1) || begun.elapsed() > LIMIT * 3 {
            break waited;
        }
    };
    println!("{waited:?} after {stops} stops in {:?}", begun.elapsed());
    assert!(waited.ended.iter().all(|&rounds| rounds > 1), "{waited:?}");
    assert_eq!((waited.interrupted, waited.early), (0, 0));
    assert!(interrupted.waits().take_any());
    assert!(!interrupted.waits().take_any());
}

#[test]
fn tasks_whose_stop_comes_after_an_error_wait_on() {
    let mut program = Waiting::start(3_600_000);
    let pid = program.child.id();
    for asked in [true, false] {
        // The end of the thread lets go of those that were not asked.
        let passed = std::thread::spawn(move || {
            let mut stopped = Stopped::none(Interrupted::new(false));
            let mut seized = Vec::new();
            for tid in proc::tasks(pid).unwrap() {
                assert!(seize(tid, &mut stopped).unwrap());
                seized.push(Seized::new(pid, tid));
            }
            if asked {
                ask(&mut seized).unwrap();
            }
            let begun = Instant::now();
            await_late(&mut stopped, seized);
            assert_eq!(stopped.tasks, []);
            begun.elapsed()
        });
        let passed = passed.join().unwrap();
        println!("asked: {asked}, {passed:?}");
        assert_eq!(program.ask().interrupted, 0, "asked: {asked}");
        // The kernel lets go of them a little after the thread can be joined.
        let (waiter, begun) = (program.ask().waiter, Instant::now());
        while proc::tracer(waiter) != 0 {
            assert!(
                begun.elapsed() < LIMIT,
                "asked: {asked}: it is traced still"
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

#[test]
fn a_task_that_a_signal_stops_before_it_is_asked_waits_on() {
    let mut program = Waiting::start(3_600_000);
    let pid = program.child.id();
    let tid = program.ask().waiter;
    for _ in 0..20 {
        let mut stopped = Stopped::none(Interrupted::new(false));
        assert!(seize(tid, &mut stopped).unwrap());
        signal_task(pid, tid, libc::SIGWINCH).unwrap();
        let begun = Instant::now();
        while proc::stat(tid).unwrap().state != crate::procfs::RunState::Traced {
            assert!(begun.elapsed() < LIMIT, "the signal does not come");
        }
        let mut seized = [Seized::new(pid, tid)];
        ask(&mut seized).unwrap();
        let task = take_stop(&seized[0], &stopped.interrupted).unwrap();
        stopped.tasks.push(task.unwrap());
        _ = stopped.let_go();
        // It gets there before it is stopped again.
        while proc::stat(tid).unwrap().state != crate::procfs::RunState::Sleeping {
            assert!(begun.elapsed() < LIMIT, "it does not wait any more");
        }
    }
    assert_eq!(program.ask().interrupted, 0);
}

#[test]
fn a_task_that_comes_to_its_call_too_late_waits_on() {
    let mut program = Waiting::start(3_600_000);
    let pid = program.child.id();
    let tid = program.ask().waiter;
    let mut stopped = Stopped::none(Interrupted::new(false));
    assert!(seize(tid, &mut stopped).unwrap());
    let mut seized = [Seized::new(pid, tid)];
    ask(&mut seized).unwrap();
    let begun = Instant::now();
    let take = |stopped: &Stopped| {
        loop {
            if let Some(task) = take_stop(&seized[0], &stopped.interrupted).unwrap() {
                break task;
            }
            assert!(begun.elapsed() < LIMIT, "it does not stop");
        }
    };
    assert_eq!(take(&stopped).halt, Halt::Trap);
    ptrace::set_options(tid, libc::PTRACE_O_TRACESYSGOOD).unwrap();
    ptrace::syscall(tid).unwrap();
    assert_eq!(wait_stop(tid, LIMIT), Ok(Some(CALL_STOP)));
    // Were it let go here, its call would end with `EINTR`.
    let task = take(&stopped);
    assert_eq!(task.halt, Halt::Trap);
    stopped.tasks.push(task);
    _ = stopped.let_go();
    while proc::stat(tid).unwrap().state != crate::procfs::RunState::Sleeping {
        assert!(begun.elapsed() < LIMIT, "it does not wait any more");
    }
    assert_eq!(program.ask().interrupted, 0);
}

#[test]
fn a_first_task_that_waits_is_hardly_ever_woken_by_what_its_process_ignores() {
    /// About one stop in a hundred ended its wait where it was stopped last, and one in two
    /// thousand where it is stopped first.
    const STOPS: u32 = 1000;
    const ENDED_MAX: u64 = 3;
    const TRIES: u32 = 4;
    let directory = tempfile::tempdir().unwrap();
    let mut child = Command::new(program("first_waits", directory.path()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut answers = BufReader::new(child.stdout.take().unwrap());
    let mut input = child.stdin.take().unwrap();
    let mut line = String::new();
    answers.read_line(&mut line).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    let mut ask = || {
        input.write_all(b"?\n").unwrap();
        line.clear();
        answers.read_line(&mut line).unwrap();
        let mut numbers = line.split_whitespace().map(|word| word.parse().unwrap());
        let mut next = || -> u64 { numbers.next().unwrap() };
        (next(), next())
    };
    let pid = child.id();
    let mut storm = || {
        let (begun, before) = (Instant::now(), ask());
        let mut stops = 0;
        while stops < STOPS && begun.elapsed() < LIMIT {
            let mut sharers = Sharers::find(pid, pid).unwrap();
            drop(Tracer::stop(&mut sharers, &Interrupted::new(false), LIMIT).unwrap());
            stops += 1;
            std::thread::sleep(Duration::from_micros(1500));
        }
        let after = ask();
        println!(
            "{before:?}, {after:?} after {stops} stops in {:?}",
            begun.elapsed()
        );
        assert!(after.1 > before.1, "no children were made");
        after.0 - before.0
    };
    // The moments are longer on a busy machine, and all the more on an emulated one.
    let hardly_any = (0..TRIES).any(|_| storm() <= ENDED_MAX);
    assert!(hardly_any || std::env::var_os("ONIONSKIN_SLOW").is_some());
    drop(input);
    child.wait().unwrap();
}

#[test]
fn a_process_that_executes_itself_is_stopped_or_not_but_nobody_waits_for_ever() {
    let directory = tempfile::tempdir().unwrap();
    let mut child = Command::new(program("executes", directory.path()))
        .spawn()
        .unwrap();
    let pid = child.id();
    let (answer, answered) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let begun = Instant::now();
        let (mut stops, mut errors) = (0, 0);
        while begun.elapsed() < Duration::from_secs(5) {
            let stopped =
                Sharers::find(pid, pid)
                    .map_err(StopError::from)
                    .and_then(|mut sharers| {
                        Tracer::stop(
                            &mut sharers,
                            &Interrupted::new(false),
                            Duration::from_secs(2),
                        )
                    });
            match stopped {
                Ok(_) => stops += 1,
                Err(error) => {
                    errors += 1;
                    println!("{error}");
                }
            }
        }
        answer.send((stops, errors)).unwrap();
    });
    let (stops, errors) = answered.recv_timeout(LIMIT * 2).expect("a stop hangs");
    println!("{stops} stops, {errors} errors");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(stops > 0);
}
