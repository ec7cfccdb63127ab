//! The usual target: `tests/targets/heartbeat.c`.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::FileExt as _;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use space::{PageRange, Vaddr};

use super::command::{compile, scratch};
use super::stats::float64;

/// Offsets in a thread's slot of the file, and its length.
const BEATS: u64 = 0;
const LARGEST_GAP: u64 = 16;
const RESET: u64 = 40;
const SLOT: u64 = 16 << 10;

/// What a heartbeat is to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Resident memory.
    pub(crate) mib: u64,
    /// The share of pages that are written.
    pub(crate) hot_percent: f64,
    /// Rounds of arithmetic between two writes.
    pub(crate) work: u64,
}

/// A running heartbeat, ended when this is dropped.
pub(crate) struct Heartbeat {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    beats: File,
    threads: u64,
    ready: Value,
}

impl Heartbeat {
    /// Starts one, with a thread a core, and waits until its memory is written.
    pub(crate) fn start(load: Load) -> Result<Self> {
        let program = compile("tests/targets/heartbeat.c", "bench-heartbeat")?;
        let threads = std::thread::available_parallelism()?.get() as u64;
        let file = tempfile::NamedTempFile::new_in(if std::path::Path::new("/dev/shm").is_dir() {
            std::path::Path::new("/dev/shm")
        } else {
            scratch()
        })?;
        let mut child = Command::new(program)
            .args([
                "--threads",
                &threads.to_string(),
                "--mib",
                &load.mib.to_string(),
            ])
            .args(["--hot-percent", &load.hot_percent.to_string()])
            .args(["--work", &load.work.to_string(), "--file"])
            .arg(file.path())
            .current_dir(scratch())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let input = child.stdin.take().context("a pipe")?;
        let output = BufReader::new(child.stdout.take().context("a pipe")?);
        let beats = file.reopen()?;
        let mut started = Self {
            child,
            input,
            output,
            beats,
            threads,
            ready: Value::Null,
        };
        started.ready = started.answer()?;
        // Every hot page was written once it is at its pace.
        std::thread::sleep(Duration::from_millis(500));
        Ok(started)
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its memory, apart from a few pages.
    pub(crate) fn memory(&self) -> Result<PageRange> {
        let number = |name: &str| self.ready[name].as_u64().with_context(|| name.to_owned());
        let start = number("memory")?;
        PageRange::new(Vaddr(start), Vaddr(start + number("len")?)).context("whole pages")
    }

    /// How long a `fork()` of it takes; the child ends at once and is reaped.
    pub(crate) fn fork(&mut self) -> Result<Duration> {
        writeln!(self.input, "fork")?;
        let answer = self.answer()?;
        Ok(Duration::from_nanos(
            answer["fork_ns"].as_u64().context("no fork_ns")?,
        ))
    }

    fn answer(&mut self) -> Result<Value> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            bail!("the heartbeat ended: {}", self.child.wait()?);
        }
        Ok(serde_json::from_str(&line)?)
    }

    fn word(&self, thread: u64, offset: u64) -> Result<u64> {
        let mut bytes = [0; 8];
        self.beats
            .read_exact_at(&mut bytes, thread * SLOT + offset)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Beats of all threads so far.
    pub(crate) fn beats(&self) -> Result<u64> {
        (0..self.threads)
            .map(|thread| self.word(thread, BEATS))
            .sum()
    }

    /// Beats a second over a time.
    pub(crate) fn rate(&self, time: Duration) -> Result<f64> {
        let (before, began) = (self.beats()?, Instant::now());
        std::thread::sleep(time);
        Ok(float64(self.beats()? - before) / began.elapsed().as_secs_f64())
    }

    /// Has every thread forget its largest gap, and returns once they all did.
    pub(crate) fn forget_gaps(&self) -> Result<()> {
        for thread in 0..self.threads {
            self.beats
                .write_all_at(&1u64.to_le_bytes(), thread * SLOT + RESET)?;
        }
        for thread in 0..self.threads {
            while self.word(thread, RESET)? != 0 {
                std::thread::sleep(Duration::from_micros(20));
            }
        }
        Ok(())
    }

    /// Returns the largest gap of any thread since [`Self::forget_gaps`], once every thread beats
    /// again, and the smallest of the threads' largest gaps: all threads were stopped that long.
    pub(crate) fn gaps(&self) -> Result<(Duration, Duration)> {
        for thread in 0..self.threads {
            let seen = self.word(thread, BEATS)?;
            while self.word(thread, BEATS)? < seen + 2 {
                std::thread::sleep(Duration::from_micros(50));
            }
        }
        let gaps: Vec<u64> = (0..self.threads)
            .map(|t| self.word(t, LARGEST_GAP))
            .collect::<Result<_>>()?;
        let largest = gaps.iter().max().copied().unwrap_or(0);
        let smallest = gaps.iter().min().copied().unwrap_or(0);
        Ok((
            Duration::from_nanos(largest),
            Duration::from_nanos(smallest),
        ))
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        // Both fail where it ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
