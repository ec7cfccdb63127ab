//! Examines the model: `cargo xtask mutate` runs it on models with a fault.
//!
//! ```text
//! examine SECONDS SEED FOUND     regressions, random programs, cases
//! examine replay FILE            one program
//! ```
//!
//! The first runs the regression files, then, for as many seconds as said, the oracle until a program
//! diverges, which is written to the file FOUND, and at last the conformance cases on the model. What it
//! begins is a line `at ...`, each thing that is wrong is a line, and at the end stands `done` with
//! the number of compared steps. A line `at ...` comes every second, too, as long as it goes on. The
//! second ends with exit code 1 if the program diverges, and 3 if it could not be compared.
#![forbid(unsafe_code)]

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lab::conform::{self, Modelled, Verdict};
use lab::generate::Family;
use lab::kernel::Kernel;
use lab::oracle::{Checker, Options, Subject, run};
use lab::program::Program;

type Anything = Box<dyn std::error::Error>;

/// How long to wait for huge pages that another run has. Without them, nothing that uses them is
/// run.
const POOL_WAIT: Duration = Duration::from_secs(20);
/// How often a program must differ in the same way to count.
const TIMES: usize = 3;
/// How often it is tried.
const TRIES: usize = 20;
/// How often it says that it goes on.
const OFTEN: Duration = Duration::from_secs(1);

fn main() -> Result<ExitCode, Anything> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    // A model that panics is a divergence like others.
    std::panic::set_hook(Box::new(|_| {}));
    match arguments[..] {
        ["replay", file] => {
            let program: Program = fs::read_to_string(file)?.parse()?;
            Ok(match Both::new(&subject()?).differs(&program) {
                Some(differs) => ExitCode::from(u8::from(differs)),
                None => ExitCode::from(3),
            })
        }
        [seconds, seed, found] => {
            examine(Duration::from_secs(seconds.parse()?), seed.parse()?, found)?;
            Ok(ExitCode::SUCCESS)
        }
        _ => Err("examine SECONDS SEED FOUND, or examine replay FILE".into()),
    }
}

fn subject() -> Result<Subject, Anything> {
    Ok(Subject::waiting(None, POOL_WAIT)?)
}

fn examine(time: Duration, seed: u64, found: &str) -> Result<(), Anything> {
    let subject = subject()?;
    let mut lines = Lines::new();
    lines.begin("regressions")?;
    let mut both = Both::new(&subject);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions");
    for file in fs::read_dir(folder)? {
        let path = file?.path();
        let program: Program = fs::read_to_string(&path)?.parse()?;
        let has_all = program.needs.iter().all(|need| subject.has(need));
        if has_all && both.differs(&program) == Some(true) {
            let name = path.file_stem().unwrap_or_default().display();
            lines.put(&format!("regression {name}"))?;
        }
        lines.alive()?;
    }
    lines.begin("random programs")?;
    let steps = random(&subject, time, seed, found, &mut lines)?;
    lines.begin("cases")?;
    let mut model = Modelled::default();
    for case in &conform::cases(conform::Ground::geometry(&model))? {
        let finding = conform::judge(case, &mut model);
        if finding.result == Verdict::Fail {
            lines.put(&format!("case {}/{}", finding.family, finding.name))?;
        }
        lines.alive()?;
    }
    writeln!(io::stdout(), "done {steps}")?;
    Ok(())
}

/// Runs random programs until one diverges or the time is over; tells how many steps were compared.
fn random(
    subject: &Subject,
    time: Duration,
    seed: u64,
    path: &str,
    lines: &mut Lines,
) -> Result<u64, Anything> {
    let families = Family::ALL.iter().copied();
    let options = Options {
        seed,
        steps: None,
        time: Some(time),
        divergences: Some(1),
        families: families.filter(|family| subject.can_run(*family)).collect(),
        without: Vec::new(),
        workers: None,
    };
    let over = AtomicBool::new(false);
    let report = thread::scope(|scope| {
        // A model that never comes back ends the process: see `oracle::run`.
        let alive = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                lines.alive()?;
                thread::sleep(OFTEN / 10);
            }
            Ok::<(), io::Error>(())
        });
        let report = run(subject, &options, |_| {});
        over.store(true, Ordering::Relaxed);
        alive.join().expect("printing does not panic")?;
        Ok::<_, Anything>(report?)
    })?;
    if let Some(one) = report.found.first() {
        fs::write(path, one.text())?;
        let (family, signature) = (one.family.name(), one.divergence.signature());
        lines.put(&format!("oracle {family}: {signature}"))?;
    }
    Ok(report.steps)
}

/// The kernel and the model.
struct Both<'a> {
    subject: &'a Subject,
    kernel: Kernel,
    checker: Checker,
}

impl<'a> Both<'a> {
    fn new(subject: &'a Subject) -> Self {
        Self {
            kernel: Kernel::new(subject.geometry),
            checker: Checker::new(subject.profile.clone(), subject.geometry),
            subject,
        }
    }

    /// Tells whether they differ, in the same way each time; `None` where others use the machine's
    /// huge pages each time, or the kernel's side fails: then they could not be compared.
    fn differs(&mut self, program: &Program) -> Option<bool> {
        let mut first = None;
        let mut seen = 0;
        for _ in 0..TRIES {
            let is_whole = |subject: &Subject| !program.uses_pool() || subject.has_whole_pool();
            if !is_whole(self.subject) {
                thread::sleep(OFTEN / 10);
                continue;
            }
            let outcomes = self.kernel.run(program).ok()?;
            let checked = self.checker.check(program, &outcomes);
            if !is_whole(self.subject) {
                continue;
            }
            let Err(divergence) = checked else {
                return Some(false);
            };
            let differs = divergence.signature();
            if first.as_ref().is_some_and(|first| *first != differs) {
                return Some(false);
            }
            first = Some(differs);
            seen += 1;
            if seen == TIMES {
                return Some(true);
            }
        }
        None
    }
}

/// Prints what is found, and that it goes on.
struct Lines {
    at: &'static str,
    said: Instant,
}

impl Lines {
    fn new() -> Self {
        Self {
            at: "",
            said: Instant::now(),
        }
    }

    fn begin(&mut self, what: &'static str) -> io::Result<()> {
        self.at = what;
        self.say()
    }

    fn alive(&mut self) -> io::Result<()> {
        if self.said.elapsed() < OFTEN {
            return Ok(());
        }
        self.say()
    }

    fn say(&mut self) -> io::Result<()> {
        self.said = Instant::now();
        writeln!(io::stdout(), "at {}", self.at)?;
        io::stdout().flush()
    }

    fn put(&mut self, line: &str) -> io::Result<()> {
        writeln!(io::stdout(), "{line}")?;
        io::stdout().flush()
    }
}
