//! What things cost, as measured, and the freeze that follows from it.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use space::{ByteLen, PageCount, PageSize};

/// Measured costs. They start from rough values of a small machine and follow each measurement.
///
/// What was measured on a bad day would keep us from ever measuring it again. So a cost that something
/// was refused or avoided for, and that is above the value it started from, fades with each time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Costs {
    /// Stopping all tasks.
    pub stop: Duration,
    /// Letting all tasks run again.
    pub resume: Duration,
    /// Reading the registers of all tasks.
    pub registers: Duration,
    /// What a look costs however small the memory is.
    pub look: Duration,
    /// Scanning one present page, in nanoseconds.
    pub scan_page_ns: f64,
    /// Copying one byte in the freeze, in nanoseconds.
    pub copy_byte_ns: f64,
    /// Reading one byte while the target runs and handing it on, in nanoseconds.
    pub pump_byte_ns: f64,
    /// Forking, for one present private page, in nanoseconds.
    pub fork_page_ns: f64,
}

impl Costs {
    /// Returns the values to start from: 16 ms to fork a GiB, 1 ms to scan it, a copy at 4 GiB/s in
    /// the freeze, and at 1 GiB/s before it.
    pub fn new(page_size: PageSize) -> Self {
        let pages_of_gib = exact(1 << 30) / exact(page_size.bytes());
        Self {
            stop: Duration::from_micros(200),
            resume: Duration::from_micros(100),
            registers: Duration::from_micros(100),
            look: Duration::from_micros(200),
            scan_page_ns: 1e6 / pages_of_gib,
            copy_byte_ns: 0.25,
            pump_byte_ns: 1.0,
            fork_page_ns: 16e6 / pages_of_gib,
        }
    }

    /// Forecasts the freeze of each strategy for what a look found.
    pub fn forecast(&self, load: &Load) -> Forecast {
        let around = self.before_choice(load) + self.resume;
        let all = load.changed.0 + load.volatile.0;
        Forecast {
            precopy: around + self.copying(ByteLen(all)),
            fork: around + self.forking(load) + self.copying(load.volatile),
            freeze: around + self.copying(ByteLen(load.total.0 + load.volatile.0)),
        }
    }

    /// How long it takes to stop all tasks and to look at their memory: what a freeze begins with,
    /// whichever way it goes on.
    pub(crate) fn before_choice(&self, load: &Load) -> Duration {
        self.stop + self.looking(load)
    }

    fn looking(&self, load: &Load) -> Duration {
        self.look + nanos(self.scan_page_ns * exact(load.present.0))
    }

    /// How long a round takes that reads so much: it arms, reads, and is followed by a look.
    pub(crate) fn round(&self, bytes: ByteLen, load: &Load) -> Duration {
        2 * self.looking(load) + nanos(self.pump_byte_ns * exact(bytes.0))
    }

    /// How long it takes to copy that much in the freeze, registers read beside it.
    pub(crate) fn copying(&self, bytes: ByteLen) -> Duration {
        nanos(self.copy_byte_ns * exact(bytes.0)).max(self.registers)
    }

    /// How long a fork takes.
    pub(crate) fn forking(&self, load: &Load) -> Duration {
        nanos(self.fork_page_ns * exact(load.forked.0))
    }

    pub(crate) fn stopped(&mut self, took: Duration) {
        self.stop = (self.stop + took) / 2;
    }

    pub(crate) fn resumed(&mut self, took: Duration) {
        // One that had to wait for a processor says little of the next.
        self.resume = (self.resume + took.min(2 * self.resume)) / 2;
    }

    /// Takes note that there could have been a fork, and was none, because of what one is thought to
    /// cost. It is believed for longer where something else was done instead.
    pub(crate) fn fork_untried(&mut self, page_size: PageSize, instead: Instead) {
        let usual = Self::new(page_size).fork_page_ns;
        let kept = match instead {
            Instead::Copied => 15.0 / 16.0,
            Instead::Nothing => KEPT,
        };
        fade_rate(&mut self.fork_page_ns, usual, kept);
    }

    /// Takes note that a snapshot was refused because of what it is thought to cost.
    pub(crate) fn refused(&mut self, page_size: PageSize) {
        let Self {
            stop,
            resume,
            registers,
            look,
            scan_page_ns,
            copy_byte_ns,
            pump_byte_ns,
            fork_page_ns,
        } = Self::new(page_size);
        fade(&mut self.stop, stop);
        fade(&mut self.resume, resume);
        fade(&mut self.registers, registers);
        fade(&mut self.look, look);
        fade_rate(&mut self.scan_page_ns, scan_page_ns, KEPT);
        fade_rate(&mut self.copy_byte_ns, copy_byte_ns, KEPT);
        fade_rate(&mut self.pump_byte_ns, pump_byte_ns, KEPT);
        fade_rate(&mut self.fork_page_ns, fork_page_ns, KEPT);
    }

    pub(crate) fn registers_read(&mut self, took: Duration) {
        self.registers = (self.registers + took) / 2;
    }

    pub(crate) fn looked(&mut self, pages: PageCount, took: Duration) {
        let rest = took.saturating_sub(self.look);
        follow(&mut self.scan_page_ns, rest, exact(pages.0), 5000.0, DEARER);
    }

    pub(crate) fn copied(&mut self, bytes: ByteLen, took: Duration) {
        follow(&mut self.copy_byte_ns, took, exact(bytes.0), 250e3, DEARER);
    }

    /// Takes over what copying a sample took: unlike a copy in a freeze, it had nothing to wait for,
    /// and there is no other measurement to hold it against.
    pub(crate) fn sampled(&mut self, bytes: ByteLen, took: Duration) {
        const ENOUGH: u64 = 1 << 20;
        if bytes.0 >= ENOUGH {
            self.copy_byte_ns = took.as_secs_f64() * 1e9 / exact(bytes.0);
        }
    }

    pub(crate) fn pumped(&mut self, bytes: ByteLen, took: Duration) {
        follow(&mut self.pump_byte_ns, took, exact(bytes.0), 4e6, DEARER);
    }

    pub(crate) fn forked(&mut self, pages: PageCount, took: Duration) {
        // A fork that is too long can't be given up: it should not be tried again soon.
        follow(&mut self.fork_page_ns, took, exact(pages.0), 1000.0, 4.0);
    }
}

/// One slow measurement on a busy machine does not count as more than so many times as dear.
const DEARER: f64 = 1.5;

/// Moves a rate half way to a measurement; one of fewer than `enough` units says too little.
fn follow(rate: &mut f64, took: Duration, units: f64, enough: f64, dearer: f64) {
    if units >= enough {
        let measured = took.as_secs_f64() * 1e9 / units;
        *rate = f64::midpoint(*rate, measured.min(*rate * dearer));
    }
}

/// What is left of a cost for which a snapshot was refused.
const KEPT: f64 = 0.75;

/// Lowers a cost, but not below the usual one.
fn fade(cost: &mut Duration, usual: Duration) {
    *cost = (*cost).min(usual.max(cost.mul_f64(KEPT)));
}

/// As [`fade`], to so much of it.
fn fade_rate(rate: &mut f64, usual: f64, kept: f64) {
    *rate = rate.min(usual.max(*rate * kept));
}

/// What was done where a fork was not tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Instead {
    /// All was copied, and the snapshot taken.
    Copied,
    /// There is no snapshot.
    Nothing,
}

fn nanos(ns: f64) -> Duration {
    Duration::try_from_secs_f64(ns / 1e9).unwrap_or(Duration::MAX / 4)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a forecast needs no more than 53 bits"
)]
fn exact(count: u64) -> f64 {
    count as f64
}

/// What a freeze would have to deal with, as a look found it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// Pages in the page tables, of all that is selected.
    pub present: PageCount,
    /// Pages that a fork would have to account for.
    pub forked: PageCount,
    /// Bytes that changed since they were copied, and that a forked child would carry.
    pub changed: ByteLen,
    /// Bytes to be copied in the freeze whatever the strategy.
    pub volatile: ByteLen,
    /// Bytes of all selected pages that a forked child would carry, changed or not.
    pub total: ByteLen,
}

/// How long a freeze is expected to take, by strategy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forecast {
    /// With [`Strategy::Precopy`](super::Strategy::Precopy), after the last round.
    pub precopy: Duration,
    /// With [`Strategy::Fork`](super::Strategy::Fork).
    pub fork: Duration,
    /// With [`Strategy::Freeze`](super::Strategy::Freeze).
    pub freeze: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> PageSize {
        PageSize::new(4096).unwrap()
    }

    #[test]
    fn a_quiet_target_favours_precopy_and_a_busy_one_fork() {
        let costs = Costs::new(page());
        let quiet = Load {
            present: PageCount(524_288),
            forked: PageCount(524_288),
            changed: ByteLen(20 << 20),
            volatile: ByteLen(0),
            total: ByteLen(2 << 30),
        };
        let forecast = costs.forecast(&quiet);
        assert!(forecast.precopy < forecast.fork);
        assert!(forecast.fork < forecast.freeze);
        let busy = Load {
            changed: ByteLen(1 << 30),
            ..quiet
        };
        let forecast = costs.forecast(&busy);
        assert!(forecast.fork < forecast.precopy);
    }

    #[test]
    fn the_end_of_a_freeze_counts_and_one_hiccup_hardly_does() {
        let mut costs = Costs::new(page());
        let before = costs.forecast(&Load::default());
        costs.resumed(Duration::from_secs(1));
        let after = costs.forecast(&Load::default());
        assert!(after.precopy > before.precopy);
        assert!(after.precopy < 2 * before.precopy);
    }

    #[test]
    fn what_is_refused_looks_less_dear_in_time_and_no_cheaper_than_usual() {
        let usual = Costs::new(page());
        let times = |by: u32| Costs {
            stop: usual.stop * by,
            resume: usual.resume * by,
            registers: usual.registers * by,
            look: usual.look * by,
            scan_page_ns: usual.scan_page_ns * f64::from(by),
            copy_byte_ns: usual.copy_byte_ns * f64::from(by),
            pump_byte_ns: usual.pump_byte_ns * f64::from(by),
            fork_page_ns: usual.fork_page_ns * f64::from(by),
        };
        for (by, refusals) in [(1, 0), (2, 3), (10, 9), (1000, 25)] {
            let mut costs = times(by);
            let count = std::iter::repeat_with(|| costs.refused(page())).take(refusals);
            assert_eq!(count.count(), refusals);
            assert_eq!(costs, usual, "{by}");
        }
        let mut cheap = Costs {
            stop: Duration::ZERO,
            fork_page_ns: usual.fork_page_ns / 2.0,
            ..usual
        };
        let before = cheap;
        cheap.refused(page());
        assert_eq!(cheap, before);
    }

    #[test]
    fn only_what_forks_cost_fades_where_there_was_none() {
        let mut costs = Costs::new(page());
        costs.stop *= 8;
        costs.fork_page_ns *= 8.0;
        let before = costs;
        costs.fork_untried(page(), Instead::Copied);
        let after_copy = costs.fork_page_ns;
        assert!(after_copy < before.fork_page_ns);
        costs.fork_page_ns = before.fork_page_ns;
        costs.fork_untried(page(), Instead::Nothing);
        assert!(costs.fork_page_ns < after_copy);
        costs.fork_page_ns = before.fork_page_ns;
        assert_eq!(costs, before);
    }

    #[test]
    fn rates_follow_measurements_that_are_large_enough() {
        let mut costs = Costs::new(page());
        let before = costs.copy_byte_ns;
        costs.copied(ByteLen(4096), Duration::from_secs(1));
        assert!(costs.copy_byte_ns <= before);
        costs.copied(ByteLen(1 << 30), Duration::from_secs(1));
        assert!(costs.copy_byte_ns > before);
    }
}
