//! What the tests share: how one says that it can't be run here.

use std::fs;
use std::io::Write;

/// Says that a test, or a part of one behind a `/`, can't be run here, and why.
pub(crate) fn skip(name: &str, why: &str) {
    println!("skipped: {name}: {why}");
    if let Some(path) = std::env::var_os("ONIONSKIN_SKIPS") {
        let mut file = fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)
            .unwrap();
        writeln!(file, "{name}: {why}").unwrap();
    }
}
