//! `cargo xtask mutate`: whether the oracle finds faults of the model.
//!
//! It draws faults at random, from a stated seed, from all that cargo-mutants generates over the
//! model's semantic modules. Each is made in a copy of the workspace and built. Then each is examined
//! (`crates/lab/examples/examine.rs`): regression files, random programs for as long as asked, and
//! conformance cases on the model. A fault is found as soon as any of them shows it, or if the
//! examination never comes back. A random program that diverges without the fault, too, finds none.
//!
//! What was built and found is kept in `target/mutate`, so that a run that was stopped goes on where it
//! was, as long as no source changes. `docs/mm/mutations.md` is written from it.

mod examination;
mod fault;
mod page;
mod tree;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::process;
use crate::workspace::{Workspace, cargo};
use page::Examined;
use tree::Tree;

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
    let tree = Tree::new(workspace, options.seed)?;
    let built = tree.build(&faults, options.faults)?;
    let name = format!("{}.txt", options.seconds);
    let mut known = tree.results(&name)?;
    let steps = tree.steps(options.seconds, options.seed)?;
    println!("without a fault: {steps} steps");
    let mut examined: Vec<Examined> = Vec::new();
    for one in &built {
        let end = match known.remove(&one.name) {
            Some(end) => end,
            None => {
                let minutes = options.minutes.unwrap_or(u64::MAX);
                if begin.elapsed() >= Duration::from_secs(minutes.saturating_mul(60)) {
                    println!("out of time; the same command goes on");
                    break;
                }
                let end = tree.examine(one, options.seconds, options.seed)?;
                println!("{}: {end}", one.name);
                tree.note(&name, &one.name, &end)?;
                end
            }
        };
        let name = one.name.clone();
        examined.push(Examined { name, end });
    }
    let share = page::share(&examined);
    let page = page::text(
        &examined,
        options.faults,
        options.seed,
        options.seconds,
        steps,
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
