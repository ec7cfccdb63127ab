//! The demo's own program, as a child process that ends with the demo.

use std::env;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context, Result};

use super::workload::{Goodbye, Hello};

/// A running program of our own. It is ended where this is dropped.
#[derive(Debug)]
pub(super) struct Workload {
    child: Child,
    said: BufReader<ChildStdout>,
    /// What the program said of itself.
    pub(super) hello: Hello,
}

impl Workload {
    /// Starts it and waits until its memory is filled.
    ///
    /// # Errors
    ///
    /// Those of starting a program.
    pub(super) fn start(memory: u64) -> Result<Self> {
        let program = env::current_exe().context("can't find the program that runs now")?;
        let mut child = Command::new(&program)
            .args(["demo-workload", "--memory", &memory.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("can't start {}", program.display()))?;
        let said = child.stdout.take().expect("its standard output is a pipe");
        let mut started = Self {
            child,
            said: BufReader::new(said),
            hello: Hello {
                base: 0,
                accounts: 0,
                threads: 0,
                total: 0,
            },
        };
        started.hello = serde_json::from_str(&started.line()?)
            .context("the demo's program did not say what was expected")?;
        Ok(started)
    }

    /// Returns its process id.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to end, and returns what it found.
    ///
    /// # Errors
    ///
    /// Where it died before.
    pub(super) fn end(mut self) -> Result<Goodbye> {
        drop(self.child.stdin.take());
        let line = self.line()?;
        self.child
            .wait()
            .context("can't wait for the demo's program")?;
        serde_json::from_str(&line).context("the demo's program did not say goodbye")
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        let read = self.said.read_line(&mut line);
        let read = read.context("can't hear the demo's program")?;
        anyhow::ensure!(read > 0, "the demo's program (process {}) died", self.pid());
        Ok(line)
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to kill and nothing to say.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
