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

/// Formats a duration: `42s`, `3m 7s`, `1h 2m`, `5d 3h`.
pub(crate) fn short_duration(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{minutes}m {}s", seconds % 60),
        3600..86_400 => format!("{hours}h {}m", minutes % 60),
        _ => format!("{days}d {}h", hours % 24),
    }
}

/// Formats a size: `512K`, `50.0M`, `1.3G`, in powers of 1024.
pub(crate) fn short_bytes(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let kib = bytes as f64 / 1024.0;
    match kib {
        ..1024.0 => format!("{kib:.0}K"),
        ..1_048_576.0 => format!("{:.1}M", kib / 1024.0),
        _ => format!("{:.1}G", kib / 1_048_576.0),
    }
}

/// `1 connection`, `2 connections`.
pub(crate) fn counted(count: u64, word: &str) -> String {
    if count == 1 {
        format!("1 {word}")
    } else {
        format!("{count} {word}s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_forms() {
        for (seconds, text) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m 0s"),
            (3599, "59m 59s"),
            (3600, "1h 0m"),
            (90_000, "1d 1h"),
        ] {
            assert_eq!(short_duration(seconds), text);
        }
        for (bytes, text) in [
            (0, "0K"),
            (1_047_000, "1022K"),
            (52_428_800, "50.0M"),
            (1_395_864_371, "1.3G"),
        ] {
            assert_eq!(short_bytes(bytes), text);
        }
        assert_eq!(
            (counted(1, "worker"), counted(0, "worker")),
            ("1 worker".into(), "0 workers".into())
        );
    }

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
