//! What runs side by side: each worker draws a program, runs it on the kernel in children of its own,
//! and holds the model against what it showed.
//!
//! A program is its number and nothing else: which worker runs it, and beside which other, changes
//! nothing. So what a run of so many steps shows does not depend on how many workers there are.

use std::sync::mpsc::SyncSender;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::watch::Work;
use super::{Checker, Coverage, Divergence, OracleError, Subject};
use crate::compare::Allowances;
use crate::generate::{self, Family, Random};
use crate::kernel::{Kernel, KernelError, PuppetError};
use crate::outcome::Outcome;
use crate::program::{HugePages, Program};

/// How long to wait for a pool that others use, and how often a program is run anew for it.
const POOL_WAIT: Duration = Duration::from_secs(2);
const POOL_TRIES: u32 = 3;

/// Programs, one after the other.
pub(super) struct Draw<'a> {
    families: &'a [Family],
    without: &'a [String],
    next: Mutex<(u64, Random)>,
}

/// A program with its number.
pub(super) struct Drawn {
    pub(super) number: u64,
    pub(super) family: Family,
    pub(super) seed: u64,
    pub(super) program: Program,
}

impl<'a> Draw<'a> {
    pub(super) fn new(seed: u64, families: &'a [Family], without: &'a [String]) -> Self {
        Self {
            families,
            without,
            next: Mutex::new((0, Random::new(seed))),
        }
    }

    fn next(&self) -> Drawn {
        let (number, family, seed) = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let (number, random) = &mut *next;
            let drawn = (*number, random.one_of(self.families), random.word());
            *number += 1;
            drawn
        };
        let mut program = generate::program(family, seed);
        let leaves = |name: &str| self.without.iter().any(|other| other == name);
        program.steps.retain(|step| !leaves(step.op.name()));
        Drawn {
            number,
            family,
            seed,
            program,
        }
    }
}

/// How a program ended.
pub(super) enum End {
    /// Both showed the same.
    Same,
    /// They part.
    Parted(Divergence),
    /// The kernel's side came to no end.
    Lost(KernelError),
    /// It names what no program may: it was not run.
    Refused,
    /// It uses the machine's huge pages, and could not be compared.
    Disturbed(Disturbance),
}

/// Why a program that uses huge pages was not compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Disturbance {
    /// Somebody else used them, each time that it was run.
    Pool,
    /// The two parted like this once, and did not when the program was run again: somebody used the pool
    /// unseen, or no memory lay together for a transparent huge page. Counted apart, as a mistake that
    /// shows at times only would look the same.
    Once(Divergence),
}

/// A program that was run.
pub(super) struct Ran {
    pub(super) drawn: Drawn,
    pub(super) end: End,
    pub(super) coverage: Coverage,
    pub(super) allowances: Allowances,
}

/// The machine's huge pages: one program at a time uses them, since each shows how many are left.
pub(super) struct Pool<'a> {
    subject: &'a Subject,
    lock: Mutex<()>,
}

impl<'a> Pool<'a> {
    pub(super) fn new(subject: &'a Subject) -> Self {
        Self {
            subject,
            lock: Mutex::new(()),
        }
    }

    fn take(&self) -> MutexGuard<'_, ()> {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until all the pages are there that the model knows of.
    fn is_whole_soon(&self) -> bool {
        const PAUSE: Duration = Duration::from_millis(20);
        let deadline = Instant::now() + POOL_WAIT;
        while !self.subject.has_whole_pool() {
            if Instant::now() > deadline {
                return false;
            }
            thread::sleep(PAUSE);
        }
        true
    }
}

/// One of those who run programs.
pub(super) struct Worker<'a> {
    pub(super) pool: &'a Pool<'a>,
    pub(super) work: &'a Work,
    kernel: Kernel,
    checker: Checker,
}

impl<'a> Worker<'a> {
    pub(super) fn new(pool: &'a Pool<'a>, work: &'a Work) -> Self {
        let subject = pool.subject;
        Self {
            pool,
            work,
            kernel: Kernel::new(subject.geometry),
            checker: Checker::new(subject.profile.clone(), subject.geometry),
        }
    }

    /// Runs programs until nobody wants more.
    ///
    /// # Errors
    ///
    /// Fails if no children can be made.
    pub(super) fn run(
        &mut self,
        draw: &Draw<'_>,
        sender: &SyncSender<Ran>,
        stop: impl Fn() -> bool,
    ) -> Result<(), OracleError> {
        while !stop() {
            let drawn = draw.next();
            let end = match self.try_out(&drawn.program) {
                End::Lost(why @ KernelError::Puppet(PuppetError::Start(_))) => {
                    return Err(OracleError::Kernel {
                        seed: drawn.seed,
                        family: drawn.family.name(),
                        why,
                    });
                }
                end => end,
            };
            let ran = Ran {
                drawn,
                end,
                coverage: std::mem::take(&mut self.checker.coverage),
                allowances: std::mem::take(&mut self.checker.allowances),
            };
            if sender.send(ran).is_err() {
                break;
            }
        }
        Ok(())
    }

    /// Runs a program on both sides.
    pub(super) fn try_out(&mut self, program: &Program) -> End {
        if !program.uses_pool() {
            return match self.once(program) {
                // A fault makes a small page where no memory lies together that is large enough.
                End::Parted(divergence) if self.had_huge_pages(program) => {
                    self.again(program, divergence)
                }
                end => end,
            };
        }
        // Another run of the oracle has them: it would be waited for in vain each time.
        if self.pool.subject.lacks_pool() {
            return End::Disturbed(Disturbance::Pool);
        }
        let _alone = self.pool.take();
        for _ in 0..POOL_TRIES {
            let before = self.pool.is_whole_soon();
            self.forget();
            let divergence = match self.once(program) {
                End::Parted(divergence) => Some(divergence),
                End::Same => None,
                other => return other,
            };
            if !before || !self.pool.is_whole_soon() {
                continue;
            }
            let Some(divergence) = divergence else {
                return End::Same;
            };
            // Pages that were taken and given back in between leave no trace: what parts does so
            // again.
            return self.again(program, divergence);
        }
        self.disturbed(Disturbance::Pool)
    }

    /// Whether a kernel may have had no huge page where the model had one.
    fn had_huge_pages(&self, program: &Program) -> bool {
        program.huge == HugePages::On && self.checker.had_huge_pages
    }

    /// Runs a program again that parted, to see whether it does so again.
    fn again(&mut self, program: &Program, divergence: Divergence) -> End {
        match self.once(program) {
            End::Parted(_) => End::Parted(divergence),
            // It was not compared: that it came to no end is told as such.
            lost @ End::Lost(_) => lost,
            _ => self.disturbed(Disturbance::Once(divergence)),
        }
    }

    fn disturbed(&mut self, why: Disturbance) -> End {
        self.forget();
        End::Disturbed(why)
    }

    /// What was counted for a program that does not count.
    fn forget(&mut self) {
        self.checker.coverage = Coverage::default();
        self.checker.allowances = Allowances::default();
    }

    fn once(&mut self, program: &Program) -> End {
        let outcomes: Vec<Outcome> = match self.kernel.run(program) {
            Ok(outcomes) => outcomes,
            Err(KernelError::Step { .. }) => return End::Refused,
            Err(why) => return End::Lost(why),
        };
        self.work.begin(program);
        let checked = self.checker.check(program, &outcomes);
        self.work.end();
        checked.map_or_else(End::Parted, |()| End::Same)
    }
}
