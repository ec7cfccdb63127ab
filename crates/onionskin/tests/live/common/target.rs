//! A running program that a test looks at.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::build::{build, scratch_dir};

/// How long a target may take to answer: far beyond what a loaded machine needs.
const PATIENCE: Duration = Duration::from_secs(120);

/// A program that prints a line of JSON when it is ready, and one for each line it is sent.
///
/// It is killed when this is dropped, and by the kernel when the thread that started it ends.
pub(crate) struct Target {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    /// What it said when it was ready.
    pub(crate) ready: Value,
}

/// How a target ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// With this exit code.
    Exit(i32),
    /// By this signal.
    Signal(i32),
}

impl Target {
    /// Starts the target built of `targets/NAME.c` and waits until it is ready.
    pub(crate) fn start(name: &str, args: &[&str]) -> Self {
        Self::run(Command::new(build(name)).args(args))
    }

    /// Starts a program and waits until it is ready.
    pub(crate) fn run(command: &mut Command) -> Self {
        if command.get_current_dir().is_none() {
            command.current_dir(scratch_dir());
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?} can't be started: {error}"));
        let output = child.stdout.take().expect("its output is a pipe");
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let input = child.stdin.take();
        let mut target = Self {
            child,
            input,
            lines,
            ready: Value::Null,
        };
        target.ready = target.answer();
        target
    }

    /// Returns the id of the process to look at: the one that the target names.
    pub(crate) fn pid(&self) -> u32 {
        self.number("pid")
            .try_into()
            .expect("a process id is small")
    }

    /// Returns a number of the ready line.
    pub(crate) fn number(&self, name: &str) -> u64 {
        number(&self.ready, name)
    }

    /// Returns why the target can't do here what it is for.
    pub(crate) fn skipped(&self) -> Option<&str> {
        self.ready.get("skipped")?.as_str()
    }

    /// Sends a command and returns the answer.
    pub(crate) fn ask(&mut self, command: &str) -> Value {
        self.tell(command);
        self.answer()
    }

    /// Sends a command; nothing happens if the target is gone.
    pub(crate) fn tell(&mut self, command: &str) {
        if let Some(input) = &mut self.input {
            // Who is gone is noticed where the answer is missed.
            let _ = writeln!(input, "{command}");
        }
    }

    /// Waits for a line.
    pub(crate) fn answer(&mut self) -> Value {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => serde_json::from_str(&line)
                .unwrap_or_else(|error| panic!("no JSON: {error}: {line}")),
            Err(RecvTimeoutError::Disconnected) => {
                let status = self.child.wait().expect("it is our child");
                panic!("the target ended: {status}");
            }
            Err(RecvTimeoutError::Timeout) => {
                panic!(
                    "the target does not answer; its tasks: {}",
                    states(self.child.id())
                );
            }
        }
    }

    /// Waits until the number `name` of the target's report is another: it goes on.
    pub(crate) fn must_advance(&mut self, name: &str) {
        let first = number(&self.ask("report"), name);
        let until = Instant::now() + PATIENCE;
        while number(&self.ask("report"), name) == first {
            assert!(
                Instant::now() < until,
                "it stands still: {}",
                states(self.child.id())
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Tells whether the started process still runs.
    pub(crate) fn is_alive(&mut self) -> bool {
        self.child.try_wait().expect("it is our child").is_none()
    }

    /// Asks the target to end, and returns how it did. Targets look at themselves once more then.
    pub(crate) fn finish(mut self) -> Ended {
        self.tell("quit");
        self.input = None;
        self.wait()
    }

    /// Waits for the end of a target that ends by itself.
    pub(crate) fn wait(&mut self) -> Ended {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                return ended(status);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!(
            "the target does not end; its tasks: {}",
            states(self.child.id())
        );
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        // Both fail where it ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ended(status: ExitStatus) -> Ended {
    match (status.code(), status.signal()) {
        (Some(code), _) => Ended::Exit(code),
        (None, Some(signal)) => Ended::Signal(signal),
        (None, None) => unreachable!("a process that was waited for has ended"),
    }
}

/// Returns a number that an answer must have.
pub(crate) fn number(value: &Value, name: &str) -> u64 {
    value[name]
        .as_u64()
        .unwrap_or_else(|| panic!("no number {name} in {value}"))
}

/// Returns the state of each task and what it waits in, to explain a target that hangs.
fn states(pid: u32) -> String {
    let read = |path: std::path::PathBuf| std::fs::read_to_string(path).unwrap_or_default();
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else {
        return "none".to_owned();
    };
    tasks
        .filter_map(Result::ok)
        .map(|task| {
            let stat = read(task.path().join("stat"));
            let state = stat
                .rsplit(") ")
                .next()
                .and_then(|rest| rest.chars().next());
            let tid = task.file_name();
            format!(
                "{} {} {} {}",
                OsStr::to_string_lossy(&tid),
                state.unwrap_or('?'),
                read(task.path().join("wchan")),
                read(task.path().join("syscall")).trim()
            )
        })
        .collect::<Vec<_>>()
        .join("; ")
}
