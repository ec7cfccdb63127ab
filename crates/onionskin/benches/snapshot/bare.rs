//! The bare loops in C, as a process of their own.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;
use space::PageFlags;

use super::command::compile;

/// `bare.c`, at work on one process; ended when this is dropped.
pub(crate) struct Bare {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

/// What one loop took and found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Loop {
    /// How long it took.
    pub(crate) time: Duration,
    /// Regions that the scan gave.
    pub(crate) regions: u64,
    /// Bytes of present and written pages.
    pub(crate) bytes: u64,
}

impl Bare {
    /// Starts it for a process of which up to `mib` are to be copied.
    pub(crate) fn start(pid: u32, mib: u64, all_of: PageFlags, report: PageFlags) -> Result<Self> {
        let program = compile("benches/snapshot/bare.c", "bench-bare")?;
        let mut child = Command::new(program)
            .args([pid.to_string(), mib.to_string()])
            .args([all_of.bits().to_string(), report.bits().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let input = child.stdin.take().context("a pipe")?;
        let output = BufReader::new(child.stdout.take().context("a pipe")?);
        let mut bare = Self {
            child,
            input,
            output,
        };
        bare.answer()?;
        Ok(bare)
    }

    /// Runs one loop: `scan`, `written` or `copy`.
    pub(crate) fn run(&mut self, name: &str) -> Result<Loop> {
        writeln!(self.input, "{name}")?;
        let answer = self.answer()?;
        let number = |name: &str| answer[name].as_u64().context("a number");
        Ok(Loop {
            time: Duration::from_nanos(number("ns")?),
            regions: number("regions")?,
            bytes: number("bytes")?,
        })
    }

    fn answer(&mut self) -> Result<Value> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        serde_json::from_str(&line).context("bare ended")
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        // Both fail where it ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
