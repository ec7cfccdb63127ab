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
//! | `out` | for each kernel its console and what its tests brought out ([`boot`]) |

mod abroad;
mod archive;
mod boot;
mod catalog;
mod console;
mod guest;
mod images;
mod initramfs;
mod programs;
mod rows;
mod rust;
mod table;
mod tools;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};

use self::archive::Archive;
use self::catalog::{Architecture, KERNELS, Kernel};
use self::rust::Rust;
use self::tools::Tools;
use crate::test::report::Report;
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
    /// Write docs/kernels.md's table of what `onionskin doctor` said in the last runs.
    Table,
}

#[derive(Args)]
struct RunOptions {
    /// Only this kernel; may be given several times.
    #[arg(long = "kernel", value_name = "NAME")]
    kernels: Vec<String>,
    /// Run only the tests whose names contain one of these.
    #[arg(last = true, value_name = "FILTER")]
    filters: Vec<String>,
}

/// Runs a command; true if nothing failed.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<bool> {
    match &options.command {
        Command::Fetch => {
            let folder = folder(workspace)?;
            let archive = Archive::open(&folder.join("apt"))?;
            let tools = Tools::new(&folder);
            tools.get_qemu(&archive)?;
            tools.get_debugger(&archive)?;
            for architecture in Architecture::ALL {
                images::shell(&archive, architecture, &folder)?;
                Rust::prepare(architecture, &archive, &tools, &folder)?;
            }
            for kernel in KERNELS {
                images::fetch(&archive, kernel, &folder)?;
            }
            println!("{} kernels are in {}", KERNELS.len(), folder.display());
            Ok(true)
        }
        Command::Table => table::write(workspace).map(|()| true),
        Command::Run(options) => {
            let kernels = choose(&options.kernels)?;
            let mut report = Report::default();
            rows::test(workspace, &kernels, &options.filters, &mut report)?;
            print!("\n{report}");
            Ok(report.total().failed == 0)
        }
    }
}

fn choose(names: &[String]) -> Result<Vec<&'static Kernel>> {
    if names.is_empty() {
        return Ok(KERNELS.iter().collect());
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
