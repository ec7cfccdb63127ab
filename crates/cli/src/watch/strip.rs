//! Strips: a row of cells that says where memory is written, hot or cold.

/// The shades of a cell, from untouched to written everywhere.
const SHADES: [char; 5] = ['·', '░', '▒', '▓', '█'];

/// Joins the 0..=255 cells of a strip until they fit `width`; each keeps its hottest. No cells
/// mean that nothing was written.
pub(super) fn fit(cells: &[u8], width: usize) -> Vec<u8> {
    if cells.is_empty() {
        return vec![0; width];
    }
    let fitted = (0..width).map(|at| {
        let from = at * cells.len() / width;
        let to = ((at + 1) * cells.len()).div_ceil(width).max(from + 1);
        cells[from..to].iter().copied().max().unwrap_or(0)
    });
    fitted.collect()
}

/// Returns how hot a cell is, 0 to 4. The scale is that of a square root: a page in sixteen is
/// worth seeing.
pub(super) fn heat_level(cell: u8) -> usize {
    match cell {
        0 => 0,
        1..16 => 1,
        16..64 => 2,
        64..144 => 3,
        _ => 4,
    }
}

/// Draws a strip with shaded blocks.
pub(super) fn shades(cells: &[u8], width: usize) -> String {
    fit(cells, width)
        .into_iter()
        .map(|cell| SHADES[heat_level(cell)])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_hot_cell_survives_any_width() {
        let mut cells = [0; 64];
        cells[17] = 255;
        for width in [1, 7, 16, 64, 100] {
            assert!(fit(&cells, width).contains(&255), "{width}");
            assert_eq!(fit(&cells, width).len(), width);
        }
        assert_eq!(shades(&cells, 8), "··█·····");
        assert_eq!(shades(&[], 3), "···");
    }
}
