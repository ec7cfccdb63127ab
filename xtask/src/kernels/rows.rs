//! The rows of the table: each kernel's suites, run in its guest, and what is read here of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::archive::Archive;
use super::catalog::{Architecture, Kernel};
use super::console::Suite;
use super::guest::Guest;
use super::programs::{self, Programs};
use super::rust::Rust;
use super::tools::Tools;
use super::{abroad, boot, images};
use crate::test::report::{Counts, Report};
use crate::workspace::Workspace;

/// How many guests run at once: each of them keeps more than one processor busy at times.
const GUESTS_AT_ONCE: usize = 2;

/// What all rows share.
struct Bench<'a> {
    workspace: &'a Workspace,
    filters: &'a [String],
    folder: PathBuf,
    archive: Archive,
    tools: Tools,
}

/// Tests on kernels in guests, and adds a row for each of their suites to the report. What can't be
/// had here is counted as skipped.
///
/// # Errors
///
/// Where something can't be built or run that is there.
pub(super) fn test(
    workspace: &Workspace,
    kernels: &[&Kernel],
    filters: &[String],
    report: &mut Report,
) -> Result<()> {
    let bench = match Bench::set_up(workspace, filters) {
        Ok(bench) => bench,
        Err(error) => {
            skip(kernels, &format!("{error:#}"), report);
            return Ok(());
        }
    };
    let amd64 = match bench.rust(Architecture::Amd64) {
        Ok(rust) => bench.build(Architecture::Amd64, &rust)?,
        Err(error) => {
            skip(kernels, &format!("{error:#}"), report);
            return Ok(());
        }
    };
    let (foreign, native): (Vec<_>, Vec<_>) = kernels
        .iter()
        .partition(|kernel| kernel.architecture == Architecture::Arm64);
    let mut arm64 = None;
    if !foreign.is_empty() {
        match bench.rust(Architecture::Arm64) {
            Ok(rust) => arm64 = Some(bench.build(Architecture::Arm64, &rust)?),
            Err(error) => skip(&foreign, &format!("{error:#}"), report),
        }
    }
    let kept = bench.folder.join("kept");
    fs::create_dir_all(&kept).with_context(|| format!("creating {}", kept.display()))?;
    if abroad::is_wanted(filters) {
        let taken = abroad::take(&amd64, &bench.tools, &kept)?;
        report.add(format!("kernels: {}", taken.name), taken.counts, taken.time);
    }
    let jobs = native.into_iter().map(|kernel| (kernel, &amd64));
    let jobs: Vec<_> = match &arm64 {
        Some(arm64) => {
            let more = foreign.into_iter().map(|kernel| (kernel, arm64));
            // The slowest first.
            more.rev().chain(jobs).collect()
        }
        None => jobs.collect(),
    };
    // One after the other: what is downloaded goes through one folder.
    for (kernel, _) in &jobs {
        images::fetch(&bench.archive, kernel, &bench.folder)?;
        images::shell(&bench.archive, kernel.architecture, &bench.folder)?;
    }
    for (kernel, suites) in in_parallel(&jobs, &|kernel, programs| bench.run(kernel, programs)) {
        let mut suites = suites.with_context(|| format!("{} could not be run", kernel.name))?;
        let out = bench.out(kernel);
        if suites.iter().any(|suite| suite.counts.failed > 0) {
            explain(kernel, &out, filters);
        }
        if abroad::is_wanted(filters) {
            suites.push(abroad::read(&amd64, &bench.tools, &out.join("kept"))?);
        }
        for mut suite in suites {
            if !suite.counts.is_empty() || filters.is_empty() {
                for line in &mut suite.counts.skipped {
                    *line = format!("{} {line}", kernel.name);
                }
                let name = format!("{} {}", kernel.name, suite.name);
                report.add(name, suite.counts, suite.time);
            }
        }
    }
    Ok(())
}

impl<'a> Bench<'a> {
    fn set_up(workspace: &'a Workspace, filters: &'a [String]) -> Result<Self> {
        let folder = super::folder(workspace)?;
        let archive = Archive::open(&folder.join("apt"))?;
        let tools = Tools::new(&folder);
        tools.get_qemu(&archive)?;
        if let Err(error) = tools.get_debugger(&archive) {
            println!("the guests' cores are read without a debugger: {error:#}");
        }
        Ok(Self {
            workspace,
            filters,
            folder,
            archive,
            tools,
        })
    }

    fn rust(&self, architecture: Architecture) -> Result<Rust> {
        Rust::prepare(architecture, &self.archive, &self.tools, &self.folder)
    }

    fn build(&self, architecture: Architecture, rust: &Rust) -> Result<Programs> {
        programs::build(
            self.workspace,
            architecture,
            rust,
            &self.tools,
            &self.folder,
        )
    }

    /// Runs all suites on one kernel.
    fn run(&self, kernel: &Kernel, programs: &Programs) -> Result<Vec<Suite>> {
        let image = images::fetch(&self.archive, kernel, &self.folder)?;
        let guest = Guest {
            kernel,
            image: &image,
            programs,
            shell: &images::shell(&self.archive, kernel.architecture, &self.folder)?,
            filters: self.filters,
            kept: &self.folder.join("kept"),
            built: self.workspace.target.join(kernel.architecture.target()),
        };
        let initramfs = self.folder.join(format!("{}.cpio", kernel.name));
        guest.pack(&initramfs)?;
        boot::boot(kernel, &image, &initramfs, &self.tools, &self.out(kernel))
    }

    fn out(&self, kernel: &Kernel) -> PathBuf {
        self.folder.join("out").join(kernel.name)
    }
}

/// A row's suites, or why there are none.
type Row = Result<Vec<Suite>>;

/// Runs each job, some at once, and returns results in the order of the jobs.
fn in_parallel<'a>(
    jobs: &[(&'a Kernel, &'a Programs)],
    run: &(dyn Fn(&Kernel, &Programs) -> Row + Sync),
) -> Vec<(&'a Kernel, Row)> {
    let queue = Mutex::new(jobs.iter().enumerate());
    let done = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..GUESTS_AT_ONCE {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().expect("no holder panics").next();
                    let Some((number, &(kernel, programs))) = next else {
                        return;
                    };
                    let start = Instant::now();
                    let row = run(kernel, programs);
                    println!("{}: {:.0} s", kernel.name, start.elapsed().as_secs_f64());
                    done.lock()
                        .expect("no holder panics")
                        .push((number, kernel, row));
                }
            });
        }
    });
    let mut done = done.into_inner().expect("no holder panics");
    done.sort_by_key(|(number, ..)| *number);
    done.into_iter()
        .map(|(_, kernel, row)| (kernel, row))
        .collect()
}

/// Counts kernels as skipped.
fn skip(kernels: &[&Kernel], why: &str, report: &mut Report) {
    for kernel in kernels {
        let counts = Counts {
            skipped: vec![format!("{} everything: {why}", kernel.name)],
            ..Counts::default()
        };
        report.add(kernel.name.to_owned(), counts, Duration::ZERO);
    }
}

/// Shows a failed guest's console, and how to run it again.
fn explain(kernel: &Kernel, out: &Path, filters: &[String]) {
    let path = out.join("console.txt");
    let text = fs::read_to_string(&path).unwrap_or_default();
    println!("\n== the console of {}", kernel.name);
    print!("{text}");
    println!("== that was {}", path.display());
    let mut again = format!("cargo xtask kernels run --kernel {}", kernel.name);
    if !filters.is_empty() {
        again = format!("{again} -- {}", filters.join(" "));
    }
    println!("== to repeat it: {again}");
}
