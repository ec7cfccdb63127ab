//! One run of the examination, watched: what it says, and how it ends.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::process;

/// It says every second that it goes on: what is silent for so long never comes back. Much longer
/// than a busy machine delays anything.
const SILENCE: Duration = Duration::from_secs(40);
/// How long one may take in all.
const LIMIT: Duration = Duration::from_secs(600);
/// How much memory it may take, in KiB: a model that never stops taking some must not take the
/// machine's.
const MEMORY_KIB: u64 = 2 << 20;

/// What an examination said.
#[derive(Debug)]
pub(super) struct Said {
    /// The first thing that is wrong.
    pub(super) wrong: Option<String>,
    /// How many steps were compared, if it came to its end.
    pub(super) steps: u64,
    /// How it ended otherwise: with what it was at.
    pub(super) broke: Option<String>,
}

/// Runs an examination to its end, or until something is wrong.
pub(super) fn run(command: &mut Command) -> Result<Said> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("the examination could not be started")?;
    let output = child.stdout.take().context("a pipe from the examination")?;
    let (sender, receiver) = mpsc::channel();
    let reader = thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    let mut said = Said {
        wrong: None,
        steps: 0,
        broke: None,
    };
    let mut at = "the beginning".to_owned();
    let mut done = false;
    let begin = Instant::now();
    let mut heard = begin;
    loop {
        const LOOK: Duration = Duration::from_millis(100);
        match receiver.recv_timeout(LOOK) {
            Ok(line) => {
                heard = Instant::now();
                if let Some(what) = line.strip_prefix("at ") {
                    what.clone_into(&mut at);
                } else if let Some(steps) = line.strip_prefix("done ") {
                    said.steps = steps.parse()?;
                    done = true;
                } else {
                    said.wrong = Some(line);
                    break;
                }
            }
            Err(RecvTimeoutError::Timeout)
                if heard.elapsed() > SILENCE || begin.elapsed() > LIMIT =>
            {
                said.broke = Some(format!("never comes back from {at}"));
                break;
            }
            Err(RecvTimeoutError::Timeout) if memory_kib(child.id()) > MEMORY_KIB => {
                said.broke = Some(format!("takes ever more memory in {at}"));
                break;
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                // An error of its own, as a full disk is, is none of the model's.
                if child.wait()?.code() == Some(1) {
                    bail!("the examination failed in {at}");
                }
                if !done {
                    said.broke = Some(format!("ends in {at}"));
                }
                break;
            }
        }
    }
    process::kill_tree(child.id());
    child.wait()?;
    drop(receiver);
    reader.join().expect("the reader does not panic");
    Ok(said)
}

/// How much memory a process has, in KiB; 0 if it is not there any more.
fn memory_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|size| size.trim().strip_suffix(" kB")?.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said_by(script: &str) -> Said {
        run(Command::new("sh").args(["-c", script])).unwrap()
    }

    #[test]
    fn an_end_without_a_fault_has_steps() {
        let said = said_by("echo at cases; echo done 7");
        assert_eq!((said.wrong, said.steps, said.broke), (None, 7, None));
    }

    #[test]
    fn what_is_wrong_ends_it_at_once() {
        let said = said_by("echo case new; sleep 600");
        assert_eq!(said.wrong.as_deref(), Some("case new"));
        assert_eq!((said.steps, said.broke), (0, None));
    }

    #[test]
    fn an_end_before_the_end_is_told() {
        let said = said_by("echo at cases; exit 3");
        assert_eq!(said.broke.as_deref(), Some("ends in cases"));
        assert!(run(Command::new("sh").args(["-c", "echo at cases; exit 1"])).is_err());
    }
}
