//! `cargo xtask check`: everything about the source that needs no test run.
//!
//! A [`Step`] answers with an [`Outcome`]. The cheap ones only read files; `cargo xtask test` runs
//! them first. The others compile, and run only here.

mod edges;
mod manifests;
mod modules;
mod tidy;
mod tools;

use std::time::Instant;

use anyhow::{Result, bail};
use clap::Args;

use crate::workspace::Workspace;

/// Arguments of `cargo xtask check`.
#[derive(Args)]
pub(crate) struct Options {
    /// Run only these steps: fmt, edges, manifests, tidy, modules, clippy, docs, deny, wasm,
    /// fuzz.
    steps: Vec<String>,
}

/// How a step ended.
pub(crate) enum Outcome {
    /// Nothing to mend.
    Passed,
    /// What is wrong, one line each.
    Failed(Vec<String>),
    /// It could not be run here, and why.
    Skipped(String),
}

impl Outcome {
    /// Passes if there is nothing to mend.
    fn of(problems: Vec<String>) -> Self {
        if problems.is_empty() {
            Self::Passed
        } else {
            Self::Failed(problems)
        }
    }
}

/// How many steps ended how.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    /// What was skipped, each as "NAME: reason".
    pub(crate) skipped: Vec<String>,
}

struct Step {
    name: &'static str,
    /// Whether it only reads files.
    cheap: bool,
    run: fn(&Workspace) -> Result<Outcome>,
}

const STEPS: &[Step] = &[
    Step {
        name: "fmt",
        cheap: true,
        run: tools::fmt,
    },
    Step {
        name: "edges",
        cheap: true,
        run: edges::check,
    },
    Step {
        name: "manifests",
        cheap: true,
        run: manifests::check,
    },
    Step {
        name: "tidy",
        cheap: true,
        run: tidy::check,
    },
    Step {
        name: "modules",
        cheap: true,
        run: modules::check,
    },
    Step {
        name: "clippy",
        cheap: false,
        run: tools::clippy,
    },
    Step {
        name: "docs",
        cheap: false,
        run: tools::docs,
    },
    Step {
        name: "deny",
        cheap: false,
        run: tools::deny,
    },
    Step {
        name: "wasm",
        cheap: false,
        run: tools::wasm,
    },
    Step {
        name: "fuzz",
        cheap: false,
        run: tools::fuzz,
    },
];

/// Runs the steps that were asked for, or all; true if none failed.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<bool> {
    for name in &options.steps {
        if !STEPS.iter().any(|step| step.name == name) {
            let names: Vec<_> = STEPS.iter().map(|step| step.name).collect();
            bail!("there is no step {name}: there are {}", names.join(", "));
        }
    }
    let wanted = |step: &Step| {
        options.steps.is_empty() || options.steps.iter().any(|name| name == step.name)
    };
    let tally = run_steps(workspace, wanted);
    println!(
        "check: {} passed, {} failed, {} skipped",
        tally.passed,
        tally.failed,
        tally.skipped.len()
    );
    Ok(tally.failed == 0)
}

/// Runs the steps that only read files.
pub(crate) fn run_cheap(workspace: &Workspace) -> Tally {
    run_steps(workspace, |step| step.cheap)
}

fn run_steps(workspace: &Workspace, wanted: impl Fn(&Step) -> bool) -> Tally {
    let mut tally = Tally::default();
    for step in STEPS.iter().filter(|step| wanted(step)) {
        let start = Instant::now();
        let outcome = (step.run)(workspace)
            .unwrap_or_else(|error| Outcome::Failed(vec![format!("{error:#}")]));
        let seconds = start.elapsed().as_secs_f64();
        match outcome {
            Outcome::Passed => {
                tally.passed += 1;
                println!("check {:<10} passed ({seconds:.1} s)", step.name);
            }
            Outcome::Skipped(reason) => {
                println!("check {:<10} skipped: {reason}", step.name);
                tally.skipped.push(format!("{}: {reason}", step.name));
            }
            Outcome::Failed(problems) => {
                tally.failed += 1;
                println!("check {:<10} FAILED ({seconds:.1} s)", step.name);
                for problem in problems {
                    println!("  {problem}");
                }
            }
        }
    }
    tally
}
