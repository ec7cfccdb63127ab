//! Lanes that go on: whose turn it is, where a step lets several of them.
//!
//! The scheduler chooses, and what they do to the same memory shows who came first. Unless it is told
//! otherwise, the model takes the one first that fell asleep last, as a wait queue does, and notes each
//! choice, so that another order can be tried.

use sys::puppet::LANES;

use super::{Lane, Model};
use crate::outcome::{Answer, Output};

/// A choice among lanes that can go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// The step that let them go on.
    pub step: usize,
    /// How many there were.
    pub among: usize,
    /// Which one came first: 0 is the one that fell asleep last.
    pub taken: usize,
}

/// The choices of a run: those that it was told, and those that it made.
#[derive(Clone, Debug, Default)]
pub(super) struct Turns {
    told: Vec<usize>,
    pub(super) made: Vec<Turn>,
}

impl Turns {
    pub(super) fn told(told: Vec<usize>) -> Self {
        Self {
            told,
            made: Vec::new(),
        }
    }

    fn take(&mut self, step: usize, among: usize) -> usize {
        if among == 1 {
            return 0;
        }
        let told = self.told.get(self.made.len()).copied().unwrap_or(0);
        let taken = told.min(among - 1);
        self.made.push(Turn { step, among, taken });
        taken
    }
}

impl Model {
    /// Has lanes that slept go on, one after the other, until none can.
    pub(super) fn wake(&mut self, now: usize) -> Vec<(u8, Answer, Vec<Output>)> {
        let mut woken = Vec::new();
        // Lanes that went on and sleep again. When another one ends, it may have let go of what they
        // wait for.
        let mut again = [false; LANES];
        loop {
            let lanes = (0..LANES).filter(|&lane| !again[lane] && self.can_go_on(lane, now));
            let mut able: Vec<usize> = lanes.collect();
            able.sort_by_key(|&lane| std::cmp::Reverse(self.ticket(lane)));
            if able.is_empty() {
                return woken;
            }
            let lane = able[self.turns.take(now, able.len())];
            let Lane::Asleep { tid, step, op, .. } = self.lanes[lane].clone() else {
                unreachable!("only lanes that sleep can go on");
            };
            self.lanes[lane] = Lane::Ready(tid);
            let shown = self.carry_out(tid, &op, None);
            let outcome = self.outcome(lane, step, &op, shown);
            if outcome.answer == Answer::Blocked {
                again[lane] = true;
            } else {
                again = [false; LANES];
                let lane = u8::try_from(lane).expect("lanes are few");
                woken.push((lane, outcome.answer, outcome.outputs));
            }
        }
    }

    /// What a lane waits for, in the order in which waits began.
    fn ticket(&self, lane: usize) -> u64 {
        match &self.lanes[lane] {
            Lane::Asleep { wait, .. } => wait.ticket,
            _ => 0,
        }
    }

    fn can_go_on(&self, lane: usize, now: usize) -> bool {
        match &self.lanes[lane] {
            Lane::Asleep { step, wait, .. } => *step != now && !self.machine.is_blocked(*wait),
            _ => false,
        }
    }
}
