//! Huge pages for the tests, given back when the run ends, however it ends.
//!
//! A shell waits on a pipe whose other end only this process holds. When the pipe closes, because
//! the value was dropped or because this process died, the shell takes the pages back. It counts
//! down by what was added, so that two runs at once don't undo one another.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

const POOL: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB";

/// Pages of 2 MiB reserved for the tests.
pub(super) struct HugePages {
    state: State,
}

enum State {
    /// Pages were added, and the guard takes them back.
    Added { pages: u64, guard: Child },
    /// Enough were free already.
    Enough { free: u64 },
    /// None could be reserved, and why.
    Unavailable(String),
}

impl HugePages {
    /// Makes sure that so many pages are free, as far as this machine allows.
    pub(super) fn reserve(wanted: u64) -> Self {
        // Reserved pages stay free until they are touched. (Linux 6.18 leaks reservations where a
        // part of a private mapping of hugetlb is moved by `mremap`: for good.)
        let reserved = read("resv_hugepages").unwrap_or(0);
        let free = read("free_hugepages").map(|free| free.saturating_sub(reserved));
        let state = match (free, read("nr_hugepages")) {
            (Some(free), Some(_)) if free >= wanted => State::Enough { free },
            (Some(free), Some(total)) => add(total, wanted - free),
            _ => State::Unavailable("this kernel has no pool of 2 MiB pages".to_owned()),
        };
        Self { state }
    }

    /// What was reserved, in words.
    pub(super) fn describe(&self) -> String {
        match &self.state {
            State::Added { pages, .. } => format!("{pages} of 2 MiB added for this run"),
            State::Enough { free } => format!("{free} of 2 MiB are free"),
            State::Unavailable(why) => format!("none reserved: {why}"),
        }
    }
}

impl Drop for HugePages {
    fn drop(&mut self) {
        if let State::Added { guard, .. } = &mut self.state {
            drop(guard.stdin.take());
            // The guard has nothing to report: what it could not give back, nobody can.
            let _ = guard.wait();
        }
    }
}

fn add(total: u64, more: u64) -> State {
    let file = format!("{POOL}/nr_hugepages");
    if let Err(error) = fs::write(&file, (total + more).to_string()) {
        return State::Unavailable(format!("{file} can't be written: {error}"));
    }
    // The kernel gives what it finds, which may be less.
    let pages = read("nr_hugepages").unwrap_or(total).saturating_sub(total);
    if pages == 0 {
        return State::Unavailable("no memory in pieces of 2 MiB".to_owned());
    }
    match start_guard(&file, pages) {
        Ok(guard) => State::Added { pages, guard },
        Err(error) => {
            let undone = fs::write(&file, total.to_string());
            State::Unavailable(format!("no shell to give them back: {error} ({undone:?})"))
        }
    }
}

fn start_guard(file: &str, pages: u64) -> std::io::Result<Child> {
    const SCRIPT: &str = r#"
        trap '' INT TERM HUP PIPE
        cat >/dev/null
        back=$(( $(cat "$1") - $2 ))
        [ "$back" -ge 0 ] || back=0
        echo "$back" >"$1"
    "#;
    Command::new("sh")
        .args(["-c", SCRIPT, "give-back", file, &pages.to_string()])
        // Its own group: an interrupt from the terminal ends the run, not the guard.
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}

fn read(name: &str) -> Option<u64> {
    fs::read_to_string(format!("{POOL}/{name}"))
        .ok()?
        .trim()
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guard_takes_back_what_was_added_and_no_more() {
        let file = std::env::temp_dir().join(format!("xtask-hugepages-{}", std::process::id()));
        fs::write(&file, "70\n").unwrap();
        let guard = start_guard(file.to_str().unwrap(), 64).unwrap();
        drop(HugePages {
            state: State::Added { pages: 64, guard },
        });
        assert_eq!(fs::read_to_string(&file).unwrap(), "6\n");
        fs::remove_file(&file).unwrap();
    }
}
