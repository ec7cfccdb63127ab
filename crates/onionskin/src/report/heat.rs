//! A strip of cells that shows where in a mapping pages were written.

use serde::{Deserialize, Serialize};
use space::PageRange;

/// How many cells a strip has.
pub const HEAT_CELLS: usize = 64;

/// The written part of each of 64 equal pieces of a mapping, from low to high addresses:
/// 0 for none of it, 255 for all of it. Empty where nothing at all was written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Heat(Vec<u8>);

impl Heat {
    /// Draws the strip of `mapping`: `written` are the ranges that were written, in order and
    /// apart from one another; what lies outside the mapping does not count.
    pub fn of(mapping: PageRange, written: &[PageRange]) -> Self {
        let mut covered = [0_u128; HEAT_CELLS];
        let len = u128::from(mapping.len().0);
        // All lengths are counted in 64ths of a byte, so that cells have whole lengths.
        for part in written.iter().filter_map(|r| r.intersection(mapping)) {
            let cells = HEAT_CELLS as u128;
            let start = u128::from(part.start().0 - mapping.start().0) * cells;
            let end = u128::from(part.end().0 - mapping.start().0) * cells;
            let first = usize::try_from(start / len).unwrap_or(HEAT_CELLS);
            for (at, cell) in covered.iter_mut().enumerate().skip(first) {
                let cell_start = at as u128 * len;
                if cell_start >= end {
                    break;
                }
                *cell += end.min(cell_start + len) - start.max(cell_start);
            }
        }
        if covered.iter().all(|&cell| cell == 0) {
            return Self::default();
        }
        let value = |cell: u128| u8::try_from((cell * 255).div_ceil(len)).unwrap_or(u8::MAX);
        Self(covered.map(value).to_vec())
    }

    /// Returns the cells: 64, or none where nothing was written.
    pub fn cells(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use space::Vaddr;

    use super::*;

    fn range(start: u64, end: u64) -> PageRange {
        PageRange::new(Vaddr(start << 12), Vaddr(end << 12)).unwrap()
    }

    #[test]
    fn each_page_has_its_cell() {
        let heat = Heat::of(range(100, 164), &[range(100, 101), range(163, 170)]);
        assert_eq!(heat.cells().len(), HEAT_CELLS);
        assert_eq!((heat.cells()[0], heat.cells()[1]), (255, 0));
        assert_eq!((heat.cells()[62], heat.cells()[63]), (0, 255));
    }

    #[test]
    fn one_page_of_many_still_shows() {
        let heat = Heat::of(range(0, 1 << 30), &[range(1 << 29, (1 << 29) + 1)]);
        assert_eq!(heat.cells()[32], 1);
        assert_eq!(heat.cells().iter().filter(|&&cell| cell > 0).count(), 1);
    }

    #[test]
    fn few_pages_fill_several_cells() {
        let heat = Heat::of(range(10, 13), &[range(11, 12)]);
        assert_eq!(heat.cells()[20], 0);
        assert!((22..42).all(|at| heat.cells()[at] == 255));
        assert!((1..255).contains(&heat.cells()[21]));
        assert_eq!(heat.cells()[43], 0);
    }

    #[test]
    fn nothing_written_is_empty() {
        assert_eq!(Heat::of(range(0, 4), &[range(4, 9)]), Heat::default());
    }
}
