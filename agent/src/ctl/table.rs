//! Columns for people: aligned, without colour, and without whatever would steer a terminal.

use std::fmt::Write as _;

/// Rows under their heading.
#[derive(Debug)]
pub(super) struct Table(Vec<Vec<String>>);

impl Table {
    /// Without rows yet.
    pub(super) fn new(heading: &[&str]) -> Self {
        Self(vec![heading.iter().map(|name| (*name).to_owned()).collect()])
    }

    /// One more, with as many cells as the heading has.
    pub(super) fn row(&mut self, cells: &[String]) {
        self.0.push(cells.iter().map(|cell| plain(cell)).collect());
    }

    /// The lines; a table without rows says that there are none.
    pub(super) fn render(&self, none: &str) -> String {
        let Self(rows) = self;
        if rows.len() == 1 {
            return format!("{none}\n");
        }
        let columns = rows[0].len();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<_> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                let _ = write!(line, "{cell:width$}  "); // to a String, which takes everything
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// A text on one line, for a terminal.
pub(super) fn plain(text: &str) -> String {
    if text.is_empty() {
        return "-".to_owned();
    }
    text.chars()
        .map(|c| {
            if c == '\n' {
                ' '
            } else if c.is_control() {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_nothing_reaches_the_terminal_but_text() {
        let mut table = Table::new(&["A", "B"]);
        assert_eq!(table.render("nothing"), "nothing\n");
        table.row(&["long \u{1b}[31m".into(), String::new()]);
        table.row(&["é".into(), "two\nlines".into()]);
        assert_eq!(table.render(""), "A           B\nlong \u{fffd}[31m  -\né           two lines\n");
    }
}
