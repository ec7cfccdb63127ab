//! `cargo xtask mutate`: whether the oracle finds faults of the model.
//!
//! It draws faults at random, from a stated seed, from all that cargo-mutants generates over the
//! model's semantic modules. Each is made in a copy of the workspace, built, and examined
//! (`crates/lab/examples/examine.rs`): regression files, random programs for as long as asked, and
//! conformance cases on the model. A fault is found as soon as that shows anything that the model
//! without it does not show, or if it never comes back.
//!
//! Results are kept in `target/mutate`, so that a run that was stopped goes on where it was; another
//! seed or number of seconds begins anew. A change of the model draws other faults: begin anew then, too. `docs/mm/mutations.md` is written from them.

mod examination;
mod fault;
mod page;
mod tree;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::process;
use crate::workspace::{Workspace, cargo};
use fault::Fault;
use page::{End, Examined};
use tree::{Baseline, Tree};

/// Arguments of `cargo xtask mutate`.
#[derive(Args)]
pub(crate) struct Options {
    /// What faults are drawn from, and programs.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many faults.
    #[arg(long, default_value_t = 60)]
    faults: usize,
    /// How many seconds of random programs each gets.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Stop after this many minutes; the next run goes on.
    #[arg(long)]
    minutes: Option<u64>,
    /// Examine anew what was not found: with better programs, it may be.
    #[arg(long)]
    again: bool,
    /// Install cargo-mutants if it is missing.
    #[arg(long)]
    install: bool,
}

/// Examines faults until enough are; true if at least 85 % of them are found.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<bool> {
    if process::output_of(cargo().args(["mutants", "--version"])).is_none() {
        if !options.install {
            bail!("cargo-mutants is not installed: run `cargo xtask mutate --install`");
        }
        process::run(cargo().args(["install", "cargo-mutants", "--locked"]))?;
    }
    let begin = Instant::now();
    let faults = fault::draw(fault::list(workspace)?, options.seed);
    let tree = Tree::new(workspace)?;
    let name = format!("{}-{}", options.seed, options.seconds);
    let mut known = tree.results(&name)?;
    if options.again {
        known.retain(|_, end| end.is_found() || *end == End::Unbuildable);
    }
    let baseline = baseline(&tree, options, &name)?;
    println!("without a fault: {} steps", baseline.steps);
    for line in &baseline.wrong {
        println!("without a fault: {line}");
    }
    let mut examined: Vec<Examined> = Vec::new();
    for fault in faults {
        if examined.len() >= options.faults {
            break;
        }
        let end = match known.remove(&fault.name) {
            Some(end) => end,
            None => {
                let minutes = options.minutes.unwrap_or(u64::MAX);
                if begin.elapsed() >= Duration::from_secs(minutes.saturating_mul(60)) {
                    println!("out of time; the same command goes on");
                    break;
                }
                let end = examine(&tree, options, &fault, &baseline)?;
                println!("{}: {end}", fault.name);
                tree.note(&name, &fault.name, &end)?;
                end
            }
        };
        // What does not compile is no fault: another is drawn in its place.
        if end != End::Unbuildable {
            examined.push(Examined { fault, end });
        }
    }
    let share = page::share(&examined);
    let page = page::text(
        &examined,
        options.faults,
        options.seed,
        options.seconds,
        &baseline,
    );
    let path = workspace.root.join("docs/mm/mutations.md");
    std::fs::write(&path, page).with_context(|| format!("writing {}", path.display()))?;
    println!(
        "{share:.0} % of {} faults found; see {}",
        examined.len(),
        path.display()
    );
    Ok(examined.len() >= options.faults && share >= 85.0)
}

/// What the model shows without a fault, from three times as many programs.
fn baseline(tree: &Tree, options: &Options, name: &str) -> Result<Baseline> {
    if !options.again
        && let Some(baseline) = tree.baseline(name)?
    {
        return Ok(baseline);
    }
    if !tree.build()? {
        bail!("the workspace does not build without a fault");
    }
    let seconds = 3 * options.seconds;
    let said = tree.examine(seconds, options.seed, |_| true)?;
    let Some(steps) = said.steps else {
        let how = said.broke.unwrap_or_default();
        bail!("the examination of the model without a fault {how}");
    };
    if steps == 0 {
        bail!("no program could be compared without a fault: see `onionskin oracle run`");
    }
    let baseline = Baseline {
        steps,
        wrong: said.wrong.into_iter().collect(),
    };
    tree.note_baseline(name, &baseline)?;
    Ok(baseline)
}

fn examine(tree: &Tree, options: &Options, fault: &Fault, baseline: &Baseline) -> Result<End> {
    tree.apply(fault)?;
    let end = if tree.build()? {
        let is_known = |line: &str| baseline.wrong.contains(line);
        let said = tree.examine(options.seconds, options.seed, is_known)?;
        let new = said.wrong.into_iter().find(|line| !is_known(line));
        match (new, said.broke) {
            (Some(line), _) => End::Found(line),
            (None, Some(how)) => End::Broke(how),
            (None, None) => End::Survived,
        }
    } else {
        End::Unbuildable
    };
    tree.undo(fault)?;
    Ok(end)
}
