//! Tables for users, with short forms of durations and sizes. Pure.

use super::terminal::{Paint, Tone};

/// The alignment of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// One cell. Its width is the width of its text without colours.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            tone: Tone::Plain,
        }
    }

    pub(crate) fn toned(tone: Tone, text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            tone,
        }
    }
}

/// Formats a table. Every column is as wide as its widest cell. The last column is not padded; an empty column without a title is left out.
pub(crate) fn table<const N: usize>(header: [(&str, Align); N], rows: &[[Cell; N]], paint: Paint) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].text.chars().count());
        cells.chain([header[column].0.chars().count()]).max().unwrap_or(0)
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let shown: Vec<usize> = (0..N).filter(|column| widths[*column] > 0).collect();
    let header_cells = header.map(|(title, _)| Cell::toned(Tone::Faint, title));
    let mut text = String::new();
    for row in std::iter::once(&header_cells).chain(rows) {
        let mut line = String::new();
        for column in shown.iter().copied() {
            let cell = &row[column];
            let padding = " ".repeat(widths[column] - cell.text.chars().count());
            let painted = paint.tone(cell.tone, &cell.text);
            let is_last = Some(&column) == shown.last();
            match header[column].1 {
                Align::Right => line.extend([&*padding, &*painted]),
                Align::Left if is_last => line.push_str(&painted),
                Align::Left => line.extend([&*painted, &*padding]),
            }
            if !is_last {
                line.push_str("  ");
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_column_is_left_out() {
        let header = [
            ("ID", Align::Right),
            ("", Align::Right),
            ("N", Align::Left),
            ("", Align::Left),
        ];
        let row = [Cell::new("1"), Cell::new(""), Cell::new("12"), Cell::new("")];
        assert_eq!(table(header, &[row], Paint::OFF), "ID  N\n 1  12\n");
    }

    #[test]
    fn columns_line_up_with_and_without_colour() {
        let header = [("ID", Align::Right), ("STATE", Align::Left), ("N", Align::Right)];
        let rows = [
            [Cell::new("1"), Cell::toned(Tone::Good, "active"), Cell::new("12")],
            [Cell::new("100"), Cell::new("up"), Cell::new("")],
        ];
        assert_eq!(
            table(header, &rows, Paint::OFF),
            " ID  STATE    N\n  1  active  12\n100  up\n"
        );
        let painted = table(header, &rows, Paint { enabled: true });
        assert!(painted.contains("  1  \x1b[32mactive\x1b[0m  12\n"), "{painted:?}");
    }
}
