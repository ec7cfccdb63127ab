//! Runs programs on the live kernel, in child processes that obey.
//!
//! [`Kernel`] keeps one puppet for many programs: after each, the arena is unmapped and all
//! descriptors are closed. A puppet that was left in doubt is replaced.

mod compile;
mod decode;
mod run;
mod uapi;

use std::time::Duration;

use sys::puppet::{Arena, Arg, HugePages as Huge, Puppet, PuppetOptions};
use sys::puppet::{Script, ScriptError, Span, System};

pub use compile::CompileError;
pub use sys::puppet::PuppetError;

use crate::outcome::Outcome;
use crate::program::{Geometry, HugePages, Program};

/// How many programs a puppet runs before it is replaced.
const PROGRAMS_PER_PUPPET: u32 = 256;

/// How long a batch may take: it takes milliseconds, on a busy machine a few hundred. A command
/// that does not end is found earlier, by the time that it uses.
const PATIENCE: Duration = Duration::from_secs(20);

/// Why a program could not be run.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The child process failed.
    #[error("{0}")]
    Puppet(#[from] PuppetError),
    /// The program's end could not be cleaned up.
    #[error("{0}")]
    Script(#[from] ScriptError),
    /// A step asks for what a program may not do.
    #[error("step {step}: {why}")]
    Step {
        /// The step's number, from 0.
        step: usize,
        /// What is wrong with it.
        why: CompileError,
    },
}

/// The live kernel.
#[derive(Debug)]
pub struct Kernel {
    geometry: Geometry,
    puppet: Option<Puppet>,
    /// How many programs the puppet has run.
    programs: u32,
}

impl Kernel {
    /// Makes ready to run programs.
    pub fn new(geometry: Geometry) -> Self {
        Self {
            geometry,
            puppet: None,
            programs: 0,
        }
    }

    /// Runs a program, and returns what each step showed.
    ///
    /// # Errors
    ///
    /// Fails if a step asks for what a program may not do, or if the child process fails.
    pub fn run(&mut self, program: &Program) -> Result<Vec<Outcome>, KernelError> {
        let puppet = match self.puppet.take() {
            Some(puppet) if self.programs < PROGRAMS_PER_PUPPET => puppet,
            _ => {
                self.programs = 0;
                Puppet::start(PuppetOptions { patience: PATIENCE })?
            }
        };
        self.programs += 1;
        let mut script = puppet.script();
        let wish = match program.huge {
            HugePages::Off => Huge::Off,
            HugePages::On => Huge::On,
        };
        script.huge_pages(wish)?;
        puppet.run(0, &script)?;
        script.clear();
        let mut run = run::Run::new(&puppet, &mut script, self.geometry, program);
        let outcomes = run.all_steps();
        let chosen = run.chosen_spans();
        let clean = run.is_clean() && outcomes.is_ok();
        // One that can't be cleaned up ends here: what it showed is known.
        if clean && reset(&puppet, &mut script, &chosen).is_ok() {
            self.puppet = Some(puppet);
        }
        outcomes
    }
}

/// Takes away all that a program left behind.
fn reset(puppet: &Puppet, script: &mut Script, chosen: &[Span]) -> Result<(), KernelError> {
    puppet.end_forks();
    script.clear();
    script.choose(chosen);
    let first = sys::puppet::FIRST_SLOT;
    let all = [first, u64::from(u32::MAX), 0].map(Arg::Value);
    script.call(System::CloseRange, &all)?;
    let arena = [Arena::START, Arena::END - Arena::START].map(Arg::Value);
    script.call(System::Munmap, &arena)?;
    for span in chosen {
        script.call(System::Munmap, &[span.start, span.len].map(Arg::Value))?;
    }
    puppet.run(0, script)?;
    Ok(())
}
