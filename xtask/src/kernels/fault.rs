//! `cargo xtask kernels fault`: whether the row of a kernel notices a mistake that only it can.
//!
//! The mistake is made in a copy of the workspace below `target/kernels/fault`, and so is all that
//! is built of it. The kernel's row must pass before, and fail in the tests that should fail after.

use std::fs;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::json;

use super::catalog::{KERNELS, Kernel};
use super::choice::Wanted;
use super::console::Suite;
use super::programs::{self, Making};
use super::results;
use super::rows::{Bench, Job};
use super::stock::Stock;
use crate::workspace::Workspace;

/// The package in which faults are made, and whose tests notice.
const PACKAGE: &str = "onionskin-sys";

/// A mistake that somebody could make.
pub(super) struct Fault {
    pub(super) name: &'static str,
    /// What it takes for granted.
    what: &'static str,
    edits: &'static [Edit],
    /// The kernel on which it must be noticed.
    kernel: &'static str,
    /// The tests that must fail; others may, too.
    notice: &'static [&'static str],
}

/// A change of a file.
struct Edit {
    file: &'static str,
    /// What is there once.
    find: &'static str,
    put: &'static str,
}

/// All faults.
pub(super) const FAULTS: &[Fault] = &[
    Fault {
        name: "page-size-in-scan",
        what: "a page of 4096 bytes, where a scan says how many were written",
        edits: &[Edit {
            file: "crates/sys/src/memory/scan.rs",
            find: "Vaddr(region.end))?;",
            put: "Vaddr(\n\
                  region.start + (region.end - region.start) / rustix::param::page_size() as u64 \
                  * 4096))?;",
        }],
        kernel: "6.12-arm64-16k",
        notice: &["a_process_is_tracked_and_goes_on"],
    },
    Fault {
        name: "page-size-of-process",
        what: "a page of 4096 bytes, whenever a process is opened",
        edits: &[Edit {
            file: "crates/sys/src/target/open.rs",
            find: "PageSize::new(rustix::param::page_size() as u64)",
            put: "PageSize::new(4096)",
        }],
        kernel: "6.12-arm64-16k",
        notice: &["a_process_is_tracked_and_goes_on"],
    },
    Fault {
        name: "wp-async",
        what: "asynchronous write protection, without looking whether the kernel has it",
        edits: &[
            Edit {
                file: "crates/sys/src/target/track.rs",
                find: "if !matches!(self.view.scanner, Scanner::Ioctl(_))",
                put: "if false",
            },
            Edit {
                file: "crates/sys/src/memory/write_protect.rs",
                find: "userfaultfd::api(fd.as_fd(), &mut api)?;",
                put: "let _ = userfaultfd::api(fd.as_fd(), &mut api);",
            },
        ],
        kernel: "6.1-amd64",
        notice: &["a_process_is_tracked_and_goes_on"],
    },
];

/// Finds a fault by its name.
pub(super) fn find(name: &str) -> Result<&'static Fault> {
    let found = FAULTS.iter().find(|fault| fault.name == name);
    found.with_context(|| {
        let known: Vec<_> = FAULTS.iter().map(|fault| fault.name).collect();
        format!("there is no fault {name}: there are {}", known.join(", "))
    })
}

/// Makes a fault and sees whether it is noticed; true if it is.
pub(super) fn run(workspace: &Workspace, fault: &Fault) -> Result<bool> {
    let start = Instant::now();
    let folder = super::folder(workspace)?;
    let kernel = fault.kernel()?;
    let stock = Stock::fetch(&folder, &[kernel]);
    let machine = stock.machine(kernel).map_err(anyhow::Error::msg)?;
    let rust = stock
        .rust(kernel.architecture)
        .map_err(anyhow::Error::msg)?;
    let folder = folder.join("fault");
    let tree = folder.join("tree");
    let copy = workspace.copy_to(&tree, folder.join("target"))?;
    let wanted = Wanted::selected();
    let bench = Bench {
        workspace: &copy,
        wanted: &wanted,
        stock: &stock,
        folder: folder.clone(),
    };
    let try_row = || -> Result<Vec<Suite>> {
        let members: Vec<_> = programs::tested(&copy.members)
            .into_iter()
            .filter(|member| member.name == PACKAGE)
            .collect();
        let making = Making {
            workspace: &copy,
            members: &members,
            wanted: &wanted,
            architecture: kernel.architecture,
            tools: &stock.tools,
            folder: &folder.join("programs"),
        };
        let programs = making.build(rust)?;
        bench.run(&Job {
            kernel,
            machine,
            programs: &programs,
        })
    };
    println!("== {} without the fault {}", kernel.name, fault.name);
    fault.check_good(&try_row()?)?;
    println!("\n== {} with the fault {}", kernel.name, fault.name);
    for edit in fault.edits {
        edit.make(&copy)?;
    }
    let failed = failed(&try_row()?);
    println!("\n{}: {} fails in {failed:?}", fault.name, kernel.name);
    let missed: Vec<_> = fault
        .notice
        .iter()
        .filter(|test| !failed.iter().any(|name| name == *test))
        .collect();
    if !missed.is_empty() {
        println!("{} went unnoticed by {missed:?}", fault.name);
        return Ok(false);
    }
    let kept = folder.join("results");
    fs::create_dir_all(&kept).with_context(|| format!("creating {}", kept.display()))?;
    let result = json!({
        "what": fault.what,
        "kernel": kernel.name,
        "failed_tests": failed,
        "seconds": start.elapsed().as_secs(),
    });
    results::write(&kept.join(format!("{}.json", fault.name)), &result)?;
    Ok(true)
}

impl Fault {
    fn kernel(&self) -> Result<&'static Kernel> {
        let found = KERNELS.iter().find(|kernel| kernel.name == self.kernel);
        found.with_context(|| format!("{} names the kernel {}", self.name, self.kernel))
    }

    /// Makes sure that nothing fails without the fault, and that what should notice it runs.
    fn check_good(&self, suites: &[Suite]) -> Result<()> {
        let count: usize = suites.iter().map(|suite| suite.counts.failed).sum();
        ensure!(count == 0, "{} fails without a fault", self.kernel);
        for test in self.notice {
            let good = suites.iter().any(|suite| {
                let skips = |line: &String| line.starts_with(&format!("{test}: "));
                suite.tests.good.iter().any(|name| name == test)
                    && !suite.counts.skipped.iter().any(skips)
            });
            ensure!(good, "{test} did not pass on {}", self.kernel);
        }
        Ok(())
    }
}

impl Edit {
    /// Changes the file in a copy of the workspace.
    fn make(&self, copy: &Workspace) -> Result<()> {
        let path = copy.root.join(self.file);
        let text = fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
        if text.matches(self.find).count() != 1 {
            bail!("{} has not one place that says {}", self.file, self.find);
        }
        fs::write(&path, text.replace(self.find, self.put))
            .with_context(|| format!("writing {}", path.display()))
    }
}

/// The tests that failed.
fn failed(suites: &[Suite]) -> Vec<String> {
    let names = suites.iter().flat_map(|suite| &suite.tests.failed);
    names.cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_made_in_places_that_are_there() {
        let workspace = Workspace::load().unwrap();
        for fault in FAULTS {
            assert!(fault.kernel().is_ok(), "{}", fault.name);
            for edit in fault.edits {
                let text = fs::read_to_string(workspace.root.join(edit.file)).unwrap();
                assert_eq!(text.matches(edit.find).count(), 1, "{}", edit.file);
                assert_ne!(edit.find, edit.put);
            }
        }
    }
}
