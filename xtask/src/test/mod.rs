//! `cargo xtask test`: installs what the tests need, runs the cheap checks, builds every test once,
//! runs each test program by itself, then what is selected on five other kernels, and counts.
//!
//! The tests are static programs, which guests of this machine's architecture run as well. Those for
//! the other one are built beside the suites that hold nothing to a length of time.
//!
//! # Skipped tests
//!
//! A test that finds a privilege or a feature missing is skipped, never passed. It says so in one
//! of two ways and returns: it prints a line `skipped: REASON` (or `skipped: NAME: REASON`), or it
//! appends a line `NAME: REASON` to the file that `ONIONSKIN_SKIPS` names. Such a test is taken
//! from those that passed. A name of the form `test/part` counts a skipped part and leaves the
//! test among those that passed.
//!
//! # What the tests are given
//!
//! | variable | value |
//! |---|---|
//! | `ONIONSKIN_SKIPS` | a file to append skipped tests to |
//! | `ONIONSKIN_MOTO` | the S3 server for tests, `moto_server`; unset if there is none |
//! | `ONIONSKIN_PROGRAMS` | a folder of C programs, where there is no compiler: in guests |
//! | `ONIONSKIN_SLOW`, `ONIONSKIN_KILLS`, `ONIONSKIN_FORKS` | in guests: to repeat less |
//! | `ONIONSKIN_KEEP`, `ONIONSKIN_KEPT` | folders of snapshots that go from kernel to kernel |
//! | `ONIONSKIN_ORACLE_SECONDS` | seconds of random programs on the kernel and on the model; unset, two minutes |
//! | `PATH` | begins with a folder that holds `redis-server` if xtask provided it |

mod hugepages;
mod install;
pub(crate) mod report;
pub(crate) mod runner;
pub(crate) mod suites;

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;

use self::hugepages::HugePages;
use self::report::{Counts, Report};
use self::suites::Pace;
use crate::kernels::Shared;
use crate::workspace::Workspace;
use crate::{check, kernels};

/// Arguments of `cargo xtask test`.
#[derive(Args)]
pub(crate) struct Options {
    /// Install nothing: tests whose tools are missing say that they are skipped.
    #[arg(long)]
    no_install: bool,
    /// Run only the tests whose names contain one of these, without the checks.
    #[arg(last = true, value_name = "FILTER")]
    filters: Vec<String>,
}

/// A test program that takes longer is ended, and counts as failed.
const SUITE_LIMIT: Duration = Duration::from_secs(15 * 60);

/// How many huge pages of 2 MiB the tests find free.
const HUGE_PAGES: u64 = 64;

/// Runs everything; true if nothing failed.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<bool> {
    let mut report = Report::default();
    let tools = install::prepare(workspace, !options.no_install);
    // With a filter somebody wants an answer at once.
    let fetching = (options.filters.is_empty() && !options.no_install)
        .then(|| kernels::begin(workspace))
        .transpose()?;
    for missing in &tools.missing {
        println!("missing: {missing}");
    }
    if options.filters.is_empty() {
        check_first(workspace, &mut report);
    }
    let shared = fetching.as_ref().and_then(|_| Shared::find());
    let suites = suites::build(workspace, shared)?;
    let huge_pages = HugePages::reserve(HUGE_PAGES);
    println!("huge pages: {}", huge_pages.describe());
    let skips = workspace.target.join("xtask-skips.txt");
    let mut run = |pace: Pace| -> Result<()> {
        for suite in suites.iter().filter(|suite| suite.pace() == pace) {
            println!("\n== {}", suite.name);
            let start = Instant::now();
            let mut command = suite.command(&options.filters);
            tools.provide(&mut command);
            command.env("ONIONSKIN_SKIPS", &skips);
            let counts = runner::run(&mut command, &skips, SUITE_LIMIT)?;
            // With a filter, most suites have nothing to run: they would only bury the others.
            if !counts.is_empty() || options.filters.is_empty() {
                report.add(suite.name.clone(), counts, start.elapsed());
            }
        }
        Ok(())
    };
    run(Pace::Cargo)?;
    let here = if shared.is_some() { &suites[..] } else { &[] };
    let ready = thread::scope(|scope| {
        let building =
            fetching.map(|fetching| scope.spawn(move || kernels::build(workspace, fetching, here)));
        let ran = run(Pace::Free);
        let built = building.map(|thread| thread.join().expect("it returns what goes wrong"));
        ran.map(|()| built)
    })?;
    run(Pace::Timed)?;
    drop(huge_pages);
    match ready {
        Some(Ok(ready)) => kernels::test(workspace, &ready, &mut report)?,
        Some(Err(why)) => {
            println!("\n== the other kernels: {why:#}");
            let failed = Counts {
                failed: 1,
                ..Counts::default()
            };
            report.add("the other kernels".to_owned(), failed, Duration::ZERO);
        }
        None if options.filters.is_empty() => {
            kernels::leave_out("--no-install fetches no kernels", &mut report);
        }
        None => {}
    }
    print!("\n{report}");
    Ok(report.total().failed == 0)
}

fn check_first(workspace: &Workspace, report: &mut Report) {
    let start = Instant::now();
    let tally = check::run_cheap(workspace);
    let counts = Counts {
        passed: tally.passed,
        failed: tally.failed,
        skipped: tally.skipped,
    };
    report.add("checks".to_owned(), counts, start.elapsed());
}
