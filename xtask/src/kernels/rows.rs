//! The rows of the table: each kernel's suites, run in its guest, and what is read here of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::Shared;
use super::abroad;
use super::absent::{self, Absence, explain, fail};
use super::boot::{self, Patience};
use super::catalog::{Architecture, Kernel};
use super::choice::Wanted;
use super::console::Suite;
use super::guest::Guest;
use super::programs::{self, Making, Programs};
use super::results;
use super::stock::{Machine, Stock};
use crate::process;
use crate::test::report::{Counts, Report};
use crate::test::suites;
use crate::workspace::Workspace;

/// How many guests run at once: each of them keeps more than one processor busy at times.
const GUESTS_AT_ONCE: usize = 2;

/// Tests on kernels in guests, and adds a row for each of their suites to the report. What can't be
/// had here is counted as skipped, or as failed in continuous integration; a row that goes wrong in
/// another way failed, and the others are told of all the same.
pub(super) fn test(
    bench: &Bench<'_>,
    built: &Built,
    kernels: &[&'static Kernel],
    report: &mut Report,
) {
    let (absence, wanted) = (Absence::here(), bench.wanted);
    let mut machines = Vec::new();
    for &kernel in kernels {
        match bench.machine(kernel) {
            Ok(machine) => machines.push((kernel, machine)),
            Err(why) => absent::count(kernel, &why, absence, wanted, report),
        }
    }
    if machines.is_empty() {
        return;
    }
    if let Err(why) = take_here(bench, built, report) {
        fail("taken here", &format!("{why:#}"), wanted, report);
    }
    let mut jobs = Vec::new();
    for (kernel, machine) in machines {
        match built.programs(kernel.architecture) {
            Ok(programs) => jobs.push(Job {
                kernel,
                machine,
                programs,
            }),
            Err(why) => fail(kernel.name, &why, wanted, report),
        }
    }
    for done in in_parallel(&jobs, &|job| bench.run(job)) {
        let kernel = done.0;
        if let Err(why) = add(bench, built, done, report) {
            fail(kernel.name, &format!("{why:#}"), wanted, report);
        }
    }
}

/// Takes here what guests read, and asks this machine's own doctor.
fn take_here(bench: &Bench<'_>, built: &Built, report: &mut Report) -> Result<()> {
    let kept = bench.folder.join("kept");
    fs::create_dir_all(&kept).with_context(|| format!("creating {}", kept.display()))?;
    let Ok(native) = built.programs(Architecture::Amd64) else {
        return Ok(());
    };
    if abroad::is_wanted(bench.wanted) {
        let taken = abroad::take(native, &bench.stock.tools, &kept)?;
        report.add(format!("kernels: {}", taken.name), taken.counts, taken.time);
    }
    match &native.command {
        Some(command) => ask_own_doctor(command, &bench.folder),
        None => Ok(()),
    }
}

/// Adds a row that has run to the report.
fn add(
    bench: &Bench<'_>,
    built: &Built,
    (kernel, suites, time): Done,
    report: &mut Report,
) -> Result<()> {
    let wanted = bench.wanted;
    let mut suites = suites.context("it could not be run")?;
    let out = bench.out(kernel);
    if abroad::is_wanted(wanted) {
        let kept = out.join("kept");
        let read = built.programs(Architecture::Amd64).and_then(|native| {
            abroad::read(native, &bench.stock.tools, &kept).map_err(|error| format!("{error:#}"))
        });
        match read {
            Ok(suite) => suites.push(suite),
            Err(why) => fail(kernel.name, &why, wanted, report),
        }
    }
    if suites.iter().any(|suite| suite.counts.failed > 0) {
        explain(kernel.name, &out, wanted);
    }
    if wanted.is_all() {
        results::keep(&out, &suites, wanted.extent, time)?;
    }
    for mut suite in suites {
        if !suite.counts.is_empty() || wanted.filters.is_empty() {
            for line in &mut suite.counts.skipped {
                *line = format!("{} {line}", kernel.name);
            }
            let name = format!("{} {}", kernel.name, suite.name);
            report.add(name, suite.counts, suite.time);
        }
    }
    Ok(())
}

/// The tests of all packages that touch the kernel, for each architecture that is needed, or why they
/// could not be built.
pub(super) struct Built(Vec<(Architecture, Result<Programs, String>)>);

impl Built {
    /// Builds what some kernels need, but for what was built `shared` with this machine.
    pub(super) fn of(bench: &Bench<'_>, kernels: &[&Kernel], shared: &[suites::Suite]) -> Self {
        let members = programs::tested(&bench.workspace.members);
        let to = bench.folder.join("programs");
        let build = |architecture| {
            let rust = bench.stock.rust(architecture).map_err(anyhow::Error::msg)?;
            let making = Making {
                workspace: bench.workspace,
                members: &members,
                wanted: bench.wanted,
                architecture,
                tools: &bench.stock.tools,
                folder: &to,
            };
            match (architecture, Shared::find()) {
                (Architecture::Amd64, Some(_)) if !shared.is_empty() => making.gather(shared),
                // What `cargo xtask test` built is not built again.
                (Architecture::Amd64, Some(way)) => making.build_shared(way),
                _ => making.build(rust),
            }
        };
        let there = kernels.iter().filter(|it| bench.machine(it).is_ok());
        let there: Vec<_> = there.map(|it| it.architecture).collect();
        let is_needed = |architecture: &Architecture| {
            let here = *architecture == Architecture::Amd64 && abroad::is_wanted(bench.wanted);
            !there.is_empty() && (here || there.contains(architecture))
        };
        let needed = Architecture::ALL.into_iter().filter(is_needed);
        let built = needed.map(|it| (it, build(it).map_err(|error| format!("{error:#}"))));
        Self(built.collect())
    }

    fn programs(&self, architecture: Architecture) -> Result<&Programs, String> {
        match self.0.iter().find(|(known, _)| *known == architecture) {
            Some((_, built)) => built.as_ref().map_err(Clone::clone),
            None => Err(format!("nothing was built for {architecture}")),
        }
    }
}

/// What all rows share.
pub(super) struct Bench<'a> {
    pub(super) workspace: &'a Workspace,
    pub(super) wanted: &'a Wanted,
    pub(super) stock: &'a Stock,
    /// Where consoles, and what guests bring out, are put.
    pub(super) folder: PathBuf,
}

/// A row to be run.
#[derive(Clone, Copy)]
pub(super) struct Job<'a> {
    pub(super) kernel: &'static Kernel,
    pub(super) machine: &'a Machine,
    pub(super) programs: &'a Programs,
}

impl Bench<'_> {
    /// What a kernel's guest boots, or why it can't be had.
    fn machine(&self, kernel: &Kernel) -> Result<&Machine, String> {
        // What is read and taken here is read and taken by programs for this machine.
        self.stock.rust(Architecture::Amd64)?;
        self.stock.rust(kernel.architecture)?;
        self.stock.machine(kernel)
    }

    /// Runs all suites on one kernel.
    pub(super) fn run(&self, job: &Job<'_>) -> Result<Vec<Suite>> {
        let &Job {
            kernel,
            machine,
            programs,
        } = job;
        for left_out in self.wanted.left_out() {
            println!("{}: not selected: {}", kernel.name, left_out.describe());
        }
        let kept = self.folder.join("kept");
        fs::create_dir_all(&kept).with_context(|| format!("creating {}", kept.display()))?;
        let guest = Guest {
            kernel,
            machine,
            programs,
            wanted: self.wanted,
            kept: &kept,
            built: self.workspace.target.join(kernel.architecture.target()),
        };
        let initramfs = self.folder.join(format!("{}.cpio", kernel.name));
        guest.pack(&initramfs)?;
        let out = self.out(kernel);
        let tools = &self.stock.tools;
        let patience = Patience {
            silence: self.wanted.extent.silence(),
            limit: self.wanted.extent.guest_limit(),
        };
        let mut suites = boot::boot(kernel, &machine.image, &initramfs, tools, &out, &patience)?;
        let wanted = programs.suites.iter().map(|suite| suite.name.as_str());
        add_missing(wanted, &mut suites);
        Ok(suites)
    }

    pub(super) fn out(&self, kernel: &Kernel) -> PathBuf {
        self.folder.join("out").join(kernel.name)
    }
}

/// A suite of which nothing was heard failed.
fn add_missing<'a>(wanted: impl Iterator<Item = &'a str>, suites: &mut Vec<Suite>) {
    for name in wanted {
        if !suites.iter().any(|suite| suite.name == name) {
            println!("{name} did not run");
            suites.push(Suite {
                name: name.to_owned(),
                counts: Counts {
                    failed: 1,
                    ..Counts::default()
                },
                ..Suite::default()
            });
        }
    }
}

/// Keeps what the doctor says on this machine, for the table.
fn ask_own_doctor(command: &Path, folder: &Path) -> Result<()> {
    let out = results::own(folder);
    fs::create_dir_all(&out).with_context(|| format!("creating {}", out.display()))?;
    if let Some(text) = process::output_of(Command::new(command).args(["doctor", "--json"])) {
        let path = out.join("doctor.json");
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

/// A row that has run: its suites, or why there are none, and how long it took.
type Done = (&'static Kernel, Result<Vec<Suite>>, Duration);

/// Runs each job, some at once, and returns results in the order of the jobs.
fn in_parallel(
    jobs: &[Job<'_>],
    run: &(dyn Fn(&Job<'_>) -> Result<Vec<Suite>> + Sync),
) -> Vec<Done> {
    let queue = Mutex::new(jobs.iter().enumerate());
    let done = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..GUESTS_AT_ONCE {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().expect("no holder panics").next();
                    let Some((number, job)) = next else {
                        return;
                    };
                    let start = Instant::now();
                    let suites = run(job);
                    let time = start.elapsed();
                    println!("{}: {:.0} s", job.kernel.name, time.as_secs_f64());
                    let row = (job.kernel, suites, time);
                    done.lock().expect("no holder panics").push((number, row));
                }
            });
        }
    });
    let mut done = done.into_inner().expect("no holder panics");
    done.sort_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, row)| row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suite_of_which_nothing_was_heard_failed() {
        let heard = Suite {
            name: "a".to_owned(),
            ..Suite::default()
        };
        let mut suites = vec![heard];
        add_missing(["a", "b"].into_iter(), &mut suites);
        let failed: Vec<_> = suites.iter().map(|suite| suite.counts.failed).collect();
        assert_eq!(failed, [0, 1]);
    }
}
