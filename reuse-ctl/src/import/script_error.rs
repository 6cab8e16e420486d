//! Script errors: what an ecosystem file written in JavaScript has thrown, and where.

use std::path::Path;

use serde::Deserialize;

use super::error::ImportError;

/// The thrown error.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(Default))]
pub(super) struct ScriptError {
    name: String,
    message: String,
    #[serde(default)]
    stack: String,
    #[serde(default)]
    place: Option<Position>,
}

#[derive(Debug, Deserialize)]
struct Position {
    file: String,
    line: u32,
    column: u32,
}

impl ScriptError {
    /// The error for the user. `file` is the path as typed, `complaint` the runtime's error output.
    pub(super) fn to_error(&self, file: &Path, absolute: &Path, complaint: &str) -> ImportError {
        let place = self.place(complaint).unwrap_or_else(|| absolute.display().to_string());
        // Shows the path as typed if the place is in the file itself.
        let own = absolute.display().to_string();
        let place = match place.strip_prefix(&own) {
            Some(rest) => format!("{}{rest}", file.display()),
            None => place,
        };
        let message = one_line(&self.message);
        let reason = match self.name.as_str() {
            "unusable" => message,
            "thrown" => format!("it throws {message:?}"),
            "AggregateError" | "ResolveMessage" | "BuildMessage" => message,
            name => format!("{}: {message}", one_line(name)),
        };
        let hint = match self.name.as_str() {
            "unusable" => "a configuration is plain data: numbers, texts, lists and objects",
            "SyntaxError" | "AggregateError" | "BuildMessage" => "correct it there; `node FILE` shows the same",
            _ => "it must run in its own folder, as you, without arguments; `node FILE` shows the same",
        };
        ImportError::Wrong { place, reason, hint }
    }

    /// `file:line:column`: given by the runtime, else the first place found in the stack or in the error output, else the innermost frame
    /// outside of dependencies.
    fn place(&self, complaint: &str) -> Option<String> {
        if let Some(Position { file, line, column }) = &self.place {
            return Some(format!("{file}:{line}:{column}"));
        }
        let heading = self.stack.lines().next().into_iter().chain(complaint.lines());
        let frames = self.stack.lines().map(str::trim).filter_map(|line| {
            let frame = line.strip_prefix("at ")?;
            let inner = frame
                .strip_suffix(')')
                .and_then(|frame| Some(frame.rsplit_once('(')?.1));
            Some(inner.unwrap_or(frame.strip_prefix("async ").unwrap_or(frame)))
        });
        heading
            .filter_map(as_place)
            .chain(
                frames
                    .filter_map(as_place)
                    .filter(|place| !place.contains("/node_modules/")),
            )
            .next()
    }
}

/// The text, if it is an absolute path (or `file://` URL) followed by one or two numbers.
fn as_place(text: &str) -> Option<String> {
    let text = text.trim();
    let text = text.strip_prefix("file://").unwrap_or(text);
    let (path, last) = text.rsplit_once(':')?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (path.starts_with('/') && is_number(last)).then(|| text.to_owned())
}

/// The first line, shortened, without control characters.
fn one_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    line.chars().filter(|letter| !letter.is_control()).take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script_error(stack: &str) -> ScriptError {
        ScriptError {
            stack: stack.into(),
            ..ScriptError::default()
        }
    }

    #[test]
    fn the_place_is_the_innermost_that_is_the_persons_own() {
        let stack = "TypeError: x\n    at f (/srv/node_modules/z/i.js:1:2)\n    at node:internal/x:1:2\n    at Object.<anonymous> (/srv/e.config.js:3:9)";
        assert_eq!(script_error(stack).place(""), Some("/srv/e.config.js:3:9".into()));
        let stack =
            "/srv/e.config.js:3\n  apps: [ {,\n           ^\n\nSyntaxError: x\n    at wrapSafe (node:internal/x:1:1)";
        assert_eq!(script_error(stack).place(""), Some("/srv/e.config.js:3".into()));
        let complaint = "file:///srv/e.config.mjs:3\n  apps: [ {,\n";
        assert_eq!(
            script_error("SyntaxError: x\n    at y (node:z:1:1)").place(complaint),
            Some("/srv/e.config.mjs:3".into())
        );
        assert_eq!(
            script_error("Error: x\n    at async file:///srv/e.mjs:3:1").place(""),
            Some("/srv/e.mjs:3:1".into())
        );
        assert_eq!(script_error("Error: at 3:1").place(""), None);
    }

    #[test]
    fn messages_fit_a_line() {
        assert_eq!(one_line("a\u{1b}[31m\nb"), "a[31m");
        assert_eq!(one_line(&"x".repeat(1000)).len(), 300);
    }
}
