//! What one kernel takes, another reads: this machine's stores and cores in the guests, and theirs
//! here, where a gdb that knows every architecture looks at the cores.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::archive::recreate;
use super::choice::Wanted;
use super::console::Suite;
use super::programs::Programs;
use super::tools::Tools;
use crate::test::runner;

/// The suite and its tests that take and read.
const SUITE: &str = "onionskin tests/live";
const TAKE: &str = "abroad::what_is_taken_here";
const READ: &str = "abroad::what_was_taken_elsewhere";
const LIMIT: Duration = Duration::from_secs(300);

/// Tells whether these tests are wanted.
pub(super) fn is_wanted(wanted: &Wanted) -> bool {
    let meant = |filter: &String| TAKE.contains(filter.as_str()) || READ.contains(filter.as_str());
    wanted.has_suite(SUITE) && (wanted.filters.is_empty() || wanted.filters.iter().any(meant))
}

/// Takes snapshots on this machine, and leaves them in a folder.
pub(super) fn take(programs: &Programs, tools: &Tools, kept: &Path) -> Result<Suite> {
    recreate(kept)?;
    run(
        programs,
        tools,
        ("taken here", TAKE),
        ("ONIONSKIN_KEEP", kept),
    )
}

/// Reads what a guest left.
pub(super) fn read(programs: &Programs, tools: &Tools, kept: &Path) -> Result<Suite> {
    run(
        programs,
        tools,
        ("read here", READ),
        ("ONIONSKIN_KEPT", kept),
    )
}

fn run(
    programs: &Programs,
    tools: &Tools,
    (name, filter): (&str, &str),
    (variable, folder): (&str, &Path),
) -> Result<Suite> {
    let suite = programs.suites.iter().find(|suite| suite.name == SUITE);
    let suite = suite.context("the tests that read and take are there")?;
    let skips = folder.with_extension("skips");
    let mut command = Command::new(&suite.path);
    command.args([filter, "--test-threads=1", "--show-output"]);
    command.current_dir(&suite.folder);
    command.env(variable, folder).env("ONIONSKIN_SKIPS", &skips);
    command.env("ONIONSKIN_PROGRAMS", programs.targets.join(&suite.package));
    command.env("PATH", tools.path());
    let start = Instant::now();
    Ok(Suite {
        name: name.to_owned(),
        counts: runner::run(&mut command, &skips, LIMIT)?,
        time: start.elapsed(),
        ..Suite::default()
    })
}
