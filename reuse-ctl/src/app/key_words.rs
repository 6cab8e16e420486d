//! Texts about keys, in terms of the file. clap and `run` speak of options instead.

use clap::error::{ContextKind, ContextValue};

use crate::{
    app::keys::{Key, Keys},
    base::{Failure, nearest::nearest, sizes::SizeError},
};

impl Keys {
    /// What clap says about a value, without naming the option.
    pub(crate) fn words_of(&self, key: &Key, error: &clap::Error) -> (String, String) {
        let (name, hint) = (&key.name, key.hint());
        if let Some(source) = std::error::Error::source(error) {
            let own_hint = source.downcast_ref::<SizeError>().and_then(SizeError::hint);
            return (format!("`{name}`: {source}"), own_hint.unwrap_or(hint));
        }
        match error.get(ContextKind::ValidValue) {
            Some(ContextValue::Strings(valid)) if !valid.is_empty() => (
                match error.get(ContextKind::InvalidValue) {
                    Some(ContextValue::String(value)) => format!("`{name}` can't be {value:?}"),
                    _ => format!("`{name}` can't be that"),
                },
                format!("use one of {}", valid.join(", ")),
            ),
            Some(_) => (format!("`{name}` is empty"), hint),
            None => {
                let failure = Failure::from(error);
                (self.in_words_of_the_file(&failure.error), hint)
            }
        }
    }

    /// Replaces options by keys: `--max-memory` becomes `max_memory`.
    pub(crate) fn in_words_of_the_file(&self, text: &str) -> String {
        let mut words = String::new();
        let mut rest = text;
        while let Some(at) = rest.find("--") {
            let (before, option) = rest.split_at(at);
            words.push_str(before);
            let length = option[2..]
                .find(|letter: char| !is_option_letter(letter))
                .map_or(option.len(), |end| end + 2);
            let (option, after) = option.split_at(length);
            match self.all.iter().find(|key| key.long == option[2..]) {
                Some(key) => words.push_str(&key.name),
                None => words.push_str(option),
            }
            rest = after;
        }
        words.push_str(rest);
        words
    }

    /// The keys whose options the text names.
    pub(crate) fn spoken_of(&self, text: &str) -> Vec<usize> {
        let options = text.match_indices("--").map(|(at, _)| {
            let name = &text[at + 2..];
            &name[..name
                .find(|letter: char| !is_option_letter(letter))
                .unwrap_or(name.len())]
        });
        options
            .filter_map(|option| self.all.iter().position(|key| key.long == option))
            .collect()
    }

    /// The known name that the user may have meant, if one is similar.
    pub(crate) fn nearest<'a>(&'a self, name: &str, others: &[&'a str]) -> Option<&'a str> {
        let known = self.all.iter().map(|key| key.name.as_str());
        let foreign = FOREIGN.iter().map(|(foreign, _)| *foreign);
        let found = nearest(name, known.chain(others.iter().copied()).chain(foreign))?;
        let meant = FOREIGN.iter().find(|(foreign, _)| *foreign == found);
        Some(meant.map_or(found, |(_, meant)| meant))
    }
}

/// Names that users know from other programs, and that similarity would not find.
const FOREIGN: [(&str, &str); 9] = [
    ("instances", "workers"),
    ("processes", "workers"),
    ("script", "command"),
    ("cmd", "command"),
    ("exec", "command"),
    ("cron_restart", "cron"),
    ("max_memory_restart", "max_memory"),
    ("kill_timeout", "stop_timeout"),
    ("environment", "env"),
];

fn is_option_letter(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '-'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_names_have_a_nearest_one() {
        let keys = Keys::new();
        for (name, nearest) in [
            ("worker", Some("workers")),
            ("max-memory", Some("max_memory")),
            ("max_memory_restart", Some("max_memory")),
            ("Ports", Some("port")),
            ("instances", Some("workers")),
            ("comand", Some("command")),
            ("max_mem", Some("max_memory")),
            ("proceses", Some("workers")),
            ("killTimeout", Some("stop_timeout")),
            ("enviroment", Some("env")),
            ("zzz", None),
        ] {
            assert_eq!(keys.nearest(name, &["command", "env"]), nearest, "{name}");
        }
        for key in keys.all() {
            assert_eq!(keys.nearest(&key.long, &[]), Some(&*key.name));
        }
    }

    #[test]
    fn options_are_spoken_of_as_keys() {
        let keys = Keys::new();
        let text = "--health-interval is at least 10ms, and --health-timeout more; --nonsense -- x";
        let words = "health_interval is at least 10ms, and health_timeout more; --nonsense -- x";
        assert_eq!(keys.in_words_of_the_file(text), words);
        let spoken: Vec<&str> = keys
            .spoken_of(text)
            .into_iter()
            .map(|key| keys.all()[key].name.as_str())
            .collect();
        assert_eq!(spoken, ["health_interval", "health_timeout"]);
    }
}
