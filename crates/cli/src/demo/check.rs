//! Checks a snapshot and a core of the demo's program from outside.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use onionskin::store::Snapshot;
use space::{PageRange, Vaddr};

use super::workload::Hello;

/// Reads the program's memory out of a snapshot; returns the sum of all accounts and how many
/// amounts had been moved.
///
/// # Errors
///
/// Those of the store, and pages that are missing.
pub(super) fn sum(snapshot: &Snapshot, hello: &Hello) -> Result<(u64, u64)> {
    let page_size = snapshot.page_size();
    let start = Vaddr(hello.base).align_down(page_size);
    let end = Vaddr(hello.base + hello.len_bytes()).align_up(page_size);
    let range = end.and_then(|end| PageRange::new(start, end));
    let range = range.context("the accounts lie at no possible address")?;
    let mut bytes = vec![0; range.len().as_usize()];
    let read = snapshot.read_pages(&[range], &mut bytes)?;
    ensure!(
        read == range.len(),
        "the snapshot has no page at {:#x}, where the program keeps its accounts",
        start.0 + read.0
    );
    let offset = hello.base - start.0;
    let word = |at: u64| {
        let from = usize::try_from(offset + at * 8).expect("a word of the buffer has an index");
        let eight = bytes[from..from + 8]
            .try_into()
            .expect("a word has eight bytes");
        u64::from_ne_bytes(eight)
    };
    Ok((hello.sum(word), hello.moved(word)))
}

/// What gdb said of a core.
#[derive(Debug)]
pub(super) struct Debugged {
    /// The threads that it found.
    pub(super) threads: usize,
    /// The sum that the program keeps in its first word.
    pub(super) total: Option<u64>,
}

/// Opens a core with gdb; `None` where there is no gdb.
///
/// # Errors
///
/// Where gdb fails.
pub(super) fn debug(program: &Path, core: &Path, hello: &Hello) -> Result<Option<Debugged>> {
    let output = Command::new("gdb")
        .args(["-nx", "-batch", "-ex", "info threads", "-ex"])
        .arg(format!(
            "printf \"word0=%lu\\n\", *(unsigned long *){:#x}",
            hello.base
        ))
        .arg(program)
        .arg(core)
        .env("DEBUGINFOD_URLS", "")
        .output();
    let output = match output {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.context("can't run gdb")?,
    };
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(Some(Debugged {
        threads: text.lines().filter(|line| is_thread(line)).count(),
        total: text
            .lines()
            .find_map(|line| line.strip_prefix("word0="))
            .and_then(|digits| digits.parse().ok()),
    }))
}

/// A line of `info threads`: `* 1    Thread 0x7f… (LWP 12) …`.
fn is_thread(line: &str) -> bool {
    let line = line.trim_start_matches(['*', ' ']);
    let (number, rest) = line.split_once(' ').unwrap_or_default();
    number.parse::<u32>().is_ok() && (rest.contains("LWP") || rest.contains("Thread"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_told_from_other_lines() {
        assert!(is_thread(
            "* 1    Thread 0x7f11 (LWP 12) 0x0 in nanosleep ()"
        ));
        assert!(is_thread("  2    LWP 13 \"teller-0\"  0x0"));
        assert!(!is_thread("  Id   Target Id         Frame"));
        assert!(!is_thread("[New LWP 13]"));
    }
}
