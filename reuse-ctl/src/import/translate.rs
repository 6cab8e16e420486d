//! From the options of each app to keys of `reuse.toml`, by the table, with a finding for each.

use std::collections::BTreeSet;
use std::path::Path;

use super::error::ImportError;
use super::options::Options;
use super::report::{Fate, Finding};
use super::surroundings::Surroundings;
use super::table::{self, Place, Row};
use super::toml::{self, App, Item, Variables};
use super::value::Value;
use super::verdict::{OFF, Verdict};
use super::{Imported, apps, command, name, watch};

/// Translates a whole document.
pub(super) fn translate(file: &Path, document: &Value, around: &Surroundings<'_>) -> Result<Imported, ImportError> {
    let label = file.display().to_string();
    let (entries, beside) = apps::find(&label, document)?;
    let (mut written, mut findings, mut names) = (Vec::new(), Vec::new(), BTreeSet::new());
    for entry in entries {
        let options = Options { file: &label, entry };
        let mut draft = Draft::new(options, around);
        draft.translate(&mut names)?;
        findings.extend(draft.findings);
        written.push(draft.app);
    }
    findings.extend(beside);
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    Ok(Imported {
        toml: toml::document(&name, &written),
        findings,
    })
}

/// An app on its way.
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
            let verdict = match table::of_app(written) {
                None => Verdict {
                    fate: Fate::Unknown,
                    key: None,
                    why: Some(apps::unknown(written, table::names_in_apps())),
                },
                Some(_) if *value == Value::Null => Verdict::nothing("it has no value"),
                Some(row) if row.place != Place::App => {
                    let Verdict { why, .. } = Verdict::usual(row);
                    let why = why.unwrap_or_default();
                    Verdict::nothing(format!("PM2 does not take it from a file; {why}"))
                }
                Some(row) if row.option != "env_*" && !self.options.is_the_one(row, written) => {
                    Verdict::nothing(format!("another name of `{}`, which is there as well", row.option))
                }
                Some(row) if row.option != "env_*" && !seen.insert(row.option) => Verdict::nothing("it is there twice"),
                Some(row) => self.option(row, written, value)?,
            };
            self.findings.push(Finding {
                app: Some(name.clone()),
                option: written.clone(),
                fate: verdict.fate,
                key: verdict.key,
                why: verdict.why,
            });
        }
        if command::is_python(&self.made.words) && self.options.text_variable("PYTHONUNBUFFERED").is_none() {
            // As PM2 does: lines would stay in the process otherwise.
            self.app.set_variable("PYTHONUNBUFFERED", "1".into());
        }
        let clash = |(name, _): &&(String, Variables)| self.app.variables.iter().any(|(variable, _)| variable == name);
        match self.app.environments.iter().find(clash) {
            Some((name, _)) => Err(self.options.wrong(
                &format!("env_{name}"),
                format!("`env` has a variable {name:?} already, and both can't be `env.{name}`"),
            )),
            None => Ok(()),
        }
    }

    fn option(&mut self, row: &'static Row, written: &str, value: &'a Value) -> Result<Verdict, ImportError> {
        let usual = || Ok(Verdict::usual(row));
        match row.option {
            "name" => Ok(name::verdict(value, self.app.text("name").unwrap_or_default())),
            "script" => Ok(match self.made.script_note.take() {
                Some(note) => Verdict::changed("command", note),
                None => Verdict::kept("command"),
            }),
            "args" if self.made.drops_arguments => {
                Ok(Verdict::nothing("PM2 does not pass them on when the script has blanks"))
            }
            "exec_interpreter" => Ok(match self.made.interpreter_note.take() {
                Some(note) => Verdict::changed("command", note),
                None => Verdict::kept("command"),
            }),
            "node_args" if self.made.drops_interpreter_arguments => {
                Ok(Verdict::nothing("nothing interprets the script, so nobody takes them"))
            }
            "args" | "node_args" => usual(),
            "source_map_support" => Ok(match (value.truth(), self.made.has_source_maps) {
                (Some(true), true) => Verdict::usual(row),
                (Some(true), false) => Verdict::nothing("it is for Node: other runtimes have their own ways"),
                _ => Verdict::nothing(OFF),
            }),
            "cwd" => {
                let folder = self.options.text(written, value)?;
                self.app.set("cwd", Item::Text(folder));
                usual()
            }
            "instances" => self.instances(written, value),
            "uid" => {
                let user = self.options.word(written, value)?;
                self.app.set("user", Item::Text(user));
                usual()
            }
            "port" => {
                let port = self.options.whole(written, value, 1, 65_535)?;
                // `env` may come later in the file, and PM2 puts this one over it.
                self.app.set_variable("PORT", port.to_string());
                usual()
            }
            "env" => {
                for (name, text) in self.options.variables(written, value)? {
                    if !(name == "PORT" && self.options.value("port").is_some()) {
                        self.app.set_variable(&name, text);
                    }
                }
                usual()
            }
            "env_*" => {
                let name = written.strip_prefix("env_").unwrap_or(written).to_owned();
                let variables = self.options.variables(written, value)?;
                self.app.environments.push((name.clone(), variables));
                Ok(Verdict::kept(&format!("env.{name}")))
            }
            "increment_var" => {
                let name = self.options.text(written, value)?;
                self.app.set("increment_var", Item::Text(name));
                usual()
            }
            "instance_var" => self.instance_variable(row, written, value),
            "wait_ready" | "shutdown_with_message" => self.switch(row, written, value),
            "listen_timeout" | "kill_timeout" | "watch_delay" => self.duration(row, written, value),
            "max_memory_restart" => {
                let size = self.options.size(written, value)?;
                self.app.set("max_memory", Item::Text(size));
                usual()
            }
            "cron_restart" => {
                let pattern = self.options.word(written, value)?;
                if pattern == "0" {
                    return Ok(Verdict::nothing(OFF));
                }
                self.app.set("cron", Item::Text(pattern));
                usual()
            }
            "watch" => {
                let paths = watch::paths(value)
                    .ok_or_else(|| self.options.wrong_kind(written, value, "true, a path or a list"))?;
                if paths.is_empty() {
                    return Ok(Verdict::nothing(OFF));
                }
                self.app.set("watch", Item::List(paths));
                usual()
            }
            "ignore_watch" => self.ignored(row, written, value),
            _ => usual(),
        }
    }
}
