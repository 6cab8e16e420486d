//! Options whose translation needs more than the table.

use std::path::Path;

use super::{
    command::{self, Wanted},
    error::ImportError,
    pm2,
    surroundings::ScriptFile,
    table::{Becomes, OptionRow},
    toml::Item,
    translate::Draft,
    translated::{OFF, Translated},
    value::Value,
    watch,
};
use crate::base::MAX_WORKERS;

impl<'a> Draft<'a> {
    pub(super) fn command(&mut self) -> Result<(), ImportError> {
        let Some((written, script)) = self.options.found("script") else {
            return Err(self
                .options
                .wrong("script", "it is missing: nothing says what is to run"));
        };
        let script = self.options.text("script", written, script)?;
        let interpreter = match self.options.found("exec_interpreter") {
            // PM2 treats empty and false values as if the option were absent.
            None => None,
            Some((_, value)) if pm2::is_falsy(value) => None,
            Some((written, value)) => Some(self.options.text("interpreter", written, value)?),
        };
        let folder = self.options.value("cwd").and_then(Value::word).unwrap_or_default();
        let look = |path: &Path| (self.around.look)(&Path::new(&folder).join(path));
        if script == "serve" && interpreter.is_none() && look(Path::new("serve")) == ScriptFile::Absent {
            self.serve();
        } else {
            let wanted = Wanted {
                script: &script,
                arguments: &self.options.words("args")?,
                interpreter: interpreter.as_deref(),
                interpreter_arguments: &self.options.words("node_args")?,
                source_maps: self.options.value("source_map_support").and_then(Value::truth) == Some(true),
            };
            self.made = command::make(&wanted, &look);
        }
        self.app.set("command", Item::List(self.made.words.clone()));
        Ok(())
    }

    /// PM2's built-in file server.
    pub(super) fn serve(&mut self) {
        let folder = self
            .options
            .text_variable("PM2_SERVE_PATH")
            .unwrap_or_else(|| ".".into());
        let port = self
            .options
            .text_variable("PM2_SERVE_PORT")
            .unwrap_or_else(|| "8080".into());
        let words = [
            "python3",
            "-m",
            "http.server",
            port.as_str(),
            "--directory",
            folder.as_str(),
        ];
        self.made.words = words.map(str::to_owned).to_vec();
        self.made.script_note = Some(
            "PM2's own server of files is not here; Python's is in its place, without its password and single-page mode"
                .into(),
        );
    }

    pub(super) fn instances(
        &mut self,
        row: &OptionRow,
        written: &str,
        value: &Value,
    ) -> Result<Translated, ImportError> {
        let all = self.around.processors;
        let number = match value {
            Value::Text(text) if text == "max" => Some(0.0),
            Value::Text(text) => Some(pm2::leading_number(text)),
            other => pm2::number(other).filter(|number| number.is_finite()),
        };
        let Some(number) = number else {
            return self.options.strange(row, written, value, "a whole number or \"max\"");
        };
        #[expect(
            clippy::cast_possible_truncation,
            reason = "PM2 cuts it, too, and too large is as large as can be"
        )]
        let count = number as i64;
        let most = i64::from(MAX_WORKERS);
        Ok(match count {
            0 => {
                self.app.set("workers", Item::Text("max".into()));
                match value {
                    Value::Text(text) if text != "max" && text != "0" => Translated::changed(
                        "workers",
                        format!("{text:?} is 0 to PM2, which is one for each processor"),
                    ),
                    _ => Translated::kept("workers"),
                }
            }
            1.. if count <= most => {
                self.app.set("workers", Item::Whole(count));
                Translated::kept("workers")
            }
            1.. => {
                self.app.set("workers", Item::Whole(most));
                Translated::changed("workers", format!("the maximum is {most}"))
            }
            fewer => {
                let count = all.saturating_add(fewer).clamp(1, most);
                self.app.set("workers", Item::Whole(count));
                let why =
                    format!("{fewer} is {count} on this machine, which has {all} processors; here it is a number");
                Translated::changed("workers", why)
            }
        })
    }

    pub(super) fn memory(&mut self, row: &OptionRow, written: &str, value: &Value) -> Result<Translated, ImportError> {
        const WANTED: &str = "a number of bytes, or one with K, M or G: \"300M\"";
        if pm2::is_forgotten(row.option, written, value) {
            return Ok(Translated::nothing(OFF));
        }
        if !pm2::takes(row.option, written, value) {
            return self.options.strange(row, written, value, WANTED);
        }
        let text = match (pm2::number(value), value) {
            (Some(number), _) if number >= 1.0 && number < 2_f64.powi(60) => format!("{:.0}", number.trunc()),
            (None, Value::Text(text)) if !text.trim_start_matches('0').starts_with(['G', 'M', 'K']) => text.clone(),
            _ => {
                let why =
                    "PM2 would always find it exceeded and restart the worker every 30 s, which can't be intended";
                return Ok(Translated::nothing(why));
            }
        };
        self.app.set("max_memory", Item::Text(text));
        Ok(Translated::usual(row))
    }

    pub(super) fn instance_variable(
        &mut self,
        row: &OptionRow,
        written: &str,
        value: &Value,
    ) -> Result<Translated, ImportError> {
        let Value::Text(name) = value else {
            return self.options.strange(row, written, value, "a text");
        };
        if name == "NODE_APP_INSTANCE" {
            return Ok(Translated::nothing("every worker has NODE_APP_INSTANCE in any case"));
        }
        if self.options.value("increment_var").is_some() {
            let why = "`increment_var` has the only place for it; NODE_APP_INSTANCE has the worker's number";
            return Ok(Translated::nothing(why));
        }
        self.app.set("increment_var", Item::Text(format!("{name}=0")));
        Ok(Translated::usual(row))
    }

    pub(super) fn switch(&mut self, row: &OptionRow, written: &str, value: &Value) -> Result<Translated, ImportError> {
        match value.truth() {
            Some(false) => return Ok(Translated::nothing(OFF)),
            Some(true) => {}
            None if pm2::is_falsy(value) => return Ok(Translated::nothing(OFF)),
            None => return self.options.strange(row, written, value, "true or false"),
        }
        if row.option == "wait_ready" {
            self.app.set("ready", Item::Text("ipc".into()));
        } else {
            self.app.set("stop_message", Item::Truth(true));
        }
        Ok(Translated::usual(row))
    }

    pub(super) fn duration(
        &mut self,
        row: &OptionRow,
        written: &str,
        value: &Value,
    ) -> Result<Translated, ImportError> {
        let number = match pm2::number(value) {
            Some(number) => number,
            None if pm2::is_falsy(value) => 0.0,
            None => return self.options.strange(row, written, value, "a number of milliseconds"),
        };
        let default = match row.option {
            "kill_timeout" => Some("PM2 treats 0 as its default, 1,600 ms, which `pm2_compat` uses too"),
            "listen_timeout" => Some("PM2 treats 0 as its default, 3 s; here the default is 30 s"),
            _ => None,
        };
        if let Some(why) = default.filter(|_| number == 0.0 || number.is_nan()) {
            return Ok(Translated::nothing(why));
        }
        if !(0.0..2_147_483_648.0).contains(&number) {
            let why = format!(
                "nobody can wait for {} ms: PM2 waits for 1",
                Value::number(number).word().unwrap_or_default()
            );
            return Ok(Translated::nothing(why));
        }
        #[expect(clippy::cast_possible_truncation, reason = "it was just seen to be small")]
        let time_ms = number.ceil() as i64;
        let text = match time_ms % 1000 {
            0 => format!("{}s", time_ms / 1000),
            _ => format!("{time_ms}ms"),
        };
        let (Becomes::Kept(key) | Becomes::Changed(key, _)) = row.becomes else {
            unreachable!("these have keys")
        };
        if key == "watch_delay" && !self.options.is_watched() {
            return Ok(Translated::nothing("nothing is watched"));
        }
        self.app.set(key, Item::Text(text));
        Ok(Translated::usual(row))
    }

    pub(super) fn ignored(&mut self, row: &OptionRow, written: &str, value: &Value) -> Result<Translated, ImportError> {
        if !self.options.is_watched() {
            return Ok(Translated::nothing("nothing is watched"));
        }
        let Some(ignored) = watch::ignored(value) else {
            return self
                .options
                .strange(row, written, value, "a text, a regular expression, or a list of them");
        };
        let lost = ignored.lost.join("/, /");
        if ignored.globs.is_empty() {
            return Ok(Translated::nothing(match lost.as_str() {
                "" => "the list is empty".to_owned(),
                lost => format!("/{lost}/ can't be translated to a glob: write one as `watch_ignore`"),
            }));
        }
        self.app.set("watch_ignore", Item::List(ignored.globs));
        Ok(match lost.as_str() {
            "" => Translated::usual(row),
            lost => Translated::changed(
                "watch_ignore",
                format!("without /{lost}/, which can't be translated to a glob"),
            ),
        })
    }
}
