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
