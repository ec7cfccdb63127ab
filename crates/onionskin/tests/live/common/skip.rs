//! Tests that this machine can't run.

use std::fs::{self, OpenOptions};
use std::io::Write;

/// Says that a test, or a part of one, could not be run here, and why. What
/// `ONIONSKIN_SKIPS` names counts them.
pub(crate) fn skip(name: &str, reason: &str) {
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

/// Makes sure that `count` huge pages can be had, where we may; tells whether they can.
pub(crate) fn hugetlb_pages(count: u64) -> bool {
    // Surplus pages are made when they are mapped and go back to the system with the mapping.
    const SURPLUS_MAX: &str = "/proc/sys/vm/nr_overcommit_hugepages";
    let number = |path| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    match number(SURPLUS_MAX) {
        Some(now) if now >= count => true,
        Some(_) => fs::write(SURPLUS_MAX, count.to_string()).is_ok(),
        None => false,
    }
}
