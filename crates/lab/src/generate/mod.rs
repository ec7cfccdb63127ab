//! Makes random programs that go where it is interesting: ranges that overlap mappings and their
//! boundaries, every call with right and sometimes wrong arguments, files, forks, several
//! userfaultfds.
//!
//! A [`Family`] decides which operations there are and how often. The generator keeps a rough
//! belief of the program's state, so that most steps do something.

mod files;
mod memory;
mod pick;
mod process;
mod random;
mod state;
mod userfault;

pub use random::Random;

use crate::program::{Amount, HugePages, LaneSlot, Op, Program, Step};
use state::{ContextState, FileState, LaneState, Stray};

/// What a program is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// Mappings of one process: anonymous memory and files.
    Mapping,
    /// One process with userfaultfds whose faults are signals or resolve themselves.
    Userfault,
    /// Processes that fork.
    Fork,
    /// Processes that fork, with userfaultfds.
    ForkUserfault,
    /// Pipes, rings and other processes that hold or move pages.
    Pin,
    /// Huge pages from the pool.
    Hugetlb,
    /// Transparent huge pages.
    Thp,
    /// Threads that wait for a handler.
    Handler,
}

impl Family {
    /// Every family.
    pub const ALL: &'static [Self] = &[
        Self::Mapping,
        Self::Userfault,
        Self::Fork,
        Self::ForkUserfault,
        Self::Pin,
        Self::Hugetlb,
        Self::Thp,
        Self::Handler,
    ];

    /// Its name, as on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mapping => "mapping",
            Self::Userfault => "userfault",
            Self::Fork => "fork",
            Self::ForkUserfault => "fork-userfault",
            Self::Pin => "pin",
            Self::Hugetlb => "hugetlb",
            Self::Thp => "thp",
            Self::Handler => "handler",
        }
    }

    /// The family of this name.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|family| family.name() == name)
    }

    /// Whether it counts as the single-process family, for speed.
    pub fn is_single(self) -> bool {
        matches!(self, Self::Mapping | Self::Userfault)
    }

    fn has_userfaults(self) -> bool {
        !matches!(self, Self::Mapping | Self::Fork)
    }

    fn has_forks(self) -> bool {
        matches!(self, Self::Fork | Self::ForkUserfault | Self::Pin)
    }
}

/// Makes a program of a family from a seed.
pub fn program(family: Family, seed: u64) -> Program {
    Maker::new(family, Random::new(seed)).program()
}

/// A program in the making.
struct Maker {
    family: Family,
    random: Random,
    /// The window, in pages.
    window: i64,
    /// The pages that most ranges are multiples of: 1, or those of a huge page.
    unit: i64,
    lanes: Vec<LaneState>,
    /// The lane that goes on.
    lane: usize,
    contexts: Vec<ContextState>,
    files: Vec<FileState>,
    pipes: u8,
    rings: u8,
    /// Whether there has been a private mapping of a file.
    private_file: bool,
    /// Mappings that the kernel placed.
    strays: Vec<Stray>,
    /// How many of a hundred arguments are wrong on purpose.
    wrong: u64,
    /// Steps that come before anything else.
    queue: Vec<Op>,
}

/// Base pages of a huge page, where programs count on one.
const HUGE: i64 = 512;

impl Maker {
    fn new(family: Family, mut random: Random) -> Self {
        let (window, unit) = match family {
            Family::Hugetlb => (4 * HUGE, HUGE),
            Family::Thp => (3 * HUGE, HUGE),
            Family::Handler => (24, 1),
            _ => (random.one_of(&[16, 32, 32, 64]), 1),
        };
        let mut lanes = vec![LaneState::default(); 5];
        lanes[0].alive = true;
        let wrong = random.one_of(&[0, 2, 5, 10]);
        Self {
            family,
            random,
            window,
            unit,
            lanes,
            lane: 0,
            contexts: Vec::new(),
            files: Vec::new(),
            pipes: 0,
            rings: 0,
            private_file: false,
            strays: Vec::new(),
            wrong,
            queue: Vec::new(),
        }
    }

    fn program(mut self) -> Program {
        let huge = self.family == Family::Thp;
        let mut program = Program {
            window: if self.unit > 1 {
                Amount::huge(self.window / HUGE)
            } else {
                Amount::pages(self.window)
            },
            huge: if huge { HugePages::On } else { HugePages::Off },
            ..Program::default()
        };
        let steps = match self.family {
            Family::Mapping | Family::Userfault => self.random.between(60, 200),
            Family::Hugetlb | Family::Thp => self.random.between(20, 60),
            _ => self.random.between(30, 90),
        };
        self.open();
        while i64::try_from(program.steps.len()).is_ok_and(|len| len < steps) {
            if self.queue.is_empty() {
                self.choose_lane();
            }
            let op = if self.queue.is_empty() {
                let op = self.op();
                self.aim_at_stray(op)
            } else {
                self.queue.remove(0)
            };
            self.note_stray(&op, program.steps.len());
            let lane = u8::try_from(self.lane).expect("lanes are few");
            program.steps.push(Step::new(lane, op));
            self.follow(&op);
        }
        let alive = (0..self.lanes.len()).filter(|&lane| self.lanes[lane].alive);
        for lane in alive {
            let lane = u8::try_from(lane).expect("lanes are few");
            program.steps.push(Step {
                lane: LaneSlot(lane),
                ..Step::new(lane, Op::Look {})
            });
        }
        program
    }

    /// What a program begins with.
    fn open(&mut self) {
        if self.family == Family::Handler {
            self.open_handler();
        }
        let mappings = self.random.between(1, 3);
        for _ in 0..mappings {
            let op = self.mmap();
            self.queue.push(op);
        }
        if self.family.has_userfaults() && self.family != Family::Handler {
            self.new_context();
        }
    }

    fn choose_lane(&mut self) {
        let alive: Vec<usize> = (0..self.lanes.len())
            .filter(|&lane| self.lanes[lane].alive)
            .collect();
        let here = self.lanes[self.lane].alive;
        if !here || (alive.len() > 1 && self.random.chance(30)) {
            self.lane = self.random.one_of(&alive);
        }
    }

    /// Makes one operation.
    fn op(&mut self) -> Op {
        type Make = fn(&mut Maker) -> Op;
        let userfaults = if self.family.has_userfaults() { 1 } else { 0 };
        let forks = if self.family.has_forks() { 1 } else { 0 };
        let pins = if self.family == Family::Pin { 1 } else { 0 };
        let choices: &[(u64, Make)] = &[
            (24, Self::access),
            (30, Self::mapping),
            (12, Self::file),
            (30 * userfaults, Self::userfault),
            (6, Self::readout),
            (9 * forks, Self::process),
            (1, Self::clear_refs),
            (4 + 20 * pins, Self::transfer),
        ];
        let make = self.random.weighted(choices);
        make(self)
    }

    /// Notes what an operation will probably have done.
    fn follow(&mut self, op: &Op) {
        self.follow_memory(op);
        self.follow_process(op);
    }

    /// The context's state, if there is one.
    fn some_context(&mut self) -> Option<ContextState> {
        if self.contexts.is_empty() {
            None
        } else {
            Some(self.random.one_of(&self.contexts))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_makes_programs_that_can_be_read_back() {
        for &family in Family::ALL {
            for seed in 0..40 {
                let made = program(family, seed);
                let read: Program = made.to_string().parse().unwrap();
                assert_eq!(read, made, "{} {seed}", family.name());
                assert_eq!(program(family, seed), made);
            }
            assert_eq!(Family::of(family.name()), Some(family));
        }
    }
}
