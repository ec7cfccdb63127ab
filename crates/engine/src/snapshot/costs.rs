//! What things cost, as measured, and the freeze that follows from it.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use space::{ByteLen, PageCount, PageSize};

/// Measured costs. They start from rough values of a small machine and follow each measurement.
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

    /// Takes note that no fork was tried because of what one is thought to cost. A cost that was
    /// measured on a bad day would keep us from ever measuring it again: so it fades.
    pub(crate) fn fork_untried(&mut self, page_size: PageSize) {
        let usual = Self::new(page_size).fork_page_ns;
        self.fork_page_ns = self
            .fork_page_ns
            .min(f64::midpoint(self.fork_page_ns, usual));
    }

    pub(crate) fn registers_read(&mut self, took: Duration) {
        self.registers = (self.registers + took) / 2;
    }

    pub(crate) fn looked(&mut self, pages: PageCount, took: Duration) {
        let rest = took.saturating_sub(self.look);
        follow(&mut self.scan_page_ns, rest, exact(pages.0), 5000.0);
    }

    pub(crate) fn copied(&mut self, bytes: ByteLen, took: Duration) {
        follow(&mut self.copy_byte_ns, took, exact(bytes.0), 250e3);
    }

    pub(crate) fn pumped(&mut self, bytes: ByteLen, took: Duration) {
        follow(&mut self.pump_byte_ns, took, exact(bytes.0), 4e6);
    }

    pub(crate) fn forked(&mut self, pages: PageCount, took: Duration) {
        follow(&mut self.fork_page_ns, took, exact(pages.0), 1000.0);
    }
}

/// Moves a rate half way to a measurement; one of fewer than `enough` units says too little.
fn follow(rate: &mut f64, took: Duration, units: f64, enough: f64) {
    if units >= enough {
        let measured = took.as_secs_f64() * 1e9 / units;
        // One slow measurement on a busy machine must not keep us from measuring again.
        *rate = f64::midpoint(*rate, measured.min(*rate * 1.5));
    }
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
    fn a_fork_that_is_not_tried_looks_less_dear_in_time() {
        let mut costs = Costs::new(page());
        let usual = costs.fork_page_ns;
        costs.fork_page_ns = 10.0 * usual;
        costs.fork_untried(page());
        assert!(costs.fork_page_ns < 6.0 * usual);
        costs.fork_page_ns = usual / 2.0;
        costs.fork_untried(page());
        assert!(costs.fork_page_ns <= usual / 2.0);
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
