//! Runs one test program: shows what it prints, reads it, and ends it when it takes too long.

pub(crate) mod output;

use std::fs;
use std::io::{BufRead as _, BufReader, ErrorKind, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use self::output::Output;
use super::report::Counts;
use crate::process;

/// How often the clock is looked at while nothing is printed.
const TICK: Duration = Duration::from_millis(100);
/// How long a program that has ended may keep its pipe open, through processes it left behind.
const DRAIN: Duration = Duration::from_secs(2);

/// Runs a test program to its end or its limit. `skips` is the file that its tests append to.
pub(crate) fn run(command: &mut Command, skips: &Path, limit: Duration) -> Result<Counts> {
    if let Err(error) = fs::remove_file(skips)
        && error.kind() != ErrorKind::NotFound
    {
        return Err(error).with_context(|| format!("removing {}", skips.display()));
    }
    process::announce(command);
    let program = command.get_program().display().to_string();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("{program} could not be started"))?;
    let lines = read_lines(&mut child);
    let mut output = Output::default();
    let ended = follow(&mut child, &lines, &mut output, limit)?;
    if let Ok(text) = fs::read_to_string(skips) {
        output.skip_file(&text);
    }
    Ok(output.counts(&match ended {
        Some(status) if status.success() => None,
        Some(status) => Some(format!("ended with {status}")),
        None => Some(format!("was ended after {} s", limit.as_secs())),
    }))
}

/// A line and whether it came from standard output.
type Line = (bool, String);

fn read_lines(child: &mut Child) -> Receiver<Line> {
    let (sender, lines) = mpsc::channel();
    let stdout = child.stdout.take().expect("standard output is a pipe");
    let stderr = child.stderr.take().expect("standard error is a pipe");
    forward(stdout, true, sender.clone());
    forward(stderr, false, sender);
    lines
}

/// Sends each line on. The thread ends with the pipe; nobody waits for it, because a process that
/// the tests left behind may hold the pipe open.
fn forward(pipe: impl Read + Send + 'static, is_stdout: bool, lines: Sender<Line>) {
    thread::spawn(move || {
        let mut pipe = BufReader::new(pipe);
        let mut line = Vec::new();
        while pipe
            .read_until(b'\n', &mut line)
            .is_ok_and(|length| length > 0)
        {
            let text = String::from_utf8_lossy(&line)
                .trim_end_matches('\n')
                .to_owned();
            if lines.send((is_stdout, text)).is_err() {
                return;
            }
            line.clear();
        }
    });
}

/// Shows and reads lines until the program has ended; none if it had to be ended.
fn follow(
    child: &mut Child,
    lines: &Receiver<Line>,
    output: &mut Output,
    limit: Duration,
) -> Result<Option<ExitStatus>> {
    let mut deadline = Instant::now() + limit;
    let mut status = None;
    let mut in_time = true;
    loop {
        match lines.recv_timeout(TICK) {
            Ok((true, line)) => {
                if output.stdout_line(&line) {
                    println!("{line}");
                }
            }
            Ok((false, line)) => {
                output.stderr_line(&line);
                eprintln!("{line}");
            }
            Err(RecvTimeoutError::Disconnected) => {
                status = Some(child.wait()?);
                break;
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
        if status.is_none() {
            status = child.try_wait()?;
            if status.is_some() {
                deadline = Instant::now() + DRAIN;
            }
        }
        if Instant::now() > deadline {
            if status.is_none() {
                in_time = false;
                process::kill_tree(child.id());
                status = Some(child.wait()?);
            }
            break;
        }
    }
    Ok(status.filter(|_| in_time))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_script(name: &str, script: &str, limit: Duration) -> Counts {
        let skips = std::env::temp_dir().join(format!("xtask-{name}-{}", std::process::id()));
        let mut command = Command::new("sh");
        command.args(["-c", script]).env("ONIONSKIN_SKIPS", &skips);
        let counts = run(&mut command, &skips, limit).unwrap();
        // It exists only where the script wrote it.
        let _ = fs::remove_file(&skips);
        counts
    }

    const RESULT: &str = "echo 'test a ... ok'; echo 'test m::b ... ok'; \
                          echo 'test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured'";

    #[test]
    fn counts_what_was_skipped_in_the_file() {
        let script = format!("echo 'b: no root' >>\"$ONIONSKIN_SKIPS\"; {RESULT}");
        let counts = run_script("file", &script, Duration::from_secs(60));
        let skipped = vec!["m::b: no root".to_owned()];
        assert_eq!(
            counts,
            Counts {
                passed: 1,
                failed: 0,
                skipped
            }
        );
    }

    #[test]
    fn a_program_that_hangs_is_ended_and_fails() {
        let counts = run_script("hang", "sleep 600 & wait", Duration::from_millis(300));
        assert_eq!((counts.passed, counts.failed), (0, 1));
    }

    #[test]
    fn a_process_left_behind_does_not_hold_up_the_run() {
        // Its pid is printed where only this test looks: as the reason of a skipped part.
        let script = format!("sleep 600 & echo \"a/left: $!\" >>\"$ONIONSKIN_SKIPS\"; {RESULT}");
        let start = Instant::now();
        let counts = run_script("left", &script, Duration::from_secs(500));
        let pid = counts.skipped[0]
            .rsplit(' ')
            .next()
            .unwrap()
            .parse()
            .unwrap();
        process::kill_tree(pid);
        assert!(start.elapsed() < Duration::from_secs(400));
        assert_eq!((counts.passed, counts.failed), (2, 0));
    }

    #[test]
    fn a_program_that_dies_fails() {
        let counts = run_script(
            "die",
            "echo 'test a ... ok'; kill -9 $$",
            Duration::from_secs(60),
        );
        assert_eq!((counts.passed, counts.failed), (1, 1));
    }
}
