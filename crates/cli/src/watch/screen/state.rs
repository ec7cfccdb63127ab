//! What the live view shows, without a terminal.

use std::cmp::Reverse;
use std::time::Duration;

use onionskin::report::{MappingActivity, WatchInterval};

/// How many rates are kept for the curve.
const RATES_MAX: usize = 512;

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Go on.
    Go,
    /// The user has seen enough.
    Quit,
}

/// The order of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    /// The busiest first.
    Rate,
    /// The largest in memory first.
    Resident,
    /// The largest first.
    Size,
    /// Low addresses first.
    Address,
}

impl Sort {
    /// Returns its name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Resident => "resident",
            Self::Size => "size",
            Self::Address => "address",
        }
    }
}

/// What the live view shows.
#[derive(Debug)]
pub(super) struct State {
    /// The process.
    pub(super) pid: u32,
    /// The time between two looks.
    pub(super) interval: Duration,
    shown: Option<WatchInterval>,
    held: Option<WatchInterval>,
    paused: bool,
    sort: Sort,
    rates: Vec<f64>,
    selected: usize,
}

impl State {
    /// Starts with nothing seen.
    pub(super) fn new(pid: u32, interval: Duration) -> Self {
        Self {
            pid,
            interval,
            shown: None,
            held: None,
            paused: false,
            sort: Sort::Rate,
            rates: Vec::new(),
            selected: 0,
        }
    }

    /// Takes an interval in. While the view is paused, only the curve moves on.
    pub(super) fn add(&mut self, interval: WatchInterval) {
        if self.rates.len() == RATES_MAX {
            self.rates.remove(0);
        }
        self.rates.push(interval.written_bytes_per_s);
        if self.paused {
            self.held = Some(interval);
        } else {
            self.show(interval);
        }
    }

    fn show(&mut self, interval: WatchInterval) {
        self.shown = Some(interval);
        self.order();
        self.scroll(0);
    }

    fn order(&mut self) {
        let Some(interval) = &mut self.shown else {
            return;
        };
        let mappings = &mut interval.mappings;
        match self.sort {
            Sort::Rate => mappings.sort_by_key(|m| (Reverse(m.written_pages), m.range)),
            Sort::Resident => mappings.sort_by_key(|m| (Reverse(m.resident_bytes), m.range)),
            Sort::Size => mappings.sort_by_key(|m| (Reverse(m.size_bytes), m.range)),
            Sort::Address => mappings.sort_by_key(|m| m.range),
        }
    }

    /// Returns what to show, the mappings in order.
    pub(super) fn shown(&self) -> Option<&WatchInterval> {
        self.shown.as_ref()
    }

    /// Returns the mappings to show, in order.
    pub(super) fn mappings(&self) -> &[MappingActivity] {
        self.shown
            .as_ref()
            .map_or(&[], |interval| &interval.mappings)
    }

    /// Returns the rates of the last intervals, in bytes per second.
    pub(super) fn rates(&self) -> &[f64] {
        &self.rates
    }

    /// Returns the order of the table.
    pub(super) fn sort(&self) -> Sort {
        self.sort
    }

    /// Tells whether the view stands still.
    pub(super) fn paused(&self) -> bool {
        self.paused
    }

    /// Returns the index of the mapping that is marked.
    pub(super) fn selected(&self) -> usize {
        self.selected
    }

    /// Takes the next order.
    pub(super) fn sort_next(&mut self) {
        self.sort = match self.sort {
            Sort::Rate => Sort::Resident,
            Sort::Resident => Sort::Size,
            Sort::Size => Sort::Address,
            Sort::Address => Sort::Rate,
        };
        self.order();
    }

    /// Stops or goes on.
    pub(super) fn pause(&mut self) {
        self.paused = !self.paused;
        if !self.paused
            && let Some(held) = self.held.take()
        {
            self.show(held);
        }
    }

    /// Moves the mark by so many lines.
    pub(super) fn scroll(&mut self, lines: isize) {
        let last = self.mappings().len().saturating_sub(1);
        self.selected = self.selected.saturating_add_signed(lines).min(last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::fake::Process;

    fn state() -> (State, Process) {
        let mut process = Process::new(8);
        let mut state = State::new(4711, Duration::from_secs(1));
        state.add(process.interval());
        (state, process)
    }

    #[test]
    fn a_pause_holds_the_table_but_not_the_curve() {
        let (mut state, mut process) = state();
        state.pause();
        state.add(process.interval());
        state.add(process.interval());
        assert_eq!(state.shown().map(|i| i.t_ms), Some(1000.0));
        assert_eq!(state.rates().len(), 3);
        state.pause();
        assert_eq!(state.shown().map(|i| i.t_ms), Some(3000.0));
    }

    #[test]
    fn every_order_is_reached_and_holds() {
        let (mut state, _) = state();
        let mut seen = Vec::new();
        for _ in 0..4 {
            seen.push(state.sort().name());
            let mappings = state.mappings();
            assert!(mappings.windows(2).all(|pair| match state.sort() {
                Sort::Rate => pair[0].written_pages >= pair[1].written_pages,
                Sort::Resident => pair[0].resident_bytes >= pair[1].resident_bytes,
                Sort::Size => pair[0].size_bytes >= pair[1].size_bytes,
                Sort::Address => pair[0].range < pair[1].range,
            }));
            state.sort_next();
        }
        assert_eq!(seen, ["rate", "resident", "size", "address"]);
        assert_eq!(state.sort(), Sort::Rate);
    }

    #[test]
    fn the_mark_stays_on_the_table() {
        let (mut state, _) = state();
        state.scroll(3);
        assert_eq!(state.selected(), 3);
        state.scroll(isize::MAX);
        assert_eq!(state.selected(), 7);
        state.scroll(isize::MIN);
        assert_eq!(state.selected(), 0);
    }
}
