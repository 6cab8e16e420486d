//! Translates the options of each app to keys of `reuse.toml`, by the table, with a finding for each.

use std::collections::BTreeSet;
use std::path::Path;

use super::error::ImportError;
use super::options::Options;
use super::pm2;
use super::report::{Fate, Finding};
use super::surroundings::Surroundings;
use super::table::{self, Becomes, JOB, OptionRow, WrittenIn};
use super::toml::{self, App, Item};
use super::translated::{EMPTY, OFF, Translated};
use super::value::Value;
use super::{Imported, apps, command, name, watch};

/// Translates a whole document.
pub(super) fn translate(file: &Path, document: &Value, around: &Surroundings<'_>) -> Result<Imported, ImportError> {
    let label = file.display().to_string();
    let (entries, beside) = apps::find(&label, document)?;
    let (mut written, mut findings, mut names, mut jobs) = (Vec::new(), Vec::new(), BTreeSet::new(), Vec::new());
    for entry in entries {
        let options = Options { file: &label, entry };
        let mut draft = Draft::new(options, around);
        draft.translate(&mut names)?;
        findings.extend(draft.findings);
        if options.is_job() {
            jobs.extend(draft.app.text("name").map(str::to_owned));
        }
        written.push(draft.app);
    }
    findings.extend(beside);
    let notes = notes(&written, &jobs);
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    Ok(Imported {
        toml: toml::document(&name, &written),
        findings,
        notes,
    })
}

/// Notes about the whole file.
fn notes(apps: &[App], jobs: &[String]) -> Vec<String> {
    let name = |app: &App| app.text("name").unwrap_or_default().to_owned();
    // Whether a script listens can't be determined.
    let silent: Vec<String> = apps
        .iter()
        .filter(|app| app.text("ready").is_none())
        .map(name)
        .collect();
    let mut notes = Vec::new();
    if !silent.is_empty() {
        notes.push(format!(
            "an app that serves no port (such as a queue consumer) only becomes ready with `ready = \"started\"`, which these apps don't have: {}",
            silent.join(", ")
        ));
    }
    if !jobs.is_empty() {
        notes.push(format!(
            "jobs that run and end would be restarted for ever; use cron or a systemd timer and remove them from the file: {}",
            jobs.join(", ")
        ));
    }
    notes
}

/// An app that is being translated.
pub(super) struct Draft<'a> {
    pub(super) options: Options<'a>,
    pub(super) around: &'a Surroundings<'a>,
    pub(super) app: App,
    pub(super) made: command::Made,
    findings: Vec<Finding>,
}

impl<'a> Draft<'a> {
    fn new(options: Options<'a>, around: &'a Surroundings<'a>) -> Self {
        Self {
            options,
            around,
            app: App::default(),
            made: command::Made::default(),
            findings: Vec::new(),
        }
    }

    fn translate(&mut self, names: &mut BTreeSet<String>) -> Result<(), ImportError> {
        let name = name::choose(&self.options, names)?;
        self.app.set("name", Item::Text(name.clone()));
        self.app.set("pm2_compat", Item::Truth(true));
        self.command()?;
        let mut seen = BTreeSet::new();
        for (written, value) in self.options.entry.options {
            let translated = match table::of_app(written) {
                None => Translated {
                    fate: Fate::Unknown,
                    key: None,
                    why: Some(apps::unknown(written, table::names_in_apps())),
                },
                Some(_) if *value == Value::Null => Translated::nothing("it has no value"),
                Some(row) if row.place != WrittenIn::App => {
                    let Translated { why, .. } = Translated::usual(row);
                    let why = why.unwrap_or_default();
                    Translated::nothing(format!("PM2 does not take it from a file; {why}"))
                }
                Some(row) if row.option != "env_*" && !self.options.is_the_one(row, written) => {
                    Translated::nothing(format!("another name of `{}`, which is also given", row.option))
                }
                Some(row) if row.option != "env_*" && !seen.insert(row.option) => {
                    Translated::nothing("it occurs twice")
                }
                Some(row) => self.option(row, written, value)?,
            };
            self.findings.push(Finding {
                app: Some(name.clone()),
                option: written.clone(),
                fate: translated.fate,
                key: translated.key,
                why: translated.why,
            });
        }
        if command::is_python(&self.made.words) && self.options.text_variable("PYTHONUNBUFFERED").is_none() {
            // As PM2 does: otherwise output would stay in the process's buffer.
            self.app.set_variable("PYTHONUNBUFFERED", "1".into());
        }
        Ok(())
    }

    fn option(&mut self, row: &'static OptionRow, written: &str, value: &'a Value) -> Result<Translated, ImportError> {
        let usual = || Ok(Translated::usual(row));
        let has_own_word =
            matches!(row.option, "name" | "script" | "instances") || matches!(row.becomes, Becomes::Nothing(_));
        let is_empty = *value == Value::Text(String::new());
        if is_empty && !has_own_word && pm2::takes(row.option, written, value) {
            return Ok(Translated::nothing(EMPTY));
        }
        match row.option {
            "name" => Ok(name::translated(value, self.app.text("name").unwrap_or_default())),
            "script" => Ok(match self.made.script_note.take() {
                Some(note) => Translated::changed("command", note),
                None => Translated::kept("command"),
            }),
            "args" if self.made.drops_arguments => Ok(Translated::nothing(
                "PM2 does not pass them on when the script has blanks",
            )),
            "exec_interpreter" => Ok(match self.made.interpreter_note.take() {
                Some(note) => Translated::changed("command", note),
                None => Translated::kept("command"),
            }),
            "node_args" if self.made.drops_interpreter_arguments => Ok(Translated::nothing(
                "the script runs without an interpreter, so they have no effect",
            )),
            "args" | "node_args" => usual(),
            "source_map_support" => Ok(match (value.truth(), self.made.has_source_maps) {
                (Some(true), true) => Translated::usual(row),
                (Some(true), false) => Translated::nothing("it is for Node; other runtimes have their own options"),
                _ => Translated::nothing(OFF),
            }),
            "cwd" | "increment_var" => {
                let Value::Text(text) = value else {
                    return self.options.strange(row, written, value, "a text");
                };
                self.app.set(row.option, Item::Text(text.clone()));
                usual()
            }
            "instances" => self.instances(row, written, value),
            "uid" if pm2::is_falsy(value) && pm2::takes(row.option, written, value) => Ok(Translated::nothing(
                "PM2 treats this as no user: workers run as the user chosen by `run`",
            )),
            "uid" => {
                let (Value::Text(_) | Value::Integer(_), Some(user)) = (value, value.word()) else {
                    return self.options.strange(row, written, value, "a name or a number");
                };
                self.app.set("user", Item::Text(user));
                usual()
            }
            "port" => match (self.options.port(), pm2::number(value)) {
                (Some(port), _) => {
                    // `env` may come later in the file, but in PM2 this one has priority.
                    self.app.set_variable("PORT", port);
                    usual()
                }
                (None, Some(_)) => Ok(Translated::nothing(
                    "PM2 does not treat 0 as a port, so PORT is left unchanged",
                )),
                (None, None) => self.options.strange(row, written, value, "a number"),
            },
            "env" => self.environment(row, written, value, None),
            "env_*" => self.environment(row, written, value, written.strip_prefix("env_")),
            "env_file" => self.env_file(row, written, value),
            "autorestart" if self.options.is_job() => Ok(Translated::nothing(JOB)),
            "cron_restart" if self.options.is_job() => Ok(Translated::nothing(JOB)),
            "instance_var" => self.instance_variable(row, written, value),
            "wait_ready" | "shutdown_with_message" => self.switch(row, written, value),
            "listen_timeout" | "kill_timeout" | "watch_delay" => self.duration(row, written, value),
            "max_memory_restart" => self.memory(row, written, value),
            "cron_restart" => {
                let pattern = match value {
                    Value::Text(text) if text != "0" => text,
                    _ if pm2::is_falsy(value) => return Ok(Translated::nothing(OFF)),
                    Value::Text(_) => return Ok(Translated::nothing(OFF)),
                    _ => return self.options.strange(row, written, value, "a cron pattern"),
                };
                self.app.set("cron", Item::Text(pattern.clone()));
                usual()
            }
            "watch" => {
                let Some(paths) = watch::paths(value) else {
                    return self.options.strange(row, written, value, "true, a path or a list");
                };
                if paths.is_empty() {
                    return Ok(Translated::nothing(OFF));
                }
                self.app.set("watch", Item::List(paths));
                usual()
            }
            "ignore_watch" => self.ignored(row, written, value),
            _ => usual(),
        }
    }
}
