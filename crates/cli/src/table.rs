//! Plain tables: columns as wide as they need to be.

use std::io::{self, Write};

use crate::out::{DIM, paint};

/// Which side of its column a cell keeps to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// Lines of cells under headings. Cells may hold styles, which take no room.
#[derive(Debug)]
pub(crate) struct Table {
    heads: Vec<(&'static str, Side)>,
    lines: Vec<Vec<String>>,
}

impl Table {
    /// Starts a table.
    pub(crate) fn new(heads: &[(&'static str, Side)]) -> Self {
        Self {
            heads: heads.to_vec(),
            lines: Vec::new(),
        }
    }

    /// Adds a line, which has a cell for each heading.
    pub(crate) fn line<const N: usize>(&mut self, cells: [String; N]) {
        debug_assert_eq!(N, self.heads.len(), "each cell has its heading");
        self.lines.push(cells.into());
    }

    /// Prints it.
    ///
    /// # Errors
    ///
    /// Those of writing.
    pub(crate) fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        let width = |at: usize| {
            let cells = self.lines.iter().map(|line| shown_width(&line[at]));
            cells.max().unwrap_or(0).max(self.heads[at].0.len())
        };
        let widths: Vec<usize> = (0..self.heads.len()).map(width).collect();
        let shown = |head: &str| {
            if head.is_empty() {
                String::new()
            } else {
                paint(DIM, head)
            }
        };
        let heads = self.heads.iter().map(|(head, _)| shown(head)).collect();
        for line in std::iter::once(&heads).chain(&self.lines) {
            let mut text = String::new();
            for ((cell, width), (_, side)) in line.iter().zip(&widths).zip(&self.heads) {
                let gap = " ".repeat(width - shown_width(cell));
                text.push_str(&match side {
                    Side::Left => format!("{cell}{gap}  "),
                    Side::Right => format!("{gap}{cell}  "),
                });
            }
            writeln!(out, "{}", text.trim_end())?;
        }
        Ok(())
    }
}

fn shown_width(cell: &str) -> usize {
    anstream::adapter::strip_str(cell)
        .to_string()
        .chars()
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::out::BOLD;

    #[test]
    fn columns_are_as_wide_as_needed_and_styles_take_no_room() {
        let mut table = Table::new(&[
            ("name", Side::Left),
            ("size", Side::Right),
            ("", Side::Left),
        ]);
        table.line([paint(BOLD, "µ"), "1".to_owned(), "x".to_owned()]);
        table.line(["longer".to_owned(), "12345".to_owned(), String::new()]);
        let mut text = Vec::new();
        table.print(&mut text).unwrap();
        let text = anstream::adapter::strip_str(std::str::from_utf8(&text).unwrap()).to_string();
        assert_eq!(text, "name     size\nµ           1  x\nlonger  12345\n");
    }
}
