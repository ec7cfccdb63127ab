//! Programs: lists of memory operations, which run on a kernel and on the model.
//!
//! A program means the same on every page size, since it counts in pages; descriptors, processes
//! and userfaultfd contexts have numbers of the program's own. Its text form is for people:
//! `docs/mm/programs.md` describes it.

mod amount;
pub mod expect;
mod field;
mod flags;
mod op;
mod text;

pub use amount::{Address, Amount, Geometry};
pub use expect::Expect;
pub use field::{
    Byte, Closeable, Context, Field, FieldError, FileSlot, LaneSlot, MaybeFile, Number, Pipe, Ring,
};
pub use flags::{
    Advice, Categories, ContextFlags, ContinueMode, CopyMode, EventKind, FallocateMode, FaultFlags,
    Features, LockFlags, MapFlags, MemfdFlags, MoveMode, Prot, ProtectMode, RangeIoctls,
    RegisterMode, RemapFlags, ScanFlags, Seals, SpliceFlags, WakeMode,
};
pub use op::{Op, OpError};
pub use text::{LineError, TextError};

/// Whether a program's processes get transparent huge pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HugePages {
    /// Never, so that what a fault maps does not depend on the machine's memory.
    #[default]
    Off,
    /// Where the program advises them.
    On,
}

/// One operation of one lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Who carries it out.
    pub lane: LaneSlot,
    /// What.
    pub op: Op,
    /// What it should show, in programs that people write.
    pub expect: Expect,
}

impl Step {
    /// A step that expects nothing.
    pub fn new(lane: u8, op: Op) -> Self {
        Self {
            lane: LaneSlot(lane),
            op,
            expect: Expect::default(),
        }
    }

    /// Tells whether there is what the step needs, or whether it is left out: a lane that is there,
    /// and another that is not yet, where it makes one; addresses that steps returned.
    pub(crate) fn has_its_things(
        &self,
        is_there: impl Fn(LaneSlot) -> bool,
        chosen: &[Option<u64>],
    ) -> bool {
        let lanes = match self.op {
            Op::Fork { lane } | Op::Thread { lane } => lane.0 != 0 && !is_there(lane),
            Op::VmRead { lane, .. } | Op::VmWrite { lane, .. } => is_there(lane),
            _ => true,
        };
        let is_known = |step: u32| chosen.get(step as usize).is_some_and(Option::is_some);
        lanes && self.op.chosen().is_none_or(is_known)
    }
}

impl Program {
    /// Tells whether it uses huge pages of the machine's pool.
    pub fn uses_pool(&self) -> bool {
        let (map, memfd) = (MapFlags::of(&["hugetlb"]), MemfdFlags::of(&["hugetlb"]));
        self.steps.iter().any(|step| match step.op {
            Op::Mmap { flags, .. } => flags.0 & map.0 != 0,
            Op::Memfd { flags, .. } => flags.0 & memfd.0 != 0,
            _ => false,
        })
    }

    /// Takes steps out. The others still name the same steps.
    pub(crate) fn leave_out(&mut self, steps: std::ops::Range<usize>) {
        let number = |step: usize| u32::try_from(step).unwrap_or(u32::MAX);
        let (first, behind) = (number(steps.start), number(steps.end));
        self.steps.drain(steps);
        for step in &mut self.steps {
            step.op = step.op.map_addresses(|address| match address {
                // A step that is gone returns nothing any more.
                Address::Chosen(step, amount) if (first..behind).contains(&step) => {
                    Address::Chosen(u32::MAX, amount)
                }
                Address::Chosen(step, amount) if step >= behind && step != u32::MAX => {
                    Address::Chosen(step - (behind - first), amount)
                }
                other => other,
            });
        }
    }
}

/// A list of steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// How much of the arena is looked at after each step.
    pub window: Amount,
    /// Whether there are transparent huge pages.
    pub huge: HugePages,
    /// What the kernel must have, by name; with `!`, must not have.
    pub needs: Vec<String>,
    /// The steps, in order.
    pub steps: Vec<Step>,
}

impl Default for Program {
    fn default() -> Self {
        Self {
            window: Amount::pages(64),
            huge: HugePages::Off,
            needs: Vec::new(),
            steps: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_uses_the_pool_is_known() {
        let uses = |line: &str| {
            let program: Program = format!("onionskin program 1\n{line}\n").parse().unwrap();
            program.uses_pool()
        };
        assert!(uses("memfd f0 sealing|hugetlb"));
        assert!(uses("mmap @0 1p r private|anon|hugetlb - 0"));
        assert!(!uses("mmap @0 1p r private|anon - 0"));
    }
}
