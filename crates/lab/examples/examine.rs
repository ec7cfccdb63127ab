//! Examines the model: `cargo xtask mutate` runs it on models with a fault.
//!
//! It runs the conformance cases on the model, the regression files and then, for as many seconds
//! as its argument says, random programs on the kernel and on the model. Each thing that is wrong
//! is a line; at the end stands `done` with the number of compared steps.
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

fn main() -> Result<(), Anything> {
    let mut arguments = std::env::args().skip(1);
    let seconds = arguments.next().ok_or("how many seconds?")?.parse()?;
    let seed = arguments.next().ok_or("which seed?")?.parse()?;
    // A model that panics is a divergence like others.
    std::panic::set_hook(Box::new(|_| {}));
    let mut lines = Lines(BTreeSet::new());
    let mut model = Modelled::default();
    let cases = conform::cases(model.geometry())?;
    for case in &cases {
        let finding = conform::judge(case, &mut model);
        if finding.result == Verdict::Fail {
            lines.put(format!("case {}/{}", finding.family, finding.name))?;
        }
    }
    let subject = Subject::of_this_machine(None)?;
    let mut kernel = Kernel::new(subject.geometry);
    let mut checker = Checker::new(subject.profile.clone(), subject.geometry);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions");
    for file in fs::read_dir(folder)? {
        let path = file?.path();
        let program: Program = fs::read_to_string(&path)?.parse()?;
        if program.needs.iter().all(|need| subject.has(need))
            && checker.check(&program, &kernel.run(&program)?).is_err()
        {
            lines.put(format!("regression {}", path.display()))?;
        }
    }
    let families: Vec<Family> = Family::ALL
        .iter()
        .copied()
        .filter(|family| subject.can_run(*family))
        .collect();
    let mut draw = Random::new(seed);
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end {
        let family = draw.one_of(&families);
        let program = generate::program(family, draw.word());
        let Ok(outcomes) = kernel.run(&program) else {
            continue;
        };
        if let Err(divergence) = checker.check(&program, &outcomes) {
            lines.put(format!(
                "oracle {}: {}",
                family.name(),
                divergence.signature()
            ))?;
        }
    }
    writeln!(io::stdout(), "done {}", checker.coverage.steps())?;
    Ok(())
}

/// Prints each line once.
struct Lines(BTreeSet<String>);

impl Lines {
    fn put(&mut self, line: String) -> io::Result<()> {
        let mut out = io::stdout();
        if !self.0.contains(&line) {
            writeln!(out, "{line}")?;
            self.0.insert(line);
        }
        out.flush()
    }
}
