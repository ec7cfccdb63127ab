//! The memory of a process as `/proc/PID/mem` shows it, to test the audits themselves.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use space::{ByteLen, Errno, PageRange, PageSource};

/// A live process's memory.
pub(crate) struct LiveMemory(File);

impl LiveMemory {
    pub(crate) fn open(pid: u32) -> Self {
        Self(File::open(format!("/proc/{pid}/mem")).expect("our own child can be read"))
    }
}

impl PageSource for LiveMemory {
    fn read(&self, ranges: &[PageRange], buf: &mut [u8]) -> Result<ByteLen, Errno> {
        let mut done = 0;
        for range in ranges {
            let len = range.len().as_usize();
            self.0
                .read_exact_at(&mut buf[done..done + len], range.start().0)?;
            done += len;
        }
        Ok(ByteLen(done as u64))
    }
}

/// Stops a process by job control, and waits until all of its threads stand still.
pub(crate) fn stop(pid: u32) {
    send(pid, Signal::STOP);
    while !states(pid).iter().all(|&state| state == 'T') {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Lets a stopped process go on.
pub(crate) fn go_on(pid: u32) {
    send(pid, Signal::CONT);
}

/// Sends a signal.
pub(crate) fn send(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(pid.cast_signed()).expect("a process id is not 0");
    kill_process(pid, signal).expect("our own child takes signals");
}

/// Returns the state of each thread.
pub(crate) fn states(pid: u32) -> Vec<char> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("the process is there");
    tasks
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("stat")).ok())
        .filter_map(|stat| stat.rsplit(") ").next()?.chars().next())
        .collect()
}
