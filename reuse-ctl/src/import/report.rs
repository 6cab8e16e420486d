//! What became of each option, for a person and for a script.

use std::fmt::Write as _;

use serde::Serialize;

/// What became of an option of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It means the same here.
    Kept,
    /// Something else stands for it.
    Changed,
    /// Nothing stands for it, and nothing needs to, or can.
    NotApplicable,
    /// PM2 does not know it either.
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
    /// Of which app, by its name in `reuse.toml`; absent for what stands beside the apps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    /// As it is written in the file.
    pub option: String,
    /// What became of it.
    pub fate: Fate,
    /// The key that stands for it, if one does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Why, or what is different; absent where there is nothing to say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// For a person: what became of each option of `file`, by app, and what is to be known of the whole.
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
