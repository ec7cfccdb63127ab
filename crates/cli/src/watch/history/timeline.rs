//! The time axis: at most some hundred columns, each for one or more intervals.

use onionskin::report::WatchInterval;

use crate::units::as_f64;

/// How many columns there are at most. Even, so that pairs can be merged.
pub(super) const COLUMNS_MAX: usize = 720;

/// What happened in one stretch of time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(in crate::watch) struct Column {
    /// Its start, in milliseconds since watching began.
    pub(in crate::watch) start_ms: f64,
    /// Its end.
    pub(in crate::watch) end_ms: f64,
    /// How many intervals lie in it.
    pub(in crate::watch) intervals: u32,
    /// Bytes of pages written, added up over the intervals.
    pub(in crate::watch) written_bytes: f64,
    /// The highest rate of an interval, in bytes per second.
    pub(in crate::watch) peak_bytes_per_s: f64,
    /// The most bytes in memory.
    pub(in crate::watch) resident_bytes: f64,
}

impl Column {
    fn merge(&mut self, later: &Self) {
        self.end_ms = later.end_ms;
        self.intervals += later.intervals;
        self.written_bytes += later.written_bytes;
        self.peak_bytes_per_s = self.peak_bytes_per_s.max(later.peak_bytes_per_s);
        self.resident_bytes = self.resident_bytes.max(later.resident_bytes);
    }
}

/// The columns, oldest first.
#[derive(Debug)]
pub(in crate::watch) struct Timeline {
    columns: Vec<Column>,
    /// Intervals that a column takes before the next begins.
    stride: u32,
}

impl Default for Timeline {
    fn default() -> Self {
        Self {
            columns: Vec::new(),
            stride: 1,
        }
    }
}

impl Timeline {
    /// Returns the columns, oldest first.
    pub(in crate::watch) fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// Tells whether the next interval needs a column that there is no place for.
    pub(super) fn is_full(&self) -> bool {
        self.columns.len() == COLUMNS_MAX
            && self
                .columns
                .last()
                .is_some_and(|c| c.intervals == self.stride)
    }

    /// Merges pairs of columns.
    pub(super) fn halve(&mut self) {
        let merged = self.columns.chunks(2).map(|pair| {
            let mut column = pair[0];
            pair[1..].iter().for_each(|later| column.merge(later));
            column
        });
        self.columns = merged.collect();
        self.stride = self.stride.saturating_mul(2);
    }

    /// Adds an interval, and returns the index of its column.
    pub(super) fn add(&mut self, interval: &WatchInterval) -> usize {
        let written_bytes = as_f64(interval.written_pages * interval.page_size);
        let one = Column {
            start_ms: interval.t_ms - interval.interval_ms,
            end_ms: interval.t_ms,
            intervals: 1,
            written_bytes,
            peak_bytes_per_s: interval.written_bytes_per_s,
            resident_bytes: as_f64(interval.resident_pages * interval.page_size),
        };
        match self.columns.last_mut() {
            Some(last) if last.intervals < self.stride => last.merge(&one),
            _ => self.columns.push(one),
        }
        self.columns.len() - 1
    }
}
