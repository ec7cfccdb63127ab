//! A client that asks every millisecond, whether or not the last answer has come: what users of the
//! server feel. A client that waits for each answer first sees a stop once only, however long.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{ScopedJoinHandle, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

/// Between two questions.
pub(crate) const EVERY: Duration = Duration::from_millis(1);

/// Answers: when they were due since the start, and how long after that they came.
pub(crate) type Answers = Vec<(Duration, Duration)>;

const QUESTION: &[u8] = b"GET key:1\r\n";

/// Asks until `stop` is set.
pub(crate) fn ask(mut stream: UnixStream, began: Instant, stop: &AtomicBool) -> Result<Answers> {
    let len = answer_len(&mut stream)?;
    let mut answer = vec![0; len];
    let mut answers = Vec::new();
    let mut due = began.elapsed();
    while !stop.load(Ordering::Relaxed) {
        sleep(due.saturating_sub(began.elapsed()));
        stream.write_all(QUESTION)?;
        stream.read_exact(&mut answer)?;
        answers.push((due, began.elapsed().saturating_sub(due)));
        due += EVERY;
    }
    Ok(answers)
}

/// The length of the answer, which is always the same.
fn answer_len(stream: &mut UnixStream) -> Result<usize> {
    stream.write_all(QUESTION)?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.extend(byte);
    }
    let value: usize = String::from_utf8_lossy(&head[1..])
        .trim()
        .parse()
        .context("no such key")?;
    stream.read_exact(&mut vec![0; value + 2])?;
    Ok(head.len() + value + 2)
}

/// Waits for a probe.
pub(crate) fn join(probe: ScopedJoinHandle<'_, Result<Answers>>) -> Result<Answers> {
    probe.join().ok().context("the probe panicked")?
}
