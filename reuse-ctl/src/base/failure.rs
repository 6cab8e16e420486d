//! The failure of a verb: one line that says what happened, and one that says what to do.
//!
//! There is one type from the lowest folder to the terminal. The machine, a crate of its own, has a `Refusal`, and the task makes a [`Failure`] of it. On the
//! control socket a failure is a `Reply`, and becomes the same failure again in the client. A hint is a [`Text`]: its commands are data, and name their
//! app where several run.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::{ErrorKind, Text, file_position::FilePosition, sizes::SizeError};

/// Who wrote the last lines that are shown when a worker has failed, if not that worker alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputOf {
    /// The worker's new instance and its old one, which wrote to the same file meanwhile.
    BothInstances,
    /// The controller.
    Controller,
}

/// Why a verb did not do what it was asked for. `main` prints it and exits with the kind's code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Decides the exit code.
    pub kind: ErrorKind,
    /// What is wrong, in one line.
    pub error: String,
    /// What to do next, in one line; may be empty.
    pub hint: Text,
    /// What is left when a deadline has passed, one line each.
    pub left: Box<[String]>,
    /// The last lines that a worker which failed had written.
    pub output: Vec<String>,
    /// Whose lines these are; absent: the worker's alone.
    pub output_of: Option<OutputOf>,
    /// The workers that were changed all the same.
    pub workers: Box<[u16]>,
    /// What only some failures have.
    pub detail: Option<Box<Detail>>,
}

/// What only some failures have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Detail {
    /// All that is wrong in a file, in its order. `error` and `hint` are those of the first.
    Places {
        /// Not empty.
        places: Vec<FilePosition>,
    },
    /// An object, for JSON only: a person has seen it already.
    Object(serde_json::Value),
}

impl Failure {
    /// It was tried and did not work: exit 1.
    pub fn failed(error: impl Into<String>, hint: impl Into<Text>) -> Self {
        Self::new(ErrorKind::Failed, error, hint)
    }

    /// The request makes no sense: exit 2.
    pub fn usage(error: impl Into<String>, hint: impl Into<Text>) -> Self {
        Self::new(ErrorKind::Usage, error, hint)
    }

    /// No such app or worker: exit 3.
    pub fn not_found(error: impl Into<String>, hint: impl Into<Text>) -> Self {
        Self::new(ErrorKind::NotFound, error, hint)
    }

    /// A deadline passed: exit 4.
    pub fn timeout(error: impl Into<String>, hint: impl Into<Text>) -> Self {
        Self::new(ErrorKind::Timeout, error, hint)
    }

    /// Of a kind that is decided elsewhere.
    pub(crate) fn new(kind: ErrorKind, error: impl Into<String>, hint: impl Into<Text>) -> Self {
        let (left, output, workers) = (Box::default(), Vec::new(), Box::default());
        Self {
            kind,
            error: error.into(),
            hint: hint.into(),
            left,
            output,
            output_of: None,
            workers,
            detail: None,
        }
    }

    /// With what only this kind of failure has, by its keys in JSON.
    #[must_use]
    pub fn with_detail(self, detail: impl Serialize) -> Self {
        let detail = serde_json::to_value(detail).expect("plain data");
        Self {
            detail: Some(Box::new(Detail::Object(detail))),
            ..self
        }
    }

    /// For a person: the error, what to do next, and what else there is to know; every line is ended.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        let mut line = |line: std::fmt::Arguments<'_>| writeln!(text, "{line}").expect("a string takes everything");
        let places = match self.detail.as_deref() {
            Some(Detail::Places { places }) => places.as_slice(),
            Some(Detail::Object(_)) | None => &[],
        };
        for place in places {
            line(format_args!("reuse-ctl: {}", place.title()));
            for excerpt in &place.excerpt {
                line(format_args!("  {excerpt}"));
            }
            if !place.hint.is_empty() {
                line(format_args!("  → {}", place.hint));
            }
        }
        if places.is_empty() {
            line(format_args!("reuse-ctl: {}", self.error));
            if !self.hint.is_empty() {
                line(format_args!("  → {}", self.hint));
            }
        }
        for left in &self.left {
            line(format_args!("  left: {left}"));
        }
        if !self.workers.is_empty() {
            let done: Vec<String> = self.workers.iter().map(u16::to_string).collect();
            line(format_args!("  done all the same: worker {}", done.join(", ")));
        }
        if !self.output.is_empty() {
            line(format_args!("{}", output_heading(self.output_of)));
        }
        for output in &self.output {
            line(format_args!("{OUTPUT_MARK}{output}"));
        }
        text
    }

    /// For a script: one line of JSON.
    pub fn to_json(&self) -> String {
        #[derive(Serialize)]
        struct Json<'a> {
            ok: bool,
            error: &'a str,
            hint: &'a str,
            kind: ErrorKind,
            #[serde(skip_serializing_if = "<[_]>::is_empty")]
            left: &'a [String],
            #[serde(skip_serializing_if = "<[_]>::is_empty")]
            workers: &'a [u16],
            #[serde(skip_serializing_if = "<[_]>::is_empty")]
            output: &'a [String],
            #[serde(skip_serializing_if = "Option::is_none")]
            output_of: Option<OutputOf>,
            #[serde(flatten)]
            detail: Option<&'a Detail>,
        }
        let Self {
            kind,
            error,
            hint,
            left,
            output,
            output_of,
            workers,
            detail,
        } = self;
        serde_json::to_string(&Json {
            ok: false,
            error,
            hint,
            kind: *kind,
            left,
            workers,
            output,
            output_of: *output_of,
            detail: detail.as_deref(),
        })
        .expect("plain data")
    }
}

/// What stands before the last lines of a worker.
pub const OUTPUT_MARK: &str = "    | ";

fn output_heading(of: Option<OutputOf>) -> &'static str {
    match of {
        None => "  the worker's last output:",
        Some(OutputOf::BothInstances) => {
            "  the worker's last output since then (both instances' lines: they share a file):"
        }
        Some(OutputOf::Controller) => "  the controller's last output:",
    }
}

/// The hint where nothing better is known.
pub const SEE_HELP: &str = "see `reuse-ctl --help`";

/// What Rust says of numbers, and what a person would.
const NUMBER_ERRORS: [(&str, &str); 4] = [
    ("invalid digit found in string", "it is not a whole number"),
    ("cannot parse integer from empty string", "it is empty; give a number"),
    ("number too large to fit in target type", "it is too large"),
    ("number too small to fit in target type", "it is too small"),
];

/// Clap's many lines in the house's two.
impl From<&clap::Error> for Failure {
    fn from(error: &clap::Error) -> Self {
        let rendered = error.render().to_string();
        let mut paragraphs = rendered
            .split("\n\n")
            .map(|text| text.split_whitespace().collect::<Vec<_>>().join(" "));
        let message = paragraphs.next().unwrap_or_default();
        let mut message = message.strip_prefix("error: ").unwrap_or(&message).to_owned();
        for (theirs, ours) in NUMBER_ERRORS {
            message = message.replace(theirs, ours);
        }
        let source = std::error::Error::source(error);
        let size_hint = source.and_then(|source| source.downcast_ref::<SizeError>()?.hint());
        let (mut tip, mut usage) = (size_hint, None);
        for paragraph in paragraphs {
            if let Some(text) = paragraph.strip_prefix("tip: ") {
                tip = Some(text.to_owned());
            } else if let Some(text) = paragraph.strip_prefix("Usage: ") {
                usage = Some(format!("usage: {text}"));
            }
        }
        Self::usage(message, tip.or(usage).unwrap_or_else(|| SEE_HELP.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_lines_and_what_else_there_is() {
        let mut failure = Failure::timeout("worker 2 still has connections", "`reuse-ctl undrain 2` takes it back");
        assert_eq!(
            failure.to_text(),
            "reuse-ctl: worker 2 still has connections\n  → `reuse-ctl undrain 2` takes it back\n"
        );
        failure.left = Box::new(["worker 2: 3 connections left (1 queued)".into()]);
        failure.output = vec!["boom".into()];
        failure.workers = Box::new([0, 1]);
        insta::assert_snapshot!(failure.to_text(), @r"
        reuse-ctl: worker 2 still has connections
          → `reuse-ctl undrain 2` takes it back
          left: worker 2: 3 connections left (1 queued)
          done all the same: worker 0, 1
          the worker's last output:
            | boom
        ");
        insta::assert_snapshot!(failure.to_json(), @r#"{"ok":false,"error":"worker 2 still has connections","hint":"`reuse-ctl undrain 2` takes it back","kind":"timeout","left":["worker 2: 3 connections left (1 queued)"],"workers":[0,1],"output":["boom"]}"#);
    }
}
