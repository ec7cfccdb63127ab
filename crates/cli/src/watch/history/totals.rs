//! Each mapping added up over time.

use std::collections::BTreeMap;

use onionskin::report::{HEAT_CELLS, MappingActivity, Tracked, WatchInterval};
use space::PageRange;

use crate::units::as_f64;

/// How many pieces a mapping's own time axis has.
pub(in crate::watch) const TIME_BINS: usize = 60;
/// How many mappings are kept at most.
const KEPT_MAX: usize = 20_000;

/// One mapping, added up.
#[derive(Clone, Debug)]
pub(in crate::watch) struct Total {
    /// Its addresses when it was last seen.
    pub(in crate::watch) range: PageRange,
    /// Its name.
    pub(in crate::watch) name: String,
    /// Its protection as `rw-p`.
    pub(in crate::watch) protection: String,
    /// Bytes in memory when it was last seen.
    pub(in crate::watch) resident_bytes: u64,
    /// Whether its writes are seen.
    pub(in crate::watch) tracked: Tracked,
    /// Bytes of pages written, added up over the intervals.
    pub(in crate::watch) written_bytes: f64,
    /// The highest rate of an interval, in bytes per second.
    pub(in crate::watch) peak_bytes_per_s: f64,
    /// The sum of its heat strips, each cell 255 for an interval that wrote all of it; empty
    /// where nothing was written.
    pub(in crate::watch) cells: Vec<f32>,
    /// Bytes written, by time; empty where nothing was written.
    pub(in crate::watch) bins: Vec<f32>,
    seen: u64,
}

/// All mappings, added up.
#[derive(Debug)]
pub(in crate::watch) struct Totals {
    by_place: BTreeMap<(u64, String), Total>,
    intervals: u64,
    /// Intervals in one piece of the time axes.
    stride: u64,
}

impl Default for Totals {
    fn default() -> Self {
        Self {
            by_place: BTreeMap::new(),
            intervals: 0,
            stride: 1,
        }
    }
}

impl Totals {
    /// Returns the mappings by address.
    pub(in crate::watch) fn iter(&self) -> impl Iterator<Item = &Total> {
        self.by_place.values()
    }

    /// Returns how many pieces of the time axes are in use.
    pub(in crate::watch) fn bins_used(&self) -> usize {
        let used = self.intervals.div_ceil(self.stride);
        usize::try_from(used)
            .unwrap_or(TIME_BINS)
            .clamp(1, TIME_BINS)
    }

    /// Adds an interval.
    pub(super) fn add(&mut self, interval: &WatchInterval) {
        let bins = TIME_BINS as u64;
        if self.intervals == bins * self.stride {
            self.by_place.values_mut().for_each(Total::halve);
            self.stride *= 2;
        }
        let bin = usize::try_from(self.intervals / self.stride).unwrap_or(TIME_BINS - 1);
        for mapping in &interval.mappings {
            let key = (mapping.range.start().0, mapping.name.clone());
            let total = self
                .by_place
                .entry(key)
                .or_insert_with(|| Total::new(mapping));
            total.add(mapping, bin, interval.page_size);
            total.seen = self.intervals;
        }
        self.intervals += 1;
        if self.by_place.len() > KEPT_MAX {
            self.forget();
        }
    }

    /// Drops mappings until half as many are kept: those that are gone and wrote least first.
    fn forget(&mut self) {
        let last = self.intervals - 1;
        let mut order: Vec<(bool, f64, (u64, String))> = self
            .by_place
            .iter()
            .map(|(key, total)| (total.seen == last, total.written_bytes, key.clone()))
            .collect();
        order.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
        for (_, _, key) in order.iter().take(order.len() - KEPT_MAX / 2) {
            self.by_place.remove(key);
        }
    }
}

impl Total {
    fn new(mapping: &MappingActivity) -> Self {
        Self {
            range: mapping.range,
            name: mapping.name.clone(),
            protection: String::new(),
            resident_bytes: 0,
            tracked: Tracked::Yes,
            written_bytes: 0.0,
            peak_bytes_per_s: 0.0,
            cells: Vec::new(),
            bins: Vec::new(),
            seen: 0,
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "a picture's precision")]
    fn add(&mut self, mapping: &MappingActivity, bin: usize, page_size: u64) {
        self.range = mapping.range;
        self.protection.clone_from(&mapping.protection);
        self.resident_bytes = mapping.resident_bytes;
        self.tracked.clone_from(&mapping.tracked);
        if mapping.written_pages == 0 {
            return;
        }
        let bytes = as_f64(mapping.written_pages * page_size);
        self.written_bytes += bytes;
        self.peak_bytes_per_s = self.peak_bytes_per_s.max(mapping.written_bytes_per_s);
        self.cells.resize(HEAT_CELLS, 0.0);
        let heat = mapping.heat.cells().iter();
        self.cells
            .iter_mut()
            .zip(heat)
            .for_each(|(sum, &cell)| *sum += f32::from(cell));
        self.bins.resize(TIME_BINS, 0.0);
        self.bins[bin] += bytes as f32;
    }

    fn halve(&mut self) {
        if self.bins.is_empty() {
            return;
        }
        let merged: Vec<f32> = self.bins.chunks(2).map(|pair| pair.iter().sum()).collect();
        self.bins = merged;
        self.bins.resize(TIME_BINS, 0.0);
    }
}
