//! Writes a `reuse.toml`. It needs few types of values, so no library is used.

use std::fmt::Write as _;

use crate::base::toml_text::quoted;

/// The keys in the order in which a person would write them; `env` follows as a table.
const ORDER: [&str; 17] = [
    "name",
    "command",
    "cwd",
    "workers",
    "user",
    "env_file",
    "pm2_compat",
    "ready",
    "ready_timeout",
    "stop_message",
    "stop_timeout",
    "max_memory",
    "cron",
    "increment_var",
    "watch",
    "watch_ignore",
    "watch_delay",
];

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Item {
    Text(String),
    Whole(i64),
    Truth(bool),
    List(Vec<String>),
}

/// Variables, by name.
pub(super) type Variables = Vec<(String, String)>;

/// An app to be written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct App {
    keys: Vec<(&'static str, Item)>,
    /// `[env]`.
    pub(super) variables: Variables,
    /// `[env.NAME]`.
    pub(super) environments: Vec<(String, Variables)>,
}

impl App {
    /// Sets a key, replacing an earlier value.
    pub(super) fn set(&mut self, key: &'static str, item: Item) {
        debug_assert!(ORDER.contains(&key), "{key} has no place in the file");
        self.keys.retain(|(name, _)| *name != key);
        self.keys.push((key, item));
    }

    /// The value of a key, if it is a string.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        match self.keys.iter().find(|(name, _)| *name == key) {
            Some((_, Item::Text(text))) => Some(text),
            _ => None,
        }
    }

    /// Sets a variable, replacing an earlier value.
    pub(super) fn set_variable(&mut self, name: &str, value: String) {
        self.variables.retain(|(other, _)| other != name);
        self.variables.push((name.to_owned(), value));
    }

    fn write(&self, text: &mut String, table: &str) {
        for key in ORDER {
            if let Some((_, item)) = self.keys.iter().find(|(name, _)| *name == key) {
                line(text, format_args!("{key} = {}", written(item)));
            }
        }
        if !self.variables.is_empty() {
            line(text, format_args!("\n[{table}env]"));
            variables(text, &self.variables);
        }
        for (name, of_it) in &self.environments {
            line(text, format_args!("\n[{table}env.{}]", key_text(name)));
            variables(text, of_it);
        }
    }
}

/// The whole file: the keys of a single app, or an `[[app]]` table for each of several.
pub(super) fn document(source: &str, apps: &[App]) -> String {
    let source = source.replace(char::is_control, "?");
    let mut text = format!("# From {source}, by `reuse-ctl import`.\n");
    match apps {
        [app] => app.write(&mut text, ""),
        apps => {
            for app in apps {
                line(&mut text, format_args!("\n[[app]]"));
                app.write(&mut text, "app.");
            }
        }
    }
    text
}

fn variables(text: &mut String, variables: &Variables) {
    for (name, value) in variables {
        line(text, format_args!("{} = {}", key_text(name), quoted(value)));
    }
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("a string takes everything");
}

fn written(item: &Item) -> String {
    match item {
        Item::Text(text) => quoted(text),
        Item::Whole(number) => number.to_string(),
        Item::Truth(truth) => truth.to_string(),
        Item::List(items) => {
            let items: Vec<String> = items.iter().map(|item| quoted(item)).collect();
            format!("[{}]", items.join(", "))
        }
    }
}

fn key_text(key: &str) -> String {
    let is_bare = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if !key.is_empty() && key.bytes().all(is_bare) {
        key.to_owned()
    } else {
        quoted(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_app_is_the_file_and_several_are_tables() {
        let mut app = App::default();
        app.set("workers", Item::Whole(2));
        app.set("name", Item::Text("a \"b\"\n\u{1}\\".into()));
        app.set("workers", Item::Text("max".into()));
        app.set("command", Item::List(vec!["node".into(), "ü.js".into()]));
        app.set("pm2_compat", Item::Truth(true));
        app.set_variable("A", "0".into());
        app.set_variable("A", "1".into());
        app.environments
            .push(("pro duction".into(), vec![("b.c".into(), "2".into())]));
        insta::assert_snapshot!(document("x\n.js", &[app.clone()]), @r#"
        # From x?.js, by `reuse-ctl import`.
        name = "a \"b\"\n\u0001\\"
        command = ["node", "ü.js"]
        workers = "max"
        pm2_compat = true

        [env]
        A = "1"

        [env."pro duction"]
        "b.c" = "2"
        "#);
        let two = document("x.js", &[app.clone(), app]);
        assert_eq!(two.matches("\n[[app]]\nname = ").count(), 2, "{two}");
        assert!(two.contains("\n[app.env.\"pro duction\"]\n"), "{two}");
    }
}
