//! The reports' common frame: where they go, what stands at the top, how targets and predictions are told, and the index.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;

use crate::machine::Machine;

/// What every scenario is told.
#[derive(Debug, Clone, Args)]
pub(crate) struct Setting {
    /// The folder of the report and its plots
    #[arg(long)]
    pub(crate) output: PathBuf,
    /// The commit that was built
    #[arg(long, default_value = "unknown")]
    pub(crate) revision: String,
    /// The day, as it is to stand in the report
    #[arg(long, default_value = "unknown")]
    pub(crate) date: String,
    /// A short run that shows whether everything works
    #[arg(long)]
    pub(crate) quick: bool,
}

/// One line of the table of targets.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) what: String,
    pub(crate) goal: String,
    pub(crate) measured: String,
    /// `None` when the samples do not decide it.
    pub(crate) reached: Option<bool>,
}

/// A report in the making.
#[derive(Debug)]
pub(crate) struct Document {
    scenario: &'static str,
    title: &'static str,
    machine: Machine,
    pub(crate) text: String,
    pub(crate) targets: Vec<Target>,
}

/// Under this the index finds the targets of each report.
const TARGETS: &str = "## Targets";
const TARGETS_HEAD: &str = "| case | must be | measured | |\n|---|---|---|---|\n";

impl Document {
    /// Before the measurement begins: how busy the machine is then stands in the report.
    pub(crate) fn begin(scenario: &'static str, title: &'static str) -> anyhow::Result<Self> {
        Ok(Self {
            scenario,
            title,
            machine: Machine::describe()?,
            text: String::new(),
            targets: Vec::new(),
        })
    }

    /// Adds text, with a blank line after it.
    pub(crate) fn paragraph(&mut self, text: &str) {
        self.text.push_str(text);
        self.text.push_str("\n\n");
    }

    /// Adds a table.
    pub(crate) fn table(&mut self, head: &[&str], rows: &[Vec<String>]) {
        let line = |cells: String| format!("| {cells} |\n");
        self.text.push_str(&line(head.join(" | ")));
        self.text.push_str(&format!("|{}\n", "---|".repeat(head.len())));
        for row in rows {
            self.text.push_str(&line(row.join(" | ")));
        }
        self.text.push('\n');
    }

    /// Writes it.
    ///
    /// # Errors
    /// When the file can't be written.
    pub(crate) fn finish(self, setting: &Setting) -> anyhow::Result<()> {
        let Self {
            scenario,
            title,
            machine,
            text,
            targets,
        } = self;
        let machine = machine.measured()?;
        let quick = if setting.quick { " --quick" } else { "" };
        let mut report = format!(
            "# {title}\n\nWritten by `cargo xtask bench {scenario}{quick}` on {} at commit {}. Predictions were written down before the first \
             run (`tests/src/bench/predictions.rs`). Two noisy cores: ratios within this run mean something, absolute numbers are this machine's, on this day.\n\n{machine}\n",
            setting.date, setting.revision
        );
        if !targets.is_empty() {
            report.push_str(&self::targets(&targets));
            report.push('\n');
        }
        report.push_str(&text);
        let report = report.trim_end().to_owned() + "\n";
        write(&setting.output.join(format!("{scenario}.md")), &report)?;
        print!("{report}");
        Ok(())
    }
}

/// The section about them.
pub(crate) fn targets(targets: &[Target]) -> String {
    let rows = targets.iter().map(|target| {
        let Target {
            what, goal, measured, ..
        } = target;
        format!("| {what} | {goal} | {measured} | {} |\n", reached(target.reached))
    });
    [format!("{TARGETS}\n\n{TARGETS_HEAD}")]
        .into_iter()
        .chain(rows)
        .collect()
}

/// How a target is told.
pub(crate) fn reached(reached: Option<bool>) -> &'static str {
    match reached {
        Some(true) => "reached",
        Some(false) => "**not reached**",
        None => "undecided",
    }
}

/// How a prediction is told.
pub(crate) fn foretold(hit: bool) -> &'static str {
    if hit { "as predicted" } else { "**prediction missed**" }
}

/// Writes a file of the report.
pub(crate) fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(path, text).with_context(|| format!("write {}", path.display()))?;
    eprintln!("==> written to {}", path.display());
    Ok(())
}

/// The reports in the order of the index, and what each is about.
const REPORTS: [(&str, &str); 5] = [
    (
        "steering",
        "what the program in the kernel costs: connection rate and nanoseconds per selection",
    ),
    (
        "mixed",
        "latency and spread with short and long requests, against everything else that people use",
    ),
    ("hung", "one of four workers stopped for ten seconds"),
    ("reload", "failures and latency while all workers are replaced"),
    ("idle", "what the controller takes when nothing happens"),
];

/// Writes the index of the reports that are there, with the targets of all of them.
///
/// # Errors
/// When a file can't be read or written.
pub(crate) fn index(folder: &Path) -> anyhow::Result<()> {
    let mut list = String::new();
    let mut targets = String::new();
    for (scenario, about) in REPORTS {
        let Ok(report) = fs::read_to_string(folder.join(format!("{scenario}.md"))) else {
            continue;
        };
        writeln!(
            list,
            "- [{scenario}]({scenario}.md): {about}. `cargo xtask bench {scenario}`"
        )
        .context("format")?;
        targets.push_str(&targets_of(&report));
    }
    let text = format!(
        "# Benchmarks\n\n\
         `sudo -E env PATH=$PATH cargo xtask bench` builds, installs what is compared with (from Debian's and npm's packages), measures \
         everything in about a quarter of an hour, and writes these files; `cargo xtask bench SCENARIO` does one, `--quick` a short one \
         that leaves these files alone (`target/bench-quick/`). It needs root and takes a network namespace of its own.\n\n{list}\n\
         ## How it is measured\n\n\
         - Predictions stand in `tests/src/bench/predictions.rs` and were written down before the first run; a miss is reported as a miss.\n\
         - The load is open-loop: one connection per request at Poisson moments that were fixed beforehand, latency from the *intended* moment, so \
         that who waits for a stopped server is counted (no coordinated omission). All that are compared meet the same arrivals.\n\
         - Rounds are interleaved, their order rotates, and ratios are taken within a round: these are machines with two noisy cores, so ratios \
         inside one run mean something, absolute numbers do not.\n\
         - The machine stands at the top of each report.\n\n\
         {TARGETS}\n\n{TARGETS_HEAD}{targets}"
    );
    write(&folder.join("README.md"), &text)
}

/// The rows of a report's table of targets.
fn targets_of(report: &str) -> String {
    let rows = report
        .split_once(&format!("{TARGETS}\n\n{TARGETS_HEAD}"))
        .map(|(_, rows)| rows);
    rows.unwrap_or_default()
        .lines()
        .take_while(|line| line.starts_with('|'))
        .map(|line| format!("{line}\n"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_finds_the_targets_of_a_report() {
        let report = format!(
            "# A\n\n{TARGETS}\n\n{TARGETS_HEAD}| a | b | c | reached |\n| d | e | f | undecided |\n\n| no | target |\n"
        );
        assert_eq!(
            targets_of(&report),
            "| a | b | c | reached |\n| d | e | f | undecided |\n"
        );
        assert_eq!(targets_of("# B\n"), "");
    }

    #[test]
    fn a_table_is_markdown() {
        let mut document = Document::begin("x", "X").expect("this machine");
        document.table(&["a", "b"], &[vec!["1".to_owned(), "2".to_owned()]]);
        assert_eq!(document.text, "| a | b |\n|---|---|\n| 1 | 2 |\n\n");
    }
}
