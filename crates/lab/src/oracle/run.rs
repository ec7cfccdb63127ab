//! A run of the oracle: workers try out programs side by side, and what they find is added up in
//! the order of the programs. What diverges is shrunk afterwards, so that it does not count for the
//! rate.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use super::watch::{Work, watch};
use super::worker::{Disturbance, Draw, Drawn, End, Pool, Ran, Worker};
use super::{Coverage, Divergence, Subject, shrink};
use crate::compare::Allowances;
use crate::generate::Family;
use crate::kernel::KernelError;
use crate::program::Program;

/// How long shrinking one program may take.
const SHRINK_TIME: Duration = Duration::from_secs(5);
/// How long shrinking may take in one run.
const SHRINK_TIME_ALL: Duration = Duration::from_secs(60);
/// How many programs of a worker may wait to be added up.
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
    /// Stop after so many programs that diverge.
    pub divergences: Option<u64>,
    /// The families that programs are drawn from.
    pub families: Vec<Family>,
    /// Operations that are left out, by name.
    pub without: Vec<String>,
    /// How many programs run side by side; as many as there are processors unless said. What a run of
    /// so many steps finds does not depend on it.
    pub workers: Option<NonZeroUsize>,
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

/// A program that uses huge pages and was not compared.
#[derive(Clone, Debug)]
pub struct Disturbed {
    /// Which program of the run it was, from 0.
    pub number: u64,
    /// Its family.
    pub family: Family,
    /// Its seed.
    pub seed: u64,
    /// The program, for who wants to look.
    pub program: Program,
    /// Why it was not.
    pub why: Disturbance,
}

impl fmt::Display for Disturbed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            number,
            family,
            seed,
            why,
            ..
        } = self;
        write!(f, "program {number}, {seed} of family {}: ", family.name())?;
        match why {
            Disturbance::Pool => f.write_str("others used the machine's huge pages meanwhile"),
            Disturbance::Once(divergence) => {
                write!(f, "it parted once and did not again: {divergence}")
            }
        }
    }
}

/// What a run found.
#[derive(Debug, Default)]
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
    /// Programs that use huge pages and were not compared.
    pub disturbed: Vec<Disturbed>,
    /// What was reached.
    pub coverage: Coverage,
    /// What was allowed.
    pub allowances: Allowances,
}

impl Report {
    /// How many of a thousand programs may be disturbed by others in a run that counts.
    pub const DISTURBED_MAX: u64 = 10;
    /// One program in so many may part once and not again.
    pub const ONCE_IN: u64 = 2_000;

    /// How many programs parted once and not again.
    pub fn parted_once(&self) -> u64 {
        let once = |one: &&Disturbed| matches!(one.why, Disturbance::Once(_));
        self.disturbed.iter().filter(once).map(|_| 1).sum()
    }

    /// Tells whether others disturbed more programs than a run may have: then it shows too little of
    /// what uses the pool of huge pages. One alone is never too many.
    pub fn is_disturbed(&self) -> bool {
        let disturbed = self.disturbed.iter().map(|_| 1_u64).sum::<u64>() - self.parted_once();
        disturbed > 1 && disturbed.saturating_mul(1000) > self.programs * Self::DISTURBED_MAX
    }

    /// Tells whether more programs parted once and not again than missing huge pages explain. One alone
    /// is never too many.
    pub fn is_unsteady(&self) -> bool {
        let once = self.parted_once();
        once > 1 && once.saturating_mul(Self::ONCE_IN) > self.programs
    }
}

/// Runs the oracle. `found` hears of each kind of divergence, shrunk.
///
/// # Errors
///
/// Fails if the kernel's side does, not for divergences.
///
/// # Panics
///
/// Panics if a worker does: a mistake in here.
pub fn run(
    subject: &Subject,
    options: &Options,
    mut found: impl FnMut(&Found),
) -> Result<Report, OracleError> {
    let begin = Instant::now();
    let over = AtomicBool::new(false);
    let pool = Pool::new(subject);
    let draw = Draw::new(options.seed, &options.families, &options.without);
    let workers = workers(options);
    let works: Vec<Work> = (0..=workers).map(|_| Work::default()).collect();
    thread::scope(|scope| {
        scope.spawn(|| watch(&works, &over));
        // Its puppets end when a worker does.
        let work = |number: usize, sender: &SyncSender<Ran>, stop: &AtomicBool| {
            let mut worker = Worker::new(&pool, &works[number + 1]);
            worker.run(&draw, sender, || stop.load(Ordering::Relaxed))
        };
        let shrunk = side_by_side(workers, options, begin, work).map(|tally| {
            let mut report = tally.report;
            let mut worker = Worker::new(&pool, &works[0]);
            report.found = shrink_all(&mut worker, tally.kinds, &mut found);
            report
        });
        over.store(true, Ordering::Relaxed);
        shrunk
    })
}

/// Has so many workers work, each given its number, until there is enough of what they send.
///
/// # Errors
///
/// Fails if one of them does. That stops the others, too, which would wait for its program for ever.
fn side_by_side(
    workers: usize,
    options: &Options,
    begin: Instant,
    work: impl Fn(usize, &SyncSender<Ran>, &AtomicBool) -> Result<(), OracleError> + Sync,
) -> Result<Tally, OracleError> {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let (sender, receiver) = mpsc::sync_channel(AHEAD * workers);
        let handles: Vec<_> = (0..workers)
            .map(|number| {
                let (work, stop, sender) = (&work, &stop, sender.clone());
                scope.spawn(move || {
                    let worked = work(number, &sender, stop);
                    if worked.is_err() {
                        stop.store(true, Ordering::Relaxed);
                    }
                    worked
                })
            })
            .collect();
        drop(sender);
        let tally = gather(options, begin, &receiver, &stop);
        drop(receiver);
        let ended: Result<Vec<()>, OracleError> = handles
            .into_iter()
            .map(|handle| handle.join().expect("a worker does not panic"))
            .collect();
        ended.map(|_| tally)
    })
}

fn workers(options: &Options) -> usize {
    let all = || thread::available_parallelism().map_or(1, NonZeroUsize::get);
    options.workers.map_or_else(all, NonZeroUsize::get)
}

/// A kind of divergence: the first program that showed it, and how many did.
struct Kind {
    family: Family,
    seed: u64,
    program: Program,
    divergence: Divergence,
    times: u64,
}

/// What has come together.
struct Tally {
    report: Report,
    kinds: BTreeMap<String, Kind>,
}

impl Tally {
    fn add(&mut self, ran: Ran) {
        let Ran {
            drawn,
            end,
            coverage,
            allowances,
        } = ran;
        let Drawn {
            number,
            family,
            seed,
            program,
        } = drawn;
        let report = &mut self.report;
        report.coverage.add(&coverage);
        report.allowances.add(&allowances);
        report.steps = report.coverage.steps();
        report.programs += u64::from(!matches!(end, End::Refused));
        match end {
            End::Same | End::Refused => {}
            End::Disturbed(why) => report.disturbed.push(Disturbed {
                number,
                family,
                seed,
                program,
                why,
            }),
            End::Lost(why) => report.lost.push(Lost { family, seed, why }),
            End::Parted(divergence) => {
                report.divergences += 1;
                let kind = self.kinds.entry(divergence.signature()).or_insert(Kind {
                    family,
                    seed,
                    program,
                    divergence,
                    times: 0,
                });
                kind.times += 1;
            }
        }
    }
}

/// Adds up what the workers bring, in the order of the programs' numbers, until it is enough.
fn gather(options: &Options, begin: Instant, receiver: &Receiver<Ran>, stop: &AtomicBool) -> Tally {
    let mut tally = Tally {
        report: Report::default(),
        kinds: BTreeMap::new(),
    };
    let mut early: BTreeMap<u64, Ran> = BTreeMap::new();
    let mut next = 0;
    let mut full = false;
    for ran in receiver.iter() {
        early.insert(ran.drawn.number, ran);
        while !full && let Some(ran) = early.remove(&next) {
            next += 1;
            tally.add(ran);
            let Report {
                steps, divergences, ..
            } = tally.report;
            full = options.steps.is_some_and(|most| steps >= most)
                || options.divergences.is_some_and(|most| divergences >= most);
        }
        let late = options.time.is_some_and(|most| begin.elapsed() >= most);
        if full || late {
            // The workers end with what they are at.
            stop.store(true, Ordering::Relaxed);
        }
    }
    if !full {
        early.into_values().for_each(|ran| tally.add(ran));
    }
    tally.report.time = begin.elapsed();
    tally
}

/// Shrinks what was found, the most frequent first, as long as there is time.
fn shrink_all(
    worker: &mut Worker<'_>,
    kinds: BTreeMap<String, Kind>,
    found: &mut impl FnMut(&Found),
) -> Vec<Found> {
    let deadline = Instant::now() + SHRINK_TIME_ALL;
    let mut kinds: Vec<Kind> = kinds.into_values().collect();
    kinds.sort_by_key(|kind| std::cmp::Reverse(kind.times));
    let shrunk = kinds.into_iter().map(|kind| {
        let left = deadline.saturating_duration_since(Instant::now());
        let one = minimal(worker, kind, SHRINK_TIME.min(left));
        found(&one);
        one
    });
    shrunk.collect()
}

/// Shrinks a program that diverged, as long as the same operation diverges.
fn minimal(worker: &mut Worker<'_>, kind: Kind, time: Duration) -> Found {
    let Kind {
        family,
        seed,
        mut program,
        divergence: mut last,
        times,
    } = kind;
    program.steps.truncate(last.step + 1);
    let wanted = last.signature();
    let mut fails = |candidate: &Program| match worker.try_out(candidate) {
        End::Parted(divergence) if divergence.signature() == wanted => {
            last = divergence;
            true
        }
        _ => false,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::Difference;
    use crate::kernel::PuppetError;

    fn ran(number: u64) -> Ran {
        Ran {
            drawn: Drawn {
                number,
                family: Family::Mapping,
                seed: number,
                program: Program::default(),
            },
            end: End::Same,
            coverage: Coverage::default(),
            allowances: Allowances::default(),
        }
    }

    fn options() -> Options {
        Options {
            seed: 1,
            steps: None,
            time: None,
            divergences: None,
            families: vec![Family::Mapping],
            without: Vec::new(),
            workers: None,
        }
    }

    fn divergence() -> Divergence {
        Divergence {
            step: 0,
            op: "look",
            difference: Difference {
                what: "answer".to_owned(),
                kernel: String::new(),
                model: String::new(),
            },
        }
    }

    #[test]
    fn a_worker_that_fails_stops_the_others() {
        let begin = Instant::now();
        let stopped = AtomicBool::new(false);
        let work = |number: usize, sender: &SyncSender<Ran>, stop: &AtomicBool| {
            if number == 0 {
                // The first program is this one's, and never comes.
                return Err(OracleError::Kernel {
                    seed: 0,
                    family: "mapping",
                    why: KernelError::Puppet(PuppetError::Start(space::Errno::ENOMEM)),
                });
            }
            for next in 1.. {
                if stop.load(Ordering::Relaxed) {
                    stopped.store(true, Ordering::Relaxed);
                    break;
                }
                if sender.send(ran(next)).is_err() || begin.elapsed() > Duration::from_secs(60) {
                    break;
                }
            }
            Ok(())
        };
        assert!(side_by_side(2, &options(), begin, work).is_err());
        assert!(stopped.load(Ordering::Relaxed));
    }

    #[test]
    fn as_many_divergences_as_asked_for_are_enough() {
        let work = |_: usize, sender: &SyncSender<Ran>, _: &AtomicBool| {
            for next in 0..4 {
                let end = End::Parted(divergence());
                let ran = Ran { end, ..ran(next) };
                if sender.send(ran).is_err() {
                    break;
                }
            }
            Ok(())
        };
        let options = Options {
            divergences: Some(2),
            ..options()
        };
        let tally = side_by_side(1, &options, Instant::now(), work).unwrap();
        assert_eq!(tally.report.divergences, 2);
    }

    #[test]
    fn few_programs_may_part_once() {
        let report = |programs: u64, pool: usize, once: usize| {
            let mut whys = vec![Disturbance::Pool; pool];
            whys.resize(pool + once, Disturbance::Once(divergence()));
            let disturbed = whys.into_iter().map(|why| Disturbed {
                number: 0,
                family: Family::Thp,
                seed: 0,
                program: Program::default(),
                why,
            });
            let report = Report {
                programs,
                disturbed: disturbed.collect(),
                ..Report::default()
            };
            (report.is_disturbed(), report.is_unsteady())
        };
        assert_eq!(report(10, 1, 1), (false, false));
        assert_eq!(report(1_000, 10, 2), (false, true));
        assert_eq!(report(4_000, 41, 2), (true, false));
        assert_eq!(report(4_000, 40, 3), (false, true));
    }

    #[test]
    fn programs_count_in_their_order() {
        // The second worker is early with the later programs.
        let work = |number: usize, sender: &SyncSender<Ran>, _: &AtomicBool| {
            let numbers = if number == 0 { 0..2 } else { 2..4 };
            for next in numbers {
                sender.send(ran(next)).expect("somebody adds up");
            }
            Ok(())
        };
        let tally = side_by_side(2, &options(), Instant::now(), work).unwrap();
        assert_eq!(tally.report.programs, 4);
    }
}
