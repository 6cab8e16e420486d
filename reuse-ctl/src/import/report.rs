//! What became of each option, as text and as JSON.

use std::fmt::Write as _;

use serde::Serialize;

/// What became of an option in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// The option means the same here.
    Kept,
    /// Another key replaces it.
    Changed,
    /// No key replaces it, because none is needed or possible.
    NotApplicable,
    /// PM2 doesn't know the option either.
    Unknown,
}

impl Fate {
    const fn words(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Changed => "changed",
            Self::NotApplicable => "not applicable",
            Self::Unknown => "unknown",
        }
    }
}

/// One option of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The app's name in `reuse.toml`; `None` for options beside the apps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    /// The option as written in the file.
    pub option: String,
    /// What became of it.
    pub fate: Fate,
    /// The key that replaces it, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The reason, or the difference; `None` if there is nothing to say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// The report as text: what became of each option in `file`, by app, and the notes about the whole file.
pub(crate) fn to_text(file: &str, findings: &[Finding], notes: &[String]) -> String {
    let mut text = format!("{file}: {}\n", summary(findings));
    let wide = findings.iter().map(|finding| route(finding).chars().count()).max();
    let wide = wide.unwrap_or_default().min(44);
    let mut last = None;
    for finding in findings {
        let app = finding.app.as_deref().unwrap_or("beside the apps");
        if last != Some(app) {
            text += &format!("\n{app}\n");
            last = Some(app);
        }
        let why = finding.why.as_deref().unwrap_or_default();
        let line = format!("  {:<14}  {:<wide$}  {why}", finding.fate.words(), route(finding));
        writeln!(text, "{}", line.trim_end()).expect("a string takes everything");
    }
    for (at, note) in notes.iter().enumerate() {
        let before = if at == 0 { "\n" } else { "" };
        writeln!(text, "{before}note: {note}").expect("a string takes everything");
    }
    text
}

/// `kill_timeout → stop_timeout`.
fn route(finding: &Finding) -> String {
    match &finding.key {
        Some(key) if *key != finding.option => format!("{} → {key}", finding.option),
        _ => finding.option.clone(),
    }
}

fn summary(findings: &[Finding]) -> String {
    let count = |fate| findings.iter().filter(|finding| finding.fate == fate).count();
    let parts: Vec<String> = [Fate::Kept, Fate::Changed, Fate::NotApplicable, Fate::Unknown]
        .into_iter()
        .filter(|fate| count(*fate) > 0)
        .map(|fate| format!("{} {}", count(fate), fate.words()))
        .collect();
    let options = findings.len();
    match options {
        1 => format!("1 option: {}", parts.join(", ")),
        _ => format!("{options} options: {}", parts.join(", ")),
    }
}
