//! The keys of the file. They are the options of `run`, taken from clap's definition, so that a new option is a key automatically.

use std::any::TypeId;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Command, CommandFactory as _, FromArgMatches as _, parser::ValueSource};

use crate::app::arguments::RunLine;
use crate::app::resolve::resolve;
use crate::{app::arguments::Run, base::toml_text::quoted};

/// Options of `run` that concern the call and not the app. The options of every verb (`--app`, `--json`) are no keys either.
pub(crate) const EXCLUDED: [&str; 7] = [
    "alone",
    "detach",
    "detached",
    "verbose",
    "file",
    "env",
    "variables-on-stdin",
];

/// The option for the app's folder. Its default depends on the current folder.
pub(crate) const CWD: &str = "cwd";

/// The option for watched files and folders.
const WATCH: &str = "watch";

/// The option for the app's name.
pub(crate) const NAME: &str = "name";

/// The kind of value that a key accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `true` or `false`.
    Flag,
    /// A string or a number.
    One,
    /// A string, a number, or a list of them.
    Many,
}

/// A key of the file, and the option it stands for.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    /// The name in the file: `max_memory`.
    pub(crate) name: String,
    /// The name on the command line: `max-memory`.
    pub(crate) long: String,
    pub(crate) kind: Kind,
    /// Whether the value is the path of a file or a folder.
    pub(crate) is_path: bool,
    /// clap's definition of the option.
    pub(crate) argument: Arg,
}

/// All keys.
#[derive(Debug)]
pub(crate) struct Keys {
    run: Command,
    pub(crate) all: Vec<Key>,
}

/// The values of options, by their index in [`Keys::all`]. A flag that is set has an empty text.
pub(crate) type Values = Vec<Vec<OsString>>;

impl Keys {
    pub(crate) fn new() -> Self {
        let arguments = RunLine::command();
        let run = arguments.find_subcommand("run").expect("it is a verb").clone();
        let all = run.get_arguments().filter_map(Key::of).collect();
        Self { run, all }
    }

    /// All keys, in the order of `run --help`.
    pub(crate) fn all(&self) -> &[Key] {
        &self.all
    }

    pub(crate) fn find(&self, name: &str) -> Option<usize> {
        self.all.iter().position(|key| key.name == name)
    }

    /// Empty values.
    pub(crate) fn nothing(&self) -> Values {
        vec![Vec::new(); self.all.len()]
    }

    /// The values typed after `run`, without defaults.
    pub(crate) fn typed(&self, matches: &ArgMatches) -> Values {
        let typed = |key: &Key| {
            let id = key.argument.get_id().as_str();
            if matches.value_source(id) != Some(ValueSource::CommandLine) {
                return Vec::new();
            }
            match key.kind {
                Kind::Flag => vec![OsString::new()],
                Kind::One | Kind::Many => matches.get_raw(id).into_iter().flatten().map(OsStr::to_owned).collect(),
            }
        };
        self.all.iter().map(typed).collect()
    }

    /// The arguments of `run` that give these values, always in the same order.
    pub(crate) fn arguments(&self, values: &Values, command: &[OsString]) -> Vec<OsString> {
        let mut arguments = Vec::new();
        for (key, values) in self.all.iter().zip(values) {
            for value in values {
                let mut argument = OsString::from(format!("--{}", key.long));
                if key.kind != Kind::Flag {
                    argument.push("=");
                    argument.push(value);
                }
                arguments.push(argument);
            }
        }
        arguments.push("--".into());
        arguments.extend(command.iter().cloned());
        arguments
    }

    /// Checks one value by itself, with clap and [`resolve`].
    ///
    /// # Errors
    /// What is wrong and what would be right, in terms of the file.
    pub(crate) fn judge(&self, key: &Key, value: &OsStr) -> Result<(), (String, String)> {
        let mut option = OsString::from(format!("--{}", key.long));
        if key.kind != Kind::Flag {
            option.push("=");
            option.push(value);
        }
        let line = ["run".into(), option, "--".into(), "x".into()];
        let parsed = self
            .run
            .clone()
            .try_get_matches_from(line)
            .and_then(|found| Run::from_arg_matches(&found));
        match parsed.map(resolve) {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(failure)) => Err((
                self.in_words_of_the_file(&failure.error),
                self.in_words_of_the_file(&failure.hint),
            )),
            // Another option is missing. That is checked when all values are known.
            Err(error) if error.kind() == ErrorKind::MissingRequiredArgument => Ok(()),
            Err(error) => Err(self.words_of(key, &error)),
        }
    }
}

impl Key {
    fn of(argument: &Arg) -> Option<Self> {
        let long = argument.get_long()?;
        if EXCLUDED.contains(&long) {
            return None;
        }
        let kind = match argument.get_action() {
            ArgAction::SetTrue => Kind::Flag,
            ArgAction::Append => Kind::Many,
            _ => Kind::One,
        };
        Some(Self {
            name: long.replace('-', "_"),
            long: long.to_owned(),
            kind,
            is_path: argument.get_value_parser().type_id() == TypeId::of::<PathBuf>(),
            argument: argument.clone(),
        })
    }

    /// What a valid value looks like.
    pub(crate) fn hint(&self) -> String {
        let name = &self.name;
        match (self.argument.get_value_names(), self.argument.get_default_values()) {
            _ if self.kind == Kind::Flag => format!("write {name} = true, or leave it out"),
            (_, [default, ..]) => {
                let default = default.to_string_lossy();
                let is_number = default.parse::<u64>().is_ok();
                format!(
                    "the default is {name} = {}",
                    if is_number {
                        default.into_owned()
                    } else {
                        quoted(&default)
                    }
                )
            }
            (Some([shape, ..]), _) => format!("what is meant is {name} = {shape}"),
            _ => "`reuse-ctl run --help` describes it".to_owned(),
        }
    }

    /// The value for the controller. Paths are made absolute, so that it doesn't matter where the controller runs.
    pub(crate) fn absolute(&self, value: OsString, folders: &Folders) -> OsString {
        if !self.is_path || value.is_empty() {
            return value;
        }
        let folder = if self.name == WATCH {
            &folders.working
        } else {
            &folders.here
        };
        absolute(&value, folder).into()
    }
}

/// The folders that relative paths are based on.
#[derive(Debug)]
pub(crate) struct Folders {
    /// The folder of the file, or the one in which a command is typed.
    pub(crate) here: PathBuf,
    /// The app's working folder, for its program and for watched paths.
    pub(crate) working: PathBuf,
}

impl Folders {
    /// The folders for a given value of `cwd`.
    pub(crate) fn new(here: &Path, cwd: Option<&OsStr>) -> Self {
        Self {
            here: here.to_owned(),
            working: cwd.map_or_else(|| here.to_owned(), |cwd| absolute(cwd, here)),
        }
    }
}

/// Makes a path absolute, and removes `.` components. `..` is kept, because a symbolic link may precede it.
pub(crate) fn absolute(path: impl AsRef<Path>, folder: &Path) -> PathBuf {
    let joined = folder.join(path);
    std::path::absolute(&joined).unwrap_or(joined)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_of_run_is_a_key_or_is_excluded() {
        let mut command = RunLine::command();
        command.build();
        let run = command.find_subcommand("run").expect("it is a verb");
        let keys = Keys::new();
        for argument in run.get_arguments().filter(|argument| !argument.is_positional()) {
            let long = argument.get_long().expect("every option of run has a long name");
            let is_key = keys.all().iter().any(|key| key.long == long);
            let is_excluded = EXCLUDED.contains(&long) || ["app", "json", "help"].contains(&long);
            assert!(is_key != is_excluded, "--{long}: key {is_key}, excluded {is_excluded}");
        }
        for excluded in EXCLUDED {
            assert!(
                run.get_arguments()
                    .any(|argument| argument.get_long() == Some(excluded)),
                "{excluded}"
            );
        }
        assert!(keys.all().len() > 40);
    }

    #[test]
    fn kinds_come_from_clap() {
        let keys = Keys::new();
        for (name, kind, is_path) in [
            ("workers", Kind::One, false),
            ("stop_message", Kind::Flag, false),
            ("port", Kind::Many, false),
            ("listen", Kind::Many, false),
            ("cwd", Kind::One, true),
            ("env_file", Kind::Many, true),
            ("watch", Kind::Many, true),
            ("watch_ignore", Kind::Many, false),
        ] {
            let key = &keys.all()[keys.find(name).expect(name)];
            assert_eq!((key.kind, key.is_path), (kind, is_path), "{name}");
        }
    }

    #[test]
    fn values_are_judged_like_options() {
        let keys = Keys::new();
        let judged = |name: &str, value: &str| {
            let key = &keys.all()[keys.find(name).expect(name)];
            keys.judge(key, OsStr::new(value))
                .err()
                .map(|(error, hint)| format!("{error} → {hint}"))
        };
        assert_eq!(judged("workers", "4"), None);
        assert_eq!(judged("watch_ignore", "*.log"), None);
        let wrong = [
            ("workers", "0"),
            ("sticky_prefix4", "33"),
            ("drain_timeout", "30"),
            ("when_empty", "wait"),
            ("listen", "80"),
            ("max_memory", "much"),
            ("cwd", ""),
            ("name", "a/b"),
        ];
        let said: Vec<_> = wrong
            .iter()
            .map(|(name, value)| judged(name, value).expect(name))
            .collect();
        insta::assert_snapshot!("judged_values", said.join("\n"));
    }
}
