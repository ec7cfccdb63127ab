//! Attempts to follow the kernel through a program.
//!
//! Which of several lanes came first can only be told from what is seen later, perhaps much later. So the
//! model takes them in an order of its own, and where it parts from the kernel, another one is tried: of
//! the nearest choice first. An order that leads further is kept.

use super::{Coverage, Divergence};
use crate::compare::Allowances;
use crate::model::Turn;

/// How many orders are tried for one program.
const TRIES_MAX: usize = 200;

/// How one attempt went.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) ended: Result<(), Divergence>,
    /// The choices among lanes, in order.
    pub(super) turns: Vec<Turn>,
    /// Whether the model ever had a huge page.
    pub(super) had_huge_pages: bool,
    pub(super) coverage: Coverage,
    pub(super) allowances: Allowances,
}

impl Default for Attempt {
    fn default() -> Self {
        Self {
            ended: Ok(()),
            turns: Vec::new(),
            had_huge_pages: false,
            coverage: Coverage::default(),
            allowances: Allowances::default(),
        }
    }
}

impl Attempt {
    /// How far it came, if it parted.
    fn parted_at(&self) -> Option<usize> {
        self.ended.as_ref().err().map(|divergence| divergence.step)
    }

    /// How many choices were not those that the model makes by itself.
    pub(super) fn out_of_order(&self) -> u64 {
        let others = self.turns.iter().filter(|turn| turn.taken != 0);
        others.map(|_| 1).sum()
    }

    /// The choices that differ from this attempt's in one, the nearest first.
    fn others(&self) -> impl Iterator<Item = Vec<usize>> {
        let until = self.parted_at().unwrap_or(0);
        let turns = self.turns.iter().enumerate().rev();
        let turns = turns.filter(move |(_, turn)| turn.step <= until);
        turns.flat_map(move |(at, turn)| {
            let others = (0..turn.among).filter(|other| *other != turn.taken);
            others.map(move |other| {
                let mut told: Vec<usize> = self.turns.iter().map(|turn| turn.taken).collect();
                told[at] = other;
                told
            })
        })
    }
}

/// Makes attempts, each told which lanes come first, until one agrees with the kernel or no other order
/// leads further.
pub(super) fn furthest(mut attempt: impl FnMut(Vec<usize>) -> Attempt) -> Attempt {
    let mut best = attempt(Vec::new());
    let mut tries = 0;
    while let Some(parted) = best.parted_at() {
        let left = TRIES_MAX - tries;
        let further = best.others().take(left).find_map(|told| {
            tries += 1;
            let other = attempt(told);
            other
                .parted_at()
                .is_none_or(|step| step > parted)
                .then_some(other)
        });
        match further {
            Some(further) => best = further,
            None => break,
        }
    }
    best
}
