//! Programs on the kernel alone, to see what they reach.

use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use super::{Coverage, Missed, OracleError, Subject, missed};
use crate::generate::{self, Family, Random};
use crate::kernel::{Kernel, KernelError};

/// Runs programs from a seed, side by side on each processor, until all that the specification lists
/// was reached, or for `steps` steps. Returns what was reached, and what was not without a reason.
///
/// # Errors
///
/// Fails if the kernel's side does.
///
/// # Panics
///
/// Panics if a thread does: a mistake in here.
pub fn reach(
    subject: &Subject,
    seed: u64,
    steps: u64,
) -> Result<(Coverage, Vec<Missed>), OracleError> {
    let families: Vec<Family> = Family::ALL
        .iter()
        .copied()
        .filter(|family| subject.can_run(*family))
        .collect();
    let count = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let mut draw = Random::new(seed);
    let draws: Vec<Random> = (0..count).map(|_| Random::new(draw.word())).collect();
    let (pool, reached) = (Mutex::new(()), Mutex::new(Coverage::default()));
    let left = || {
        let reached = lock(&reached);
        let mut left = missed(&reached, subject);
        left.retain(|one| one.reason.is_none());
        (reached.steps() >= steps, left)
    };
    let families = &families[..];
    let search = |draw: Random| -> Result<(), OracleError> {
        // Its children end when this thread does.
        let mut searcher = Searcher {
            families,
            pool: &pool,
            kernel: Kernel::new(subject.geometry),
            draw,
        };
        loop {
            let found = searcher.search()?;
            lock(&reached).add(&found);
            let (over, left) = left();
            if over || left.is_empty() {
                return Ok(());
            }
        }
    };
    thread::scope(|scope| {
        let search = &search;
        let threads: Vec<_> = draws
            .into_iter()
            .map(|draw| scope.spawn(move || search(draw)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("a searcher does not panic"))
            .collect::<Result<Vec<()>, OracleError>>()
    })?;
    let (_, left) = left();
    Ok((
        reached.into_inner().unwrap_or_else(PoisonError::into_inner),
        left,
    ))
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One of those who run programs.
struct Searcher<'a> {
    families: &'a [Family],
    /// The machine's huge pages are few: one program at a time uses them.
    pool: &'a Mutex<()>,
    kernel: Kernel,
    draw: Random,
}

impl Searcher<'_> {
    /// Runs some programs, and returns what they reached.
    fn search(&mut self) -> Result<Coverage, OracleError> {
        /// How many programs go by before what was missed is looked at.
        const PROGRAMS: usize = 100;
        let mut coverage = Coverage::default();
        for _ in 0..PROGRAMS {
            let (family, seed) = (self.draw.one_of(self.families), self.draw.word());
            let program = generate::program(family, seed);
            let _alone = program.uses_pool().then(|| lock(self.pool));
            let outcomes = match self.kernel.run(&program) {
                Ok(outcomes) => outcomes,
                // Made by chance: it names what no program may.
                Err(KernelError::Step { .. }) => continue,
                Err(why) => {
                    let family = family.name();
                    return Err(OracleError::Kernel { seed, family, why });
                }
            };
            for (step, seen) in program.steps.iter().zip(&outcomes) {
                coverage.note(&step.op, seen.answer);
            }
        }
        Ok(coverage)
    }
}
