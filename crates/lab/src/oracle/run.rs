//! A run of the oracle: one thread runs programs on the kernel, another holds the model against
//! what they showed. What diverges is shrunk afterwards, so that it does not count for the rate.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use super::watch::{Work, watch};
use super::{Checker, Coverage, Divergence, Subject, shrink};
use crate::compare::Allowances;
use crate::generate::{self, Family};
use crate::kernel::{Kernel, KernelError, PuppetError};
use crate::outcome::Outcome;
use crate::program::Program;

/// How long shrinking one program may take.
const SHRINK_TIME: Duration = Duration::from_secs(5);
/// How long shrinking may take in one run.
const SHRINK_TIME_ALL: Duration = Duration::from_secs(60);
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

/// A program that the kernel's side could not bring to an end.
#[derive(Debug)]
pub struct Lost {
    /// The program's family.
    pub family: Family,
    /// Its seed.
    pub seed: u64,
    /// What failed.
    pub why: KernelError,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { family, seed, why } = self;
        write!(f, "program {seed} of family {}: {why}", family.name())
    }
}

/// What a run found.
#[derive(Debug)]
pub struct Report {
    /// Compared steps. What was left out does not count.
    pub steps: u64,
    /// Programs.
    pub programs: u64,
    /// How long comparing took, without shrinking.
    pub time: Duration,
    /// Programs that diverged.
    pub divergences: u64,
    /// One of each kind, shrunk.
    pub found: Vec<Found>,
    /// Programs that came to no end.
    pub lost: Vec<Lost>,
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
    outcomes: Result<Vec<Outcome>, KernelError>,
}

/// Runs the oracle. `found` hears of each kind of divergence, shrunk.
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
        let (mut report, kinds) = hold(subject, options, (begin, work), &receiver);
        stop.store(true, Ordering::Relaxed);
        drop(receiver);
        kernel.join().expect("the kernel's side does not panic")?;
        report.found = shrink_all(subject, kinds, work, &mut found);
        Ok(report)
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
            Ok(outcomes) => Ok(outcomes),
            // Made by chance: it names what no program may.
            Err(KernelError::Step { .. }) => continue,
            Err(why @ KernelError::Puppet(PuppetError::Start(_))) => {
                return Err(OracleError::Kernel {
                    seed,
                    family: family.name(),
                    why,
                });
            }
            Err(why) => Err(why),
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

/// A kind of divergence: the first program that showed it, and how many did.
struct Kind {
    family: Family,
    seed: u64,
    program: Program,
    divergence: Divergence,
    times: u64,
}

/// Holds the model against what comes.
fn hold(
    subject: &Subject,
    options: &Options,
    (begin, work): (Instant, &Work),
    receiver: &Receiver<Ran>,
) -> (Report, Vec<Kind>) {
    let mut checker = Checker::new(subject.profile.clone(), subject.geometry);
    let mut kinds: BTreeMap<String, Kind> = BTreeMap::new();
    let mut lost = Vec::new();
    let (mut programs, mut divergences) = (0, 0);
    for ran in receiver.iter() {
        let Ran {
            family,
            seed,
            program,
            outcomes,
        } = ran;
        programs += 1;
        let outcomes = match outcomes {
            Ok(outcomes) => outcomes,
            Err(why) => {
                lost.push(Lost { family, seed, why });
                continue;
            }
        };
        work.begin(&program);
        let checked = checker.check(&program, &outcomes);
        work.end();
        if let Err(divergence) = checked {
            divergences += 1;
            let kind = kinds.entry(divergence.signature()).or_insert(Kind {
                family,
                seed,
                program,
                divergence,
                times: 0,
            });
            kind.times += 1;
        }
        let steps = checker.coverage.steps();
        let enough = options.steps.is_some_and(|most| steps >= most)
            || options.time.is_some_and(|most| begin.elapsed() >= most);
        if enough {
            break;
        }
    }
    let report = Report {
        steps: checker.coverage.steps(),
        programs,
        time: begin.elapsed(),
        divergences,
        found: Vec::new(),
        lost,
        coverage: checker.coverage,
        allowances: checker.allowances,
    };
    (report, kinds.into_values().collect())
}

/// Shrinks what was found, the most frequent first, as long as there is time.
fn shrink_all(
    subject: &Subject,
    mut kinds: Vec<Kind>,
    work: &Work,
    found: &mut impl FnMut(&Found),
) -> Vec<Found> {
    let deadline = Instant::now() + SHRINK_TIME_ALL;
    kinds.sort_by_key(|kind| std::cmp::Reverse(kind.times));
    let shrunk = kinds.into_iter().map(|kind| {
        let left = deadline.saturating_duration_since(Instant::now());
        let one = minimal(subject, kind, work, SHRINK_TIME.min(left));
        found(&one);
        one
    });
    shrunk.collect()
}

/// Shrinks a program that diverged, as long as the same operation diverges.
fn minimal(subject: &Subject, kind: Kind, work: &Work, time: Duration) -> Found {
    let mut kernel = Kernel::new(subject.geometry);
    let mut checker = Checker::new(subject.profile.clone(), subject.geometry);
    let Kind {
        family,
        seed,
        mut program,
        divergence: mut last,
        times,
    } = kind;
    program.steps.truncate(last.step + 1);
    let wanted = last.signature();
    let mut fails = |candidate: &Program| {
        let Ok(outcomes) = kernel.run(candidate) else {
            return false;
        };
        work.begin(candidate);
        let checked = checker.check(candidate, &outcomes);
        work.end();
        match checked {
            Err(divergence) if divergence.signature() == wanted => {
                last = divergence;
                true
            }
            _ => false,
        }
    };
    let program = shrink(&program, time, &mut fails);
    // The last try may have been another program.
    fails(&program);
    Found {
        family,
        seed,
        divergence: last,
        program,
        times,
    }
}
