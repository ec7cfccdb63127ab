//! A run of the oracle: one thread runs programs on the kernel, another holds the model against
//! what they showed.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use super::watch::{Work, watch};
use super::{Checker, Coverage, Divergence, Subject, shrink};
use crate::compare::Allowances;
use crate::generate::{self, Family};
use crate::kernel::{Kernel, KernelError};
use crate::outcome::Outcome;
use crate::program::Program;

/// How long shrinking one program may take.
const SHRINK_TIME: Duration = Duration::from_secs(15);
/// How many different divergences are shrunk in one run.
const SHRUNK_MAX: usize = 24;
/// How many programs may wait for the model.
const AHEAD: usize = 16;

/// What a run shall do.
#[derive(Clone, Debug)]
pub struct Options {
    /// The first program's seed.
    pub seed: u64,
    /// Stop after this many steps.
    pub steps: Option<u64>,
    /// Stop after this time.
    pub time: Option<Duration>,
    /// The families that programs are drawn from.
    pub families: Vec<Family>,
    /// Operations that are left out, by name.
    pub without: Vec<String>,
}

/// Why a run could not go on.
#[derive(Debug, thiserror::Error)]
pub enum OracleError {
    /// The kernel's side failed.
    #[error("program {seed} of family {family}: {why}")]
    Kernel {
        /// The program's seed.
        seed: u64,
        /// Its family.
        family: &'static str,
        /// What failed.
        why: KernelError,
    },
}

/// A divergence with the program that shows it.
#[derive(Clone, Debug)]
pub struct Found {
    /// The family of the program that it was found with.
    pub family: Family,
    /// That program's seed.
    pub seed: u64,
    /// What differs, in the shrunk program.
    pub divergence: Divergence,
    /// The shrunk program.
    pub program: Program,
    /// How many programs diverged like this one.
    pub times: u64,
}

impl Found {
    /// The program as a file for people, with what differs on top.
    pub fn text(&self) -> String {
        let program = self.program.to_string();
        let (head, rest) = program.split_once('\n').unwrap_or((&program, ""));
        let divergence = self.divergence.to_string();
        let comments: String = divergence
            .lines()
            .map(|line| format!("# {line}\n"))
            .collect();
        let origin = format!(
            "# found with family {} and seed {}\n",
            self.family.name(),
            self.seed
        );
        format!("{head}\n{origin}{comments}{rest}")
    }
}

/// What a run found.
#[derive(Debug)]
pub struct Report {
    /// Compared steps.
    pub steps: u64,
    /// Programs.
    pub programs: u64,
    /// How long it took.
    pub time: Duration,
    /// Programs that diverged.
    pub divergences: u64,
    /// One of each kind, shrunk.
    pub found: Vec<Found>,
    /// What was reached.
    pub coverage: Coverage,
    /// What was allowed.
    pub allowances: Allowances,
}

/// A program with what the kernel showed.
struct Ran {
    family: Family,
    seed: u64,
    program: Program,
    outcomes: Vec<Outcome>,
}

/// Runs the oracle. `found` hears of each new kind of divergence, shrunk.
///
/// # Errors
///
/// Fails if the kernel's side does, not for divergences.
///
/// # Panics
///
/// Panics if the thread of the kernel's side does: a mistake in here.
pub fn run(
    subject: &Subject,
    options: &Options,
    mut found: impl FnMut(&Found),
) -> Result<Report, OracleError> {
    let begin = Instant::now();
    let stop = AtomicBool::new(false);
    let work = Work::default();
    let (sender, receiver) = mpsc::sync_channel(AHEAD);
    thread::scope(|scope| {
        let stop = &stop;
        let kernel = scope.spawn(move || feed(subject, options, &sender, stop));
        let work = &work;
        scope.spawn(move || watch(work, stop));
        let mut report = hold(subject, options, (begin, work), &receiver, &mut found);
        stop.store(true, Ordering::Relaxed);
        drop(receiver);
        let fed = kernel.join().expect("the kernel's side does not panic");
        report.time = begin.elapsed();
        fed.map(|()| report)
    })
}

/// Runs programs on the kernel until nobody wants more.
fn feed(
    subject: &Subject,
    options: &Options,
    sender: &SyncSender<Ran>,
    stop: &AtomicBool,
) -> Result<(), OracleError> {
    let mut kernel = Kernel::new(subject.geometry);
    let mut draw = generate::Random::new(options.seed);
    while !stop.load(Ordering::Relaxed) {
        let family = draw.one_of(&options.families);
        let seed = draw.word();
        let mut program = generate::program(family, seed);
        program
            .steps
            .retain(|step| !options.without.iter().any(|name| *name == step.op.name()));
        let outcomes = match kernel.run(&program) {
            Ok(outcomes) => outcomes,
            // Made by chance: it names what no program may.
            Err(KernelError::Step { .. }) => continue,
            Err(why) => {
                return Err(OracleError::Kernel {
                    seed,
                    family: family.name(),
                    why,
                });
            }
        };
        if sender
            .send(Ran {
                family,
                seed,
                program,
                outcomes,
            })
            .is_err()
        {
            break;
        }
    }
    Ok(())
}

/// Holds the model against what comes.
fn hold(
    subject: &Subject,
    options: &Options,
    (begin, work): (Instant, &Work),
    receiver: &Receiver<Ran>,
    found: &mut impl FnMut(&Found),
) -> Report {
    let mut checker = Checker::new(subject.profile.clone(), subject.geometry);
    let mut kinds: BTreeMap<String, Option<Found>> = BTreeMap::new();
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    let (mut steps, mut programs, mut divergences) = (0, 0, 0);
    for ran in receiver.iter() {
        programs += 1;
        work.begin(&ran.program);
        let checked = checker.check(&ran.program, &ran.outcomes);
        work.end();
        let divergence = match checked {
            Ok(()) => {
                steps += ran.outcomes.len() as u64;
                None
            }
            Err(divergence) => {
                steps += divergence.step as u64 + 1;
                Some(divergence)
            }
        };
        if let Some(divergence) = divergence {
            divergences += 1;
            let signature = divergence.signature();
            *counts.entry(signature.clone()).or_default() += 1;
            if kinds.len() < SHRUNK_MAX && !kinds.contains_key(&signature) {
                let one = minimal(subject, ran, divergence);
                found(&one);
                kinds.insert(signature, Some(one));
            }
        }
        let enough = options.steps.is_some_and(|most| steps >= most)
            || options.time.is_some_and(|most| begin.elapsed() >= most);
        if enough {
            break;
        }
    }
    let mut all: Vec<Found> = Vec::new();
    for (signature, one) in kinds {
        let times = counts.get(&signature).copied().unwrap_or(1);
        all.extend(one.map(|one| Found { times, ..one }));
    }
    Report {
        steps,
        programs,
        time: begin.elapsed(),
        divergences,
        found: all,
        coverage: checker.coverage,
        allowances: checker.allowances,
    }
}

/// Shrinks a program that diverged, as long as the same operation diverges.
fn minimal(subject: &Subject, ran: Ran, divergence: Divergence) -> Found {
    let mut kernel = Kernel::new(subject.geometry);
    let mut checker = Checker::new(subject.profile.clone(), subject.geometry);
    let mut program = ran.program;
    program.steps.truncate(divergence.step + 1);
    let mut last = divergence;
    let wanted = last.signature();
    let mut fails = |candidate: &Program| {
        let Ok(outcomes) = kernel.run(candidate) else {
            return false;
        };
        match checker.check(candidate, &outcomes) {
            Err(divergence) if divergence.signature() == wanted => {
                last = divergence;
                true
            }
            _ => false,
        }
    };
    let program = shrink(&program, SHRINK_TIME, &mut fails);
    // The last try may have been another program.
    fails(&program);
    Found {
        family: ran.family,
        seed: ran.seed,
        divergence: last,
        program,
        times: 1,
    }
}
