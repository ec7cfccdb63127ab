//! The heat map: bytes written, by address and time.
//!
//! The address space is a list of [`Segment`]s with gaps between them that take no rows. Rows
//! are added where new memory appears and merged when there are too many.

use onionskin::report::MappingActivity;
use space::PageRange;

use crate::units::as_f64;

/// How many rows there are at most.
pub(super) const ROWS_MAX: usize = 1024;
/// How many rows one piece of memory has at most.
const SEGMENT_ROWS_MAX: usize = 160;

/// Addresses without a gap, cut into rows of equal length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::watch) struct Segment {
    /// The first address.
    pub(in crate::watch) start: u64,
    /// The first address behind.
    pub(in crate::watch) end: u64,
    /// How many rows it has, one at least.
    pub(in crate::watch) rows: usize,
}

impl Segment {
    /// Gives a piece of memory as many rows as a picture needs: the square root of its size
    /// lets small ones be seen beside large ones.
    fn new(start: u64, end: u64) -> Self {
        let pieces = (end - start) >> 16;
        let rows = usize::try_from(pieces.isqrt()).unwrap_or(SEGMENT_ROWS_MAX);
        Self {
            start,
            end,
            rows: rows.clamp(1, SEGMENT_ROWS_MAX),
        }
    }

    /// Returns the address at which a row begins; that of row `rows` is the end.
    fn row_start(&self, row: usize) -> u64 {
        let offset = u128::from(self.end - self.start) * row as u128 / self.rows as u128;
        self.start + u64::try_from(offset).unwrap_or(u64::MAX - self.start)
    }

    /// Returns the length of a row in bytes.
    pub(in crate::watch) fn row_bytes(&self) -> f64 {
        as_f64(self.end - self.start) / as_f64(self.rows as u64)
    }

    fn row_of(&self, address: u64) -> usize {
        let offset = u128::from(address - self.start) * self.rows as u128;
        let row = offset / u128::from(self.end - self.start);
        usize::try_from(row)
            .unwrap_or(usize::MAX)
            .min(self.rows - 1)
    }
}

/// The heat map.
#[derive(Debug, Default)]
pub(in crate::watch) struct Grid {
    segments: Vec<Segment>,
    /// Bytes written, by column and row.
    columns: Vec<Vec<f32>>,
}

impl Grid {
    /// Returns the addresses that have rows, in order.
    pub(in crate::watch) fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Returns the bytes written in each row, for each column.
    pub(in crate::watch) fn columns(&self) -> &[Vec<f32>] {
        &self.columns
    }

    /// Makes rows for all memory that is or can be written and has none yet.
    pub(super) fn cover(&mut self, mappings: &[MappingActivity]) {
        let written = mappings
            .iter()
            .filter(|m| m.written_pages > 0 || m.protection.contains('w'));
        let mut fresh = Vec::new();
        for mapping in written {
            self.uncovered(mapping.range, &mut fresh);
        }
        if fresh.is_empty() {
            return;
        }
        let mut segments = self.segments.clone();
        segments.extend(fresh);
        segments.sort_unstable_by_key(|segment| segment.start);
        coarsen(&mut segments);
        self.relayout(segments);
    }

    fn uncovered(&self, range: PageRange, out: &mut Vec<Segment>) {
        let (mut at, end) = (range.start().0, range.end().0);
        // Two mappings of one interval never overlap, so that `out` needs no look.
        let first = self.segments.partition_point(|segment| segment.end <= at);
        for segment in &self.segments[first..] {
            if segment.start >= end {
                break;
            }
            if at < segment.start {
                out.push(Segment::new(at, segment.start));
            }
            at = segment.end;
        }
        if at < end {
            out.push(Segment::new(at, end));
        }
    }

    /// Moves all columns to other rows; what a row held is spread evenly over its addresses.
    fn relayout(&mut self, segments: Vec<Segment>) {
        let old = std::mem::replace(&mut self.segments, segments);
        for at in 0..self.columns.len() {
            let values = std::mem::take(&mut self.columns[at]);
            let mut row = 0;
            self.add(at, &[]);
            for segment in &old {
                for inner in 0..segment.rows {
                    let (start, end) = (segment.row_start(inner), segment.row_start(inner + 1));
                    if values[row] > 0.0 {
                        self.spread(at, start, end, f64::from(values[row]));
                    }
                    row += 1;
                }
            }
        }
    }

    /// Adds pages that were written, each once, to a column; it may be one behind the last.
    pub(super) fn add(&mut self, column: usize, written: &[PageRange]) {
        if column == self.columns.len() {
            self.columns.push(Vec::new());
        }
        let rows = self.segments.iter().map(|segment| segment.rows).sum();
        self.columns[column].resize(rows, 0.0);
        for range in written {
            let bytes = as_f64(range.len().0);
            self.spread(column, range.start().0, range.end().0, bytes);
        }
    }

    /// Spreads `bytes` evenly over the rows of `start..end`.
    fn spread(&mut self, column: usize, start: u64, end: u64, bytes: f64) {
        let density = bytes / as_f64((end - start).max(1));
        let first = self
            .segments
            .partition_point(|segment| segment.end <= start);
        let mut base: usize = self.segments[..first].iter().map(|s| s.rows).sum();
        for segment in &self.segments[first..] {
            if segment.start >= end {
                break;
            }
            let mut at = start.max(segment.start);
            let stop = end.min(segment.end);
            while at < stop {
                let row = segment.row_of(at);
                let row_end = segment.row_start(row + 1).clamp(at + 1, stop);
                #[expect(clippy::cast_possible_truncation, reason = "a picture's precision")]
                {
                    self.columns[column][base + row] += (as_f64(row_end - at) * density) as f32;
                }
                at = row_end;
            }
            base += segment.rows;
        }
    }

    /// Merges pairs of columns, as [`Timeline::halve`](super::Timeline::halve).
    pub(super) fn halve_columns(&mut self) {
        let merged = self.columns.chunks(2).map(|pair| {
            let mut column = pair[0].clone();
            for later in &pair[1..] {
                column.iter_mut().zip(later).for_each(|(a, b)| *a += b);
            }
            column
        });
        self.columns = merged.collect();
    }
}

/// Makes rows fewer until they fit: first by longer rows, then by bridging the smallest gaps.
fn coarsen(segments: &mut Vec<Segment>) {
    let rows = |segments: &[Segment]| segments.iter().map(|s| s.rows).sum::<usize>();
    while rows(segments) > ROWS_MAX {
        if segments.len() <= ROWS_MAX / 2 {
            for segment in segments.iter_mut() {
                segment.rows = segment.rows.div_ceil(2);
            }
        } else {
            bridge(segments, ROWS_MAX / 2);
        }
    }
}

/// Joins neighbours over the smallest gaps until `keep` segments are left.
fn bridge(segments: &mut Vec<Segment>, keep: usize) {
    let mut gaps: Vec<(u64, usize)> = segments
        .windows(2)
        .enumerate()
        .map(|(at, pair)| (pair[1].start - pair[0].end, at))
        .collect();
    gaps.sort_unstable();
    let mut joined = vec![false; segments.len()];
    for &(_, at) in gaps.iter().take(segments.len() - keep) {
        joined[at] = true;
    }
    let mut result: Vec<Segment> = Vec::with_capacity(keep);
    let mut open = false;
    for (segment, join_next) in segments.iter().zip(joined) {
        match result.last_mut() {
            Some(last) if open => {
                last.end = segment.end;
                last.rows = last.rows.max(segment.rows);
            }
            _ => result.push(*segment),
        }
        open = join_next;
    }
    *segments = result;
}

#[cfg(test)]
mod tests {
    use space::Vaddr;

    use super::*;
    use crate::watch::fake;

    fn range(start: u64, end: u64) -> PageRange {
        PageRange::new(Vaddr(start), Vaddr(end)).unwrap()
    }

    fn sum(grid: &Grid, column: usize) -> f64 {
        grid.columns()[column].iter().map(|&v| f64::from(v)).sum()
    }

    #[test]
    fn bytes_land_in_the_rows_of_their_addresses() {
        let mut grid = Grid::default();
        let heap = range(0x10_0000, 0x10_0000 + (64 << 16));
        let far = range(0x7f00_0000_0000, 0x7f00_0000_1000);
        grid.cover(&[fake::mapping(heap, "[heap]"), fake::mapping(far, "")]);
        assert_eq!(
            grid.segments().iter().map(|s| s.rows).collect::<Vec<_>>(),
            [8, 1]
        );
        grid.add(0, &[range(0x10_0000, 0x10_1000), far]);
        assert_eq!(
            grid.columns()[0],
            [4096.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 4096.0]
        );
    }

    #[test]
    fn growing_memory_gets_rows_and_keeps_its_past() {
        let mut grid = Grid::default();
        let heap = range(0x10_0000, 0x20_0000);
        grid.cover(&[fake::mapping(heap, "[heap]")]);
        grid.add(0, &[heap]);
        let grown = range(0x10_0000, 0x30_0000);
        let below = range(0x8_0000, 0x9_0000);
        grid.cover(&[fake::mapping(below, ""), fake::mapping(grown, "[heap]")]);
        assert_eq!(grid.segments().len(), 3);
        assert_eq!(sum(&grid, 0), f64::from(1 << 20));
        assert_eq!(grid.columns()[0][0], 0.0, "the past of new memory is empty");
    }

    #[test]
    fn thousands_of_mappings_fit_and_no_byte_is_lost() {
        let mut grid = Grid::default();
        let ranges: Vec<PageRange> = (1..10_000)
            .map(|n| range(n << 20, (n << 20) + (0x1000 << (n % 8))))
            .collect();
        let mappings: Vec<_> = ranges.iter().map(|&r| fake::mapping(r, "")).collect();
        for half in mappings.chunks(5000) {
            grid.cover(half);
            grid.add(0, &[]);
        }
        grid.add(0, &ranges);
        let rows: usize = grid.segments().iter().map(|s| s.rows).sum();
        assert!(rows <= ROWS_MAX, "{rows}");
        let written: f64 = ranges.iter().map(|r| as_f64(r.len().0)).sum();
        assert!((sum(&grid, 0) / written - 1.0).abs() < 1e-4);
        assert!(
            grid.segments()
                .windows(2)
                .all(|pair| pair[0].end <= pair[1].start)
        );
    }

    #[test]
    fn merged_columns_add_up() {
        let mut grid = Grid::default();
        let heap = range(0x1000, 0x2000);
        grid.cover(&[fake::mapping(heap, "")]);
        (0..5).for_each(|column| grid.add(column, &[heap]));
        grid.halve_columns();
        assert_eq!(grid.columns(), [vec![8192.0], vec![8192.0], vec![4096.0]]);
    }
}
