//! What rows came to, kept beside their consoles for the tables of `docs/kernels.md`.

use std::cmp::Reverse;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::choice::Extent;
use super::console::Suite;

/// The file that holds a row's results.
pub(super) const FILE: &str = "result.json";
/// How many of the slowest tests are named.
const SLOWEST: usize = 12;

/// Keeps the sum of a row's suites in its folder.
pub(super) fn keep(out: &Path, suites: &[Suite], extent: Extent, time: Duration) -> Result<()> {
    let sum = |count: fn(&Suite) -> usize| suites.iter().map(count).sum::<usize>();
    let failed: Vec<&String> = suites.iter().flat_map(|it| &it.tests.failed).collect();
    let row = json!({
        "extent": extent.name(),
        "passed": sum(|suite| suite.counts.passed),
        "failed": sum(|suite| suite.counts.failed),
        "skipped": sum(|suite| suite.counts.skipped.len()),
        "seconds": time.as_secs(),
        "failed_tests": failed,
        "slowest": slowest(suites),
    });
    write(&out.join(FILE), &row)
}

/// The tests that took longest, in seconds.
fn slowest(suites: &[Suite]) -> Value {
    let tests = suites.iter().flat_map(|suite| {
        let named = |(test, time): &(String, Duration)| (*time, format!("{} {test}", suite.name));
        suite.times.iter().map(named)
    });
    let mut tests: Vec<_> = tests.collect();
    tests.sort_by_key(|(time, _)| Reverse(*time));
    let rounded = |time: Duration| (time.as_secs_f64() * 10.0).round() / 10.0;
    tests
        .into_iter()
        .take(SLOWEST)
        .map(|(time, name)| json!([name, rounded(time)]))
        .collect()
}

/// The folder of what this machine itself said.
pub(super) fn own(folder: &Path) -> PathBuf {
    folder.join("out/own")
}

/// Writes a value as a file that a person can read.
pub(super) fn write(path: &Path, value: &Value) -> Result<()> {
    let text = format!("{value:#}\n");
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

/// Reads a value, if the file is there.
pub(super) fn read(path: &Path) -> Result<Option<Value>> {
    match fs::read_to_string(path) {
        Ok(text) => serde_json::from_str(&text)
            .map(Some)
            .with_context(|| format!("{} is no JSON", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}
