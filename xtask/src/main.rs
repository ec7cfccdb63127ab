//! The project's own commands, run as `cargo xtask COMMAND`.
//!
//! One module for each command: [`check`] reads and lints, [`mod@test`] installs what the tests need
//! and runs them all, [`kernels`] runs them on other kernels, [`mod@bench`] measures, [`mutate`] tries the oracle, [`fuzz`] and [`dist`] drive other tools. [`workspace`]
//! and [`process`] hold what they share. Every command prints what it runs, and says in words what
//! it left out.
#![forbid(unsafe_code)]

mod bench;
mod check;
mod dist;
mod fuzz;
mod kernels;
mod mutate;
mod process;
mod source;
mod test;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::workspace::Workspace;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The project's own commands")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Formatting, lints, allowed edges, tidiness, documentation, licences, purity.
    Check(check::Options),
    /// Install what the tests need, run the cheap checks, then every test.
    Test(test::Options),
    /// Test on other kernels, in emulated machines.
    Kernels(kernels::Options),
    /// Measure, and write docs/performance.md.
    Bench(bench::Options),
    /// See whether the oracle finds faults of the model, and write docs/mm/mutations.md.
    Mutate(mutate::Options),
    /// Fuzz each target for a while.
    Fuzz(fuzz::Options),
    /// Write the man page and the shell completions to target/dist.
    Dist,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let run = || {
        let workspace = Workspace::load()?;
        match &arguments.command {
            Command::Check(options) => check::run(&workspace, options),
            Command::Test(options) => test::run(&workspace, options),
            Command::Kernels(options) => kernels::run(&workspace, options),
            Command::Bench(options) => bench::run(&workspace, options),
            Command::Mutate(options) => mutate::run(&workspace, options),
            Command::Fuzz(options) => fuzz::run(&workspace, options),
            Command::Dist => dist::run(&workspace),
        }
    };
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::from(2)
        }
    }
}
