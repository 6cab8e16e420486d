//! The place of an error in a file, as shown to the user: line, column, and the line itself with a caret under the span.

use std::ops::Range;

use serde::Serialize;
use unicode_width::UnicodeWidthStr as _;

/// Number of characters shown of a long line.
const WIDTH: usize = 100;

/// Number of characters shown of a long line before the mistake.
const BEFORE: usize = 30;

/// A mistake in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FilePosition {
    /// The file's name as given.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// What is wrong, in one line.
    pub error: String,
    /// What to do, in one line; may be empty.
    pub hint: String,
    /// The line with carets below it, for a terminal.
    #[serde(skip)]
    pub excerpt: Vec<String>,
}

impl FilePosition {
    /// The place of a mistake at `span` (in bytes) of `text`.
    pub fn new(file: &str, text: &str, span: Range<usize>, error: String, hint: String) -> Self {
        let start = floor(text, span.start);
        let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
        let content = text[line_start..line_end].trim_end_matches('\r');
        // A span over several lines is marked up to the end of its first line.
        let end = floor(text, span.end).clamp(start, line_start + content.len().max(start - line_start));
        let before = text[line_start..start].chars().count();
        let marked = text[start..end].chars().count();
        let line = text[..start].matches('\n').count() + 1;
        Self {
            file: file.to_owned(),
            line,
            column: before + 1,
            error,
            hint,
            excerpt: excerpt(line, content, before, marked),
        }
    }

    /// `reuse.toml:4:1: what is wrong`.
    pub fn title(&self) -> String {
        format!("{}:{}:{}: {}", self.file, self.line, self.column, self.error)
    }
}

/// The nearest character boundary at or before `at`.
fn floor(text: &str, at: usize) -> usize {
    let at = at.min(text.len());
    (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

/// The line, with carets under `marked` characters after the first `before`. Of a long line only the part around them is shown.
fn excerpt(line: usize, content: &str, before: usize, marked: usize) -> Vec<String> {
    let letters: Vec<char> = content.chars().map(printable).collect();
    let from = if letters.len() > WIDTH {
        before.saturating_sub(BEFORE)
    } else {
        0
    };
    let until = letters.len().min(from + WIDTH);
    let start = before.min(until);
    let end = until.min(start + marked);

    let mut left = String::from(if from > 0 { "…" } else { "" });
    left.extend(&letters[from..start]);
    let under = String::from_iter(&letters[start..end]);
    let right = String::from_iter(&letters[end..until]);
    let cut = if until < letters.len() { "…" } else { "" };
    let carets = " ".repeat(left.width()) + &"^".repeat(under.width().max(1));
    let number = line.to_string();
    let margin = " ".repeat(number.len());
    vec![
        format!("{number} | {left}{under}{right}{cut}").trim_end().to_owned(),
        format!("{margin} | {carets}"),
    ]
}

/// A tab is shown as a space, and a control character as a box.
fn printable(letter: char) -> char {
    match letter {
        '\t' => ' ',
        letter if letter.is_control() => '\u{fffd}',
        letter => letter,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, wrong: &str) -> String {
        let start = text.find(wrong).expect("it is there");
        let place = FilePosition::new("f", text, start..start + wrong.len(), "e".into(), String::new());
        format!("{}:{}\n{}", place.line, place.column, place.excerpt.join("\n"))
    }

    #[test]
    fn the_line_with_carets_below() {
        insta::assert_snapshot!(shown("a = 1\r\n\tb = two\r\n", "two"), @r"
        2:6
        2 |  b = two
          |      ^^^
        ");
        insta::assert_snapshot!(shown("ä = '日本語' # x", "語"), @r"
        1:8
        1 | ä = '日本語' # x
          |          ^^
        ");
        insta::assert_snapshot!(shown("a = [\n 1,\n 2]\n", "[\n 1,\n 2]"), @r"
        1:5
        1 | a = [
          |     ^
        ");
        insta::assert_snapshot!(shown("x = '\u{1b}[31m'", "\u{1b}"), @r"
        1:6
        1 | x = '�[31m'
          |      ^
        ");
    }

    #[test]
    fn a_long_line_is_shown_around_the_place() {
        let text = format!("{}wrong{}", "a".repeat(500), "b".repeat(500));
        insta::assert_snapshot!("a_long_line", shown(&text, "wrong"));
    }

    #[test]
    fn the_end_of_the_file_and_nonsense_have_a_place_too() {
        for (text, span) in [("", 0..0), ("a\n", 2..2), ("a", 5..9), ("ä", 1..1), ("a\nb", 1..3)] {
            let place = FilePosition::new("f", text, span, String::new(), String::new());
            assert!(
                place.line >= 1 && place.column >= 1 && place.excerpt.len() == 2,
                "{text:?}"
            );
        }
    }
}
