//! `cargo xtask kernels`: everything that touches the kernel, tested on six of them.
//!
//! Five of Debian's kernels boot under emulation, with the tests as static binaries in their
//! initramfs; the sixth is the machine's own. Everything that is fetched or made lies in
//! `target/kernels`, and nothing of the system is changed.
//!
//! | folder | holds |
//! |---|---|
//! | `apt` | a private state of apt ([`archive`]) |
//! | `tools`, `bin` | unpacked programs, and scripts that start them ([`tools`]) |
//! | `images`, `shell` | kernels with their modules, and busybox ([`images`]) |
//! | `rust`, `rust-src` | a toolchain that builds arm64, where rustup has none ([`rust`]) |
//! | `programs` | what runs inside, for each architecture ([`programs`]) |
//! | `kept` | what was taken on this machine for others to read ([`abroad`]) |
//! | `out` | for each kernel its console and what its tests brought out ([`boot`], [`results`]) |
//! | `fault` | a copy of the workspace with a mistake in it ([`fault`]) |

mod abroad;
mod absent;
mod archive;
mod boot;
mod catalog;
mod choice;
mod console;
mod fault;
mod guest;
mod images;
mod initramfs;
mod programs;
mod results;
mod rows;
mod rust;
mod stock;
mod table;
mod tools;

use std::fs;
use std::path::PathBuf;
use std::process;
use std::thread::{self, JoinHandle};

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};

use self::catalog::{Architecture, KERNELS, Kernel};
use self::choice::{Extent, Wanted};
use self::rows::{Bench, Built};
use self::rust::Rust;
use self::stock::Stock;
use crate::test::report::Report;
use crate::test::suites;
use crate::workspace::Workspace;

/// Arguments of `cargo xtask kernels`.
#[derive(Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Get the kernels, an emulator and compilers into target/kernels.
    Fetch,
    /// Test on each kernel, or on some.
    Run(RunOptions),
    /// Make a mistake in a copy of the sources, and see whether the row notices that should.
    Fault(FaultOptions),
    /// Write docs/kernels.md's tables of what the last runs showed.
    Table,
}

#[derive(Args)]
struct RunOptions {
    /// Only this kernel; may be given several times.
    #[arg(long = "kernel", value_name = "NAME")]
    kernels: Vec<String>,
    /// Only what `cargo xtask test` runs.
    #[arg(long)]
    selected: bool,
    /// Build and run only the suites whose names contain this, such as `lab tests/oracle`; may be
    /// given several times.
    #[arg(long = "suite", value_name = "NAME")]
    suites: Vec<String>,
    /// Run only the tests whose names contain one of these.
    #[arg(last = true, value_name = "FILTER")]
    filters: Vec<String>,
}

#[derive(Args)]
struct FaultOptions {
    /// The fault; all of them, if none is named.
    name: Option<String>,
}

/// Runs a command; true if nothing failed.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<bool> {
    match &options.command {
        Command::Fetch => {
            let folder = folder(workspace)?;
            let missing = Stock::fetch(&folder, &all()).missing();
            for line in &missing {
                println!("missing: {line}");
            }
            if missing.is_empty() {
                println!("{} kernels are in {}", KERNELS.len(), folder.display());
            }
            Ok(missing.is_empty())
        }
        Command::Table => table::write(workspace).map(|()| true),
        Command::Fault(options) => {
            let faults = match &options.name {
                Some(name) => vec![fault::find(name)?],
                None => fault::FAULTS.iter().collect(),
            };
            let mut noticed = true;
            for fault in faults {
                noticed &= fault::run(workspace, fault)?;
            }
            Ok(noticed)
        }
        Command::Run(options) => {
            let kernels = choose(&options.kernels)?;
            let wanted = Wanted {
                extent: match options.selected {
                    true => Extent::Selected,
                    false => Extent::Whole,
                },
                suites: options.suites.clone(),
                filters: options.filters.clone(),
            };
            let folder = folder(workspace)?;
            let stock = Stock::fetch(&folder, &kernels);
            let mut report = Report::default();
            let bench = Bench {
                workspace,
                wanted: &wanted,
                stock: &stock,
                folder,
            };
            let built = Built::of(&bench, &kernels, &[]);
            rows::test(&bench, &built, &kernels, &mut report);
            print!("\n{report}");
            Ok(report.total().failed == 0)
        }
    }
}

/// What all rows need, being fetched.
pub(crate) struct Fetching(JoinHandle<Stock>);

/// Begins to fetch, beside what else is done.
pub(crate) fn begin(workspace: &Workspace) -> Result<Fetching> {
    let folder = folder(workspace)?;
    Ok(Fetching(thread::spawn(move || {
        Stock::fetch(&folder, &all())
    })))
}

/// How tests are built that run here and in guests of the same architecture, so that they are built
/// once.
#[derive(Clone, Copy)]
pub(crate) struct Shared(());

impl Shared {
    /// Finds out whether this machine can build such tests.
    pub(crate) fn find() -> Option<Self> {
        Rust::here().map(|_| Self(()))
    }

    /// `cargo test`, ready for more arguments.
    pub(crate) fn test(self) -> process::Command {
        let rust = Rust::here().expect("it was found");
        let mut command = rust.cargo();
        command.args(["test", "--target", Architecture::Amd64.target()]);
        command
    }
}

/// What all rows run, fetched and built.
pub(crate) struct Ready {
    stock: Stock,
    built: Built,
    wanted: Wanted,
}

/// Waits for what is fetched, and builds what is selected but for what was built `shared`.
pub(crate) fn build(
    workspace: &Workspace,
    fetching: Fetching,
    shared: &[suites::Suite],
) -> Result<Ready> {
    let Ok(stock) = fetching.0.join() else {
        bail!("fetching kernels ended badly");
    };
    let wanted = Wanted::selected();
    let bench = Bench {
        workspace,
        wanted: &wanted,
        stock: &stock,
        folder: folder(workspace)?,
    };
    let built = Built::of(&bench, &all(), shared);
    Ok(Ready {
        stock,
        built,
        wanted,
    })
}

/// Tests what is selected on every kernel, and adds it to the report.
pub(crate) fn test(workspace: &Workspace, ready: &Ready, report: &mut Report) -> Result<()> {
    let bench = Bench {
        workspace,
        wanted: &ready.wanted,
        stock: &ready.stock,
        folder: folder(workspace)?,
    };
    rows::test(&bench, &ready.built, &all(), report);
    Ok(())
}

/// Counts every kernel as skipped.
pub(crate) fn leave_out(why: &str, report: &mut Report) {
    for kernel in KERNELS {
        absent::skip(kernel, why, report);
    }
}

fn all() -> Vec<&'static Kernel> {
    KERNELS.iter().collect()
}

fn choose(names: &[String]) -> Result<Vec<&'static Kernel>> {
    if names.is_empty() {
        return Ok(all());
    }
    let find = |name: &String| match KERNELS.iter().find(|kernel| kernel.name == name) {
        Some(kernel) => Ok(kernel),
        None => {
            let known: Vec<_> = KERNELS.iter().map(|kernel| kernel.name).collect();
            bail!("there is no kernel {name}: there are {}", known.join(", "))
        }
    };
    names.iter().map(find).collect()
}

fn folder(workspace: &Workspace) -> Result<PathBuf> {
    let folder = workspace.target.join("kernels");
    fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    Ok(folder)
}
