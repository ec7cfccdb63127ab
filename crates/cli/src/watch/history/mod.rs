//! Everything that was seen, in bounded memory: what the HTML report is drawn from.
//!
//! [`Grid`] is the heat map (address by time), [`Timeline`] its time axis with the rates, and
//! [`Totals`] adds up each mapping. When one is full it halves its resolution, so that a minute
//! is kept second by second and a week hour by hour.

mod grid;
mod timeline;
mod totals;

use onionskin::report::{Forecast, TrackingMode, WatchInterval};

pub(super) use grid::Grid;
pub(super) use timeline::Timeline;
pub(super) use totals::{Total, Totals};

/// Everything that was seen of one process.
#[derive(Debug, Default)]
pub(super) struct History {
    /// The heat map.
    pub(super) grid: Grid,
    /// Its time axis.
    pub(super) timeline: Timeline,
    /// Each mapping added up.
    pub(super) totals: Totals,
    /// What the last interval said of the whole process.
    pub(super) last: Option<Last>,
}

/// What an interval says of the whole process.
#[derive(Clone, Debug)]
pub(super) struct Last {
    /// The process's id.
    pub(super) pid: u32,
    /// The file it runs.
    pub(super) program: String,
    /// How writes are seen.
    pub(super) tracking: TrackingMode,
    /// The size of a base page, in bytes.
    pub(super) page_size: u64,
    /// Base pages in memory.
    pub(super) resident_pages: u64,
    /// The freeze that a snapshot would need.
    pub(super) forecast: Forecast,
}

impl History {
    /// Adds one interval.
    pub(super) fn add(&mut self, interval: &WatchInterval) {
        self.grid.cover(&interval.mappings);
        if self.timeline.is_full() {
            self.timeline.halve();
            self.grid.halve_columns();
        }
        let column = self.timeline.add(interval);
        for mapping in &interval.mappings {
            self.grid.add(column, &mapping.written);
        }
        self.totals.add(interval);
        self.last = Some(Last {
            pid: interval.pid,
            program: interval.program.clone(),
            tracking: interval.tracking,
            page_size: interval.page_size,
            resident_pages: interval.resident_pages,
            forecast: interval.forecast,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::Process;
    use super::*;

    #[test]
    fn thousands_of_intervals_keep_their_bytes_in_bounds() {
        let mut process = Process::new(10);
        let mut history = History::default();
        let mut written = 0;
        for _ in 0..4000 {
            let interval = process.interval();
            written += interval.written_pages;
            history.add(&interval);
        }
        let columns = history.timeline.columns();
        assert!((360..=720).contains(&columns.len()), "{}", columns.len());
        assert_eq!(columns.len(), history.grid.columns().len());
        let on_axis: f64 = columns.iter().map(|c| c.written_bytes).sum();
        assert_eq!(on_axis, crate::units::as_f64(written * 4096));
        let in_grid: f64 = history
            .grid
            .columns()
            .iter()
            .flatten()
            .map(|&v| f64::from(v))
            .sum();
        assert!(
            (in_grid / on_axis - 1.0).abs() < 1e-3,
            "{in_grid} of {on_axis}"
        );
        let in_totals: f64 = history.totals.iter().map(|total| total.written_bytes).sum();
        assert_eq!(in_totals, on_axis);
        assert!(
            columns
                .windows(2)
                .all(|pair| pair[0].end_ms <= pair[1].start_ms + 1e-6)
        );
        assert_eq!(columns.last().map(|c| c.end_ms), Some(4_000_000.0));
    }
}
