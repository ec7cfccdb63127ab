//! Programs on the kernel alone, to see what they reach.

use super::{Coverage, Missed, OracleError, Subject, missed};
use crate::generate::{self, Family, Random};
use crate::kernel::{Kernel, KernelError};

/// Runs programs from a seed until all that the specification lists was reached, or for `steps`
/// steps. Returns what was reached, and what was not without a reason.
///
/// # Errors
///
/// Fails if the kernel's side does.
pub fn reach(
    subject: &Subject,
    seed: u64,
    steps: u64,
) -> Result<(Coverage, Vec<Missed>), OracleError> {
    /// How many programs go by before what was missed is looked at.
    const PROGRAMS: usize = 200;
    let families: Vec<Family> = Family::ALL
        .iter()
        .copied()
        .filter(|family| subject.can_run(*family))
        .collect();
    let mut kernel = Kernel::new(subject.geometry);
    let mut draw = Random::new(seed);
    let mut coverage = Coverage::default();
    loop {
        for _ in 0..PROGRAMS {
            let (family, seed) = (draw.one_of(&families), draw.word());
            let program = generate::program(family, seed);
            let outcomes = match kernel.run(&program) {
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
        let mut left = missed(&coverage, subject);
        left.retain(|one| one.reason.is_none());
        if left.is_empty() || coverage.steps() >= steps {
            return Ok((coverage, left));
        }
    }
}
