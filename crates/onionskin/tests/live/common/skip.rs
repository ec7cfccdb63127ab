//! Tests that this machine can't run.

use std::fs::{self, OpenOptions};
use std::io::Write;

/// Says that the test that calls this could not be run here, and why.
pub(crate) fn skip(reason: &str) {
    note(&test(), reason);
}

/// Says that a part of the test that calls this could not be run here, and why; the rest of it counts.
pub(crate) fn skip_part(part: &str, reason: &str) {
    note(&format!("{}/{part}", test()), reason);
}

/// The name of the test: its thread has it.
fn test() -> String {
    let thread = std::thread::current();
    thread.name().expect("a test has a thread").to_owned()
}

/// Counted is what stands in the file that `ONIONSKIN_SKIPS` names.
fn note(name: &str, reason: &str) {
    println!("skipped: {name}: {reason}");
    if let Ok(path) = std::env::var("ONIONSKIN_SKIPS") {
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .unwrap();
        writeln!(file, "{name}: {reason}").unwrap();
    }
}

/// Tells whether there is room for huge pages of `mib` MiB together, and for a few at least. The
/// machine's setting is left alone: `cargo xtask test` reserves some for the time of its run.
pub(crate) fn hugetlb_mib(mib: u64) -> bool {
    const FEW: u64 = 4;
    let number = |text: &str| {
        text.split_whitespace()
            .find_map(|word| word.parse::<u64>().ok())
    };
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let named = |name: &str| {
        let line = meminfo.lines().find(|line| line.starts_with(name));
        line.and_then(number).unwrap_or(0)
    };
    let more = fs::read_to_string("/proc/sys/vm/nr_overcommit_hugepages").unwrap_or_default();
    // A free page may be reserved, for a process or (by mistakes of the kernel) for nobody.
    let free = named("HugePages_Free:").saturating_sub(named("HugePages_Rsvd:"));
    let pages = free + number(&more).unwrap_or(0);
    pages >= FEW && pages * named("Hugepagesize:") >= mib * 1024
}
