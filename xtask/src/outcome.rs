//! Reads what cargo and libtest print, so that a long run can be closed with its results alone.

use std::fmt;

/// What a run of `cargo test` printed of its results.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// One for each test binary that came to its end.
    pub(crate) binaries: Vec<Binary>,
    /// The tests that failed.
    pub(crate) failures: Vec<Failure>,
}

/// A test that failed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) test: String,
    pub(crate) binary: String,
    /// The last lines that it printed before its backtrace.
    pub(crate) last_lines: Vec<String>,
}

/// A test binary's closing line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Binary {
    /// As cargo announces it: `tests/drain.rs (target/debug/deps/drain-…)`.
    pub(crate) name: String,
    /// libtest's own words: `test result: ok. 3 passed; …`.
    pub(crate) closing_line: String,
}

impl Outcome {
    /// Picks the results out of everything that was printed.
    pub(crate) fn read<'a>(lines: impl IntoIterator<Item = &'a str>) -> Self {
        let mut outcome = Self::default();
        let mut current = "";
        // What a test printed comes after all results of its binary.
        let mut speaker: Option<usize> = None;
        for line in lines.into_iter().map(str::trim) {
            let block = line
                .strip_prefix("---- ")
                .and_then(|rest| rest.strip_suffix(" stdout ----"));
            if let Some(test) = block {
                let is_it = |failure: &Failure| failure.test == test && failure.binary == current;
                speaker = outcome.failures.iter().position(is_it);
            } else if line == "failures:" || line == "stack backtrace:" {
                speaker = None;
            } else if let Some(at) = speaker {
                outcome.failures[at].add(line);
            } else if let Some(name) = line.strip_prefix("Running ") {
                current = name;
            } else if line.starts_with("Doc-tests ") {
                current = line;
            } else if line.starts_with("test result: ") {
                outcome.binaries.push(Binary {
                    name: current.to_owned(),
                    closing_line: line.to_owned(),
                });
            } else if let Some(test) = line
                .strip_prefix("test ")
                .and_then(|rest| rest.strip_suffix(" ... FAILED"))
            {
                outcome.failures.push(Failure {
                    test: test.to_owned(),
                    binary: current.to_owned(),
                    last_lines: Vec::new(),
                });
            }
        }
        outcome
    }

    /// The tests that ran, passed or not.
    pub(crate) fn ran(&self) -> u64 {
        self.binaries
            .iter()
            .map(|binary| count(&binary.closing_line, "passed") + count(&binary.closing_line, "failed"))
            .sum()
    }
}

/// So many lines of each failed test are shown again at the end.
const SHOWN: usize = 30;

impl Failure {
    fn add(&mut self, line: &str) {
        if !line.is_empty() {
            if self.last_lines.len() == SHOWN {
                self.last_lines.remove(0);
            }
            self.last_lines.push(line.to_owned());
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for binary in &self.binaries {
            if count(&binary.closing_line, "passed") + count(&binary.closing_line, "failed") > 0 {
                writeln!(formatter, "    {}\n        {}", binary.name, binary.closing_line)?;
            }
        }
        for failure in &self.failures {
            writeln!(formatter, "    FAILED: {} in {}", failure.test, failure.binary)?;
            for line in &failure.last_lines {
                writeln!(formatter, "        | {line}")?;
            }
        }
        Ok(())
    }
}

/// The number before `word` in `test result: FAILED. 3 passed; 1 failed; …`; 0 when it is not there.
fn count(closing_line: &str, word: &str) -> u64 {
    closing_line
        .split(['.', ';'])
        .find_map(|part| part.trim().strip_suffix(word)?.trim().parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str = "   Compiling reuse-tests v0.1.0
     Running unittests src/lib.rs (target/debug/deps/reuse_tests-1)

running 2 tests
test wait::tests::a ... ok
test test result: odd name ... ok

test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 1 filtered out; finished in 0.00s

     Running tests/drain.rs (target/debug/deps/drain-2)
test drains ... FAILED

failures:

---- drains stdout ----

thread 'drains' (7) panicked at tests/drain.rs:9:5:
2 left
stack backtrace:
   0: __rustc::rust_begin_unwind

failures:
    drains

test result: FAILED. 10 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 7.01s
error: test failed, to rerun pass `-p reuse-tests --test drain`
   Doc-tests reuse_tests
test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s";

    #[test]
    fn each_binary_keeps_its_own_closing_line() {
        let outcome = Outcome::read(PRINTED.lines());
        let names: Vec<&str> = outcome.binaries.iter().map(|binary| binary.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "unittests src/lib.rs (target/debug/deps/reuse_tests-1)",
                "tests/drain.rs (target/debug/deps/drain-2)",
                "Doc-tests reuse_tests"
            ]
        );
        assert_eq!(outcome.ran(), 13);
        let failure = Failure {
            test: "drains".into(),
            binary: "tests/drain.rs (target/debug/deps/drain-2)".into(),
            last_lines: vec![
                "thread 'drains' (7) panicked at tests/drain.rs:9:5:".into(),
                "2 left".into(),
            ],
        };
        assert_eq!(outcome.failures, [failure]);
    }

    #[test]
    fn the_summary_leaves_out_what_ran_nothing() {
        let shown = Outcome::read(PRINTED.lines()).to_string();
        assert!(shown.contains("FAILED. 10 passed; 1 failed"), "{shown}");
        assert!(!shown.contains("Doc-tests"), "{shown}");
    }

    #[test]
    fn a_run_that_did_not_compile_ran_nothing() {
        assert_eq!(Outcome::read(["error: could not compile `reuse-ctl`"]).ran(), 0);
    }
}
