//! What the page is drawn from.

use std::time::SystemTime;

use onionskin::report::{Forecast, Timestamp, Tracked};
use serde::Serialize;

use crate::units::as_f64;
use crate::watch::history::{Grid, History, Total};

/// How many mappings have a line with pictures in the table.
const TABLE_MAX: usize = 300;
/// How many mappings can be named under the pointer.
const NAMED_MAX: usize = 10_000;
/// How many pieces of memory that was never written have a place in the heat map.
const QUIET_MAX: usize = 120;
/// The smallest written part of a row that has its own shade: two to the minus this.
const SCALE_BITS: f64 = 20.0;

/// The page's data. Short names where there are many of a thing.
#[derive(Debug, Serialize)]
pub(super) struct Data {
    program: String,
    pid: u32,
    tracking: &'static str,
    page_size: u64,
    written_at: Timestamp,
    version: &'static str,
    intervals: u64,
    resident_bytes: u64,
    forecast: Option<Forecast>,
    /// `[start_ms, end_ms, intervals, written_bytes, peak_bytes_per_s, resident_bytes]`
    columns: Vec<[f64; 6]>,
    segments: Vec<SegmentData>,
    /// Hexadecimal bytes, column after column, rows from low to high addresses: 0 and how
    /// many of them, or the shade: 1 + 254 × (1 + log2(written part of the row) ÷ 20).
    grid: String,
    scale_bits: f64,
    /// `[start, end, name]`
    named: Vec<(String, String, String)>,
    table: Vec<Row>,
    mappings: usize,
}

#[derive(Debug, Serialize)]
struct SegmentData {
    start: String,
    end: String,
    rows: usize,
}

#[derive(Debug, Serialize)]
struct Row {
    start: String,
    end: String,
    name: String,
    protection: String,
    size: u64,
    resident: u64,
    written: f64,
    peak: f64,
    untracked: Option<String>,
    /// 64 cells as hexadecimal bytes, by address; empty where nothing was written.
    cells: String,
    /// Hexadecimal bytes, by time, 255 for the highest.
    bins: String,
}

impl Data {
    /// Makes it.
    pub(super) fn of(history: &History) -> Self {
        let columns = history.timeline.columns();
        let intervals: u64 = columns.iter().map(|c| u64::from(c.intervals)).sum();
        let mut totals: Vec<&Total> = history.totals.iter().collect();
        let mappings = totals.len();
        totals.sort_by(|a, b| {
            let size = |t: &Total| t.resident_bytes;
            (b.written_bytes.total_cmp(&a.written_bytes)).then(size(b).cmp(&size(a)))
        });
        let bins = history.totals.bins_used();
        let table = totals.iter().take(TABLE_MAX);
        let table = table.map(|total| Row::of(total, intervals, bins)).collect();
        let mut named: Vec<&Total> = totals.into_iter().take(NAMED_MAX).collect();
        named.sort_by_key(|total| total.range);
        let (segments, grid) = picture(history);
        let last = history.last.as_ref();
        Self {
            program: last.map_or_else(String::new, |last| last.program.clone()),
            pid: last.map_or(0, |last| last.pid),
            tracking: last.map_or("", |last| last.tracking.name()),
            page_size: last.map_or(0, |last| last.page_size),
            written_at: SystemTime::now().into(),
            version: env!("CARGO_PKG_VERSION"),
            intervals,
            resident_bytes: last.map_or(0, |last| last.resident_pages * last.page_size),
            forecast: last.map(|last| last.forecast),
            columns: columns
                .iter()
                .map(|c| {
                    [
                        c.start_ms,
                        c.end_ms,
                        f64::from(c.intervals),
                        c.written_bytes,
                        c.peak_bytes_per_s.round(),
                        c.resident_bytes,
                    ]
                })
                .collect(),
            segments,
            grid,
            scale_bits: SCALE_BITS,
            named: named
                .into_iter()
                .map(|t| (hex(t.range.start().0), hex(t.range.end().0), t.name.clone()))
                .collect(),
            table,
            mappings,
        }
    }
}

fn hex(address: u64) -> String {
    format!("{address:x}")
}

fn hex_bytes(bytes: impl Iterator<Item = u8>) -> String {
    bytes.map(|byte| format!("{byte:02x}")).collect()
}

/// Scales 0.0..=1.0 to a byte; what is more than nothing stays more than nothing.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to the range of a byte"
)]
fn byte(part: f64) -> u8 {
    (part * 255.0).ceil().clamp(0.0, 255.0) as u8
}

impl Row {
    fn of(total: &Total, intervals: u64, bins: usize) -> Self {
        let all = 255.0 * as_f64(intervals.max(1));
        let cells = total
            .cells
            .iter()
            .map(|&sum| byte((f64::from(sum) / all).sqrt()));
        let bins = &total.bins[..bins.min(total.bins.len())];
        let top = f64::from(bins.iter().copied().fold(0.0, f32::max));
        Self {
            start: hex(total.range.start().0),
            end: hex(total.range.end().0),
            name: total.name.clone(),
            protection: total.protection.clone(),
            size: total.range.len().0,
            resident: total.resident_bytes,
            written: total.written_bytes,
            peak: total.peak_bytes_per_s.round(),
            untracked: match &total.tracked {
                Tracked::Yes => None,
                Tracked::No(reason) => Some(reason.clone()),
            },
            cells: hex_bytes(cells),
            bins: hex_bytes(bins.iter().map(|&v| byte(f64::from(v) / top.max(1.0)))),
        }
    }
}

/// The heat map's segments and shades. Memory that was never written shrinks to one row, or
/// leaves the picture where there is much of it.
fn picture(history: &History) -> (Vec<SegmentData>, String) {
    let grid = &history.grid;
    let kept = kept_rows(grid);
    let mut segments = Vec::new();
    for (segment, kept) in grid.segments().iter().zip(&kept) {
        if *kept > 0 {
            segments.push(SegmentData {
                start: hex(segment.start),
                end: hex(segment.end),
                rows: *kept,
            });
        }
    }
    let mut shades = Shades::default();
    for (written, column) in grid.columns().iter().zip(history.timeline.columns()) {
        let mut row = 0;
        for (segment, kept) in grid.segments().iter().zip(&kept) {
            let all = segment.row_bytes() * f64::from(column.intervals);
            let rows = written.iter().skip(row).take(*kept);
            rows.for_each(|&bytes| shades.push(shade(f64::from(bytes) / all)));
            row += segment.rows;
        }
    }
    (segments, shades.finish())
}

/// How many rows of each segment the picture has.
fn kept_rows(grid: &Grid) -> Vec<usize> {
    let mut hot = vec![false; grid.segments().len()];
    for column in grid.columns() {
        let mut rows = column.as_slice();
        for (segment, hot) in grid.segments().iter().zip(&mut hot) {
            let (own, others) = rows.split_at(segment.rows);
            *hot |= own.iter().any(|&bytes| bytes > 0.0);
            rows = others;
        }
    }
    let quiet = usize::from(hot.iter().filter(|hot| !**hot).count() <= QUIET_MAX);
    let rows = grid.segments().iter().zip(hot);
    rows.map(|(segment, hot)| if hot { segment.rows } else { quiet })
        .collect()
}

fn shade(part: f64) -> u8 {
    if part <= 0.0 {
        return 0;
    }
    let level = (1.0 + part.log2() / SCALE_BITS).clamp(0.0, 1.0);
    byte((1.0 + level * 253.0) / 255.0)
}

/// Writes shades, runs of zeros by their length.
#[derive(Debug, Default)]
struct Shades {
    text: String,
    zeros: u8,
}

impl Shades {
    fn push(&mut self, shade: u8) {
        if shade == 0 && self.zeros < u8::MAX {
            self.zeros += 1;
            return;
        }
        self.flush();
        if shade == 0 {
            self.zeros = 1;
        } else {
            self.text.push_str(&format!("{shade:02x}"));
        }
    }

    fn flush(&mut self) {
        if self.zeros > 0 {
            self.text.push_str(&format!("00{:02x}", self.zeros));
            self.zeros = 0;
        }
    }

    fn finish(mut self) -> String {
        self.flush();
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shades_grow_with_the_written_part() {
        assert_eq!((shade(0.0), shade(1e-12), shade(1.0)), (0, 1, 254));
        assert!(shade(0.5) > shade(0.25));
    }

    #[test]
    fn runs_of_zeros_are_counted() {
        let mut shades = Shades::default();
        [0, 0, 7, 0, 255]
            .into_iter()
            .for_each(|shade| shades.push(shade));
        (0..300).for_each(|_| shades.push(0));
        assert_eq!(shades.finish(), "0002070001ff00ff002d");
    }
}
