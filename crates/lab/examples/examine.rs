//! Examines the model: `cargo xtask mutate` runs it on models with a fault.
//!
//! It runs the regression files, then, for as many seconds as its first argument says, random
//! programs on the kernel and on the model, and at last the conformance cases on the model. What it
//! begins is a line `at ...`, each thing that is wrong is a line, and at the end stands `done` with
//! the number of compared steps. A line `at ...` comes every second, too, as long as it goes on.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use lab::conform::{self, Ground, Modelled, Verdict};
use lab::generate::{self, Family, Random};
use lab::kernel::Kernel;
use lab::oracle::{Checker, Subject};
use lab::program::Program;

type Anything = Box<dyn std::error::Error>;

/// How long to wait for huge pages that another run has. Without them, nothing that uses them is
/// run.
const POOL_WAIT: Duration = Duration::from_secs(3);
/// How often a program must differ in the same way to count.
const TIMES: usize = 3;

fn main() -> Result<(), Anything> {
    let mut arguments = std::env::args().skip(1);
    let seconds = arguments.next().ok_or("how many seconds?")?.parse()?;
    let seed = arguments.next().ok_or("which seed?")?.parse()?;
    // A model that panics is a divergence like others.
    std::panic::set_hook(Box::new(|_| {}));
    let mut lines = Lines::new();
    let mut both = Both::new(Subject::waiting(None, POOL_WAIT)?);
    lines.begin("regressions")?;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions");
    for file in fs::read_dir(folder)? {
        let path = file?.path();
        let program: Program = fs::read_to_string(&path)?.parse()?;
        let has_all = program.needs.iter().all(|need| both.subject.has(need));
        if has_all && both.difference(&program).is_some() {
            let name = path.file_stem().unwrap_or_default().display();
            lines.put(&format!("regression {name}"))?;
        }
        lines.alive()?;
    }
    lines.begin("random programs")?;
    let families: Vec<Family> = Family::ALL
        .iter()
        .copied()
        .filter(|family| both.subject.can_run(*family))
        .collect();
    let mut draw = Random::new(seed);
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end {
        let family = draw.one_of(&families);
        let program = generate::program(family, draw.word());
        if let Some(signature) = both.difference(&program) {
            lines.put(&format!("oracle {}: {signature}", family.name()))?;
        }
        lines.alive()?;
    }
    lines.begin("cases")?;
    let mut model = Modelled::default();
    for case in &conform::cases(model.geometry())? {
        let finding = conform::judge(case, &mut model);
        if finding.result == Verdict::Fail {
            lines.put(&format!("case {}/{}", finding.family, finding.name))?;
        }
        lines.alive()?;
    }
    writeln!(io::stdout(), "done {}", both.checker.coverage.steps())?;
    Ok(())
}

/// The kernel and the model.
struct Both {
    subject: Subject,
    kernel: Kernel,
    checker: Checker,
}

impl Both {
    fn new(subject: Subject) -> Self {
        Self {
            kernel: Kernel::new(subject.geometry),
            checker: Checker::new(subject.profile.clone(), subject.geometry),
            subject,
        }
    }

    /// How they differ, if they do so each time. What others do with the machine's huge pages is no
    /// difference.
    fn difference(&mut self, program: &Program) -> Option<String> {
        let mut first = None;
        for _ in 0..TIMES {
            let is_whole = |subject: &Subject| !program.uses_pool() || subject.has_whole_pool();
            if !is_whole(&self.subject) {
                return None;
            }
            let outcomes = self.kernel.run(program).ok()?;
            let differs = self.checker.check(program, &outcomes).err()?.signature();
            if !is_whole(&self.subject) || first.as_ref().is_some_and(|first| *first != differs) {
                return None;
            }
            first = Some(differs);
        }
        first
    }
}

/// Prints each line once.
struct Lines {
    known: BTreeSet<String>,
    at: &'static str,
    said: Instant,
}

impl Lines {
    fn new() -> Self {
        Self {
            known: BTreeSet::new(),
            at: "",
            said: Instant::now(),
        }
    }

    fn begin(&mut self, what: &'static str) -> io::Result<()> {
        self.at = what;
        self.say()
    }

    fn alive(&mut self) -> io::Result<()> {
        const OFTEN: Duration = Duration::from_secs(1);
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
        if self.known.insert(line.to_owned()) {
            writeln!(io::stdout(), "{line}")?;
        }
        io::stdout().flush()
    }
}
