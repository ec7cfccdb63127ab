//! A program to look at: the demo's own.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// The demo's program, which works until this is dropped.
pub(crate) struct Workload(Child);

impl Workload {
    pub(crate) fn start() -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_onionskin"))
            .args(["demo-workload", "--memory", "2MiB", "--threads", "2"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the command starts");
        // It says hello when its memory is filled.
        let mut hello = String::new();
        let output = child.stdout.as_mut().expect("its output is a pipe");
        BufReader::new(output).read_line(&mut hello).unwrap();
        assert!(hello.starts_with('{'), "{hello}");
        Self(child)
    }

    pub(crate) fn pid(&self) -> String {
        self.0.id().to_string()
    }

    /// Ends it, by asking; it looks at itself once more then.
    pub(crate) fn finish(mut self) {
        drop(self.0.stdin.take());
        assert!(self.0.wait().unwrap().success());
    }

    /// Ends it at once.
    pub(crate) fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        // Both fail where it ended before.
        _ = self.0.kill();
        _ = self.0.wait();
    }
}
