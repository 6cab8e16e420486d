//! The specification of an app, in the form in which it is compared and sent to its controller.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use clap::{CommandFactory as _, Parser as _};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::keys::{CWD, Folders, Keys, Values};
use crate::app::arguments::RunLine;
use crate::app::arguments::RunVerb;
use crate::app::resolve::resolve;
use crate::{app::options::RunOptions, base::Failure, process::os_text};

/// An app as a command line.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AppSpec {
    /// The arguments of an equivalent `reuse-ctl run`, with the command after `--`. Paths are absolute.
    #[serde(with = "os_text::list")]
    #[schemars(with = "Vec<os_text::Text>")]
    pub arguments: Vec<OsString>,
    /// Names and values of variables, alternating. They are added to the workers' environment and override those of `--env-file`.
    #[serde(with = "os_text::list")]
    #[schemars(with = "Vec<os_text::Text>")]
    pub variables: Vec<OsString>,
}

impl AppSpec {
    /// The specification typed after `reuse-ctl run` in `folder`. `raw` is the whole command line, which has been parsed already.
    ///
    /// Options are put in a fixed order, and those that only concern this call are dropped (`--detach`, `-v`).
    pub(crate) fn typed(raw: &[OsString], folder: Option<&Path>) -> Self {
        let keys = Keys::new();
        let cwd = keys.find(CWD).expect("an option of run");
        let mut said = Said::read(&keys, raw);
        if let Some(folder) = folder {
            said.make_absolute(&keys, folder, None);
            if said.values[cwd].is_empty() {
                said.values[cwd].push(folder.into());
            }
        }
        Self {
            arguments: keys.arguments(&said.values, &said.command),
            variables: Vec::new(),
        }
    }

    /// The same specification with the typed options (as for [`AppSpec::typed`]) in place of its own.
    pub(crate) fn with_typed(&self, raw: &[OsString], folder: Option<&Path>) -> Self {
        let keys = Keys::new();
        let cwd = keys.find(CWD).expect("an option of run");
        let Said { mut values, command } = Said::read(&keys, &self.line());
        let mut typed = Said::read(&keys, raw);
        if let Some(folder) = folder {
            typed.make_absolute(&keys, folder, values[cwd].first().map(OsString::as_os_str));
        }
        for (own, typed) in values
            .iter_mut()
            .zip(typed.values)
            .filter(|(_, typed)| !typed.is_empty())
        {
            *own = typed;
        }
        Self {
            arguments: keys.arguments(&values, &command),
            variables: self.variables.clone(),
        }
    }

    /// The same app with another command, in this folder.
    pub(crate) fn with_command(&self, command: &[OsString], cwd: &Path) -> Self {
        self.with(&[(CWD, cwd.as_os_str())], Some(command))
    }

    /// The same app with other values of these keys.
    pub(crate) fn with_values(&self, values: &[(&str, &OsStr)]) -> Self {
        self.with(values, None)
    }

    fn with(&self, changed: &[(&str, &OsStr)], command: Option<&[OsString]>) -> Self {
        let keys = Keys::new();
        let mut said = Said::read(&keys, &self.line());
        for (key, value) in changed {
            let at = keys.find(key).expect("an option of run");
            said.values[at] = vec![(*value).to_owned()];
        }
        Self {
            arguments: keys.arguments(&said.values, command.unwrap_or(&said.command)),
            variables: self.variables.clone(),
        }
    }

    /// The keys of the options typed after `run`.
    pub(crate) fn typed_keys(raw: &[OsString]) -> Vec<String> {
        let keys = Keys::new();
        let values = Said::read(&keys, raw).values;
        let typed = keys.all().iter().zip(values).filter(|(_, values)| !values.is_empty());
        typed.map(|(key, _)| key.long.clone()).collect()
    }

    /// The whole command line.
    fn line(&self) -> Vec<OsString> {
        let program = ["reuse-ctl", "run"].map(OsString::from);
        program.into_iter().chain(self.arguments.iter().cloned()).collect()
    }

    /// Converts the specification to options.
    ///
    /// # Errors
    /// Usage, in terms of the command line.
    pub fn resolve(&self) -> Result<RunOptions, Failure> {
        let arguments = RunLine::try_parse_from(self.line()).map_err(|error| Failure::from(&error))?;
        let RunVerb::Run(arguments) = arguments.verb;
        let mut options = resolve(*arguments)?;
        if !self.variables.len().is_multiple_of(2) {
            return Err(Failure::usage(
                "the variables are not names and values in turn",
                r#"give them like ["NAME","value","NAME2","value2"]"#,
            ));
        }
        let pairs = self.variables.chunks_exact(2);
        options.environment.variables = pairs.map(|pair| (pair[0].clone(), pair[1].clone())).collect();
        Ok(options)
    }
}

/// A command line of `run`, by keys.
struct Said {
    values: Values,
    command: Vec<OsString>,
}

impl Said {
    fn read(keys: &Keys, line: &[OsString]) -> Self {
        let matches = RunLine::command()
            .try_get_matches_from(line)
            .expect("it was parsed already");
        let matches = matches.subcommand_matches("run").expect("it is a run");
        let values = keys.typed(matches);
        let command = matches
            .get_raw("command")
            .into_iter()
            .flatten()
            .map(OsStr::to_owned)
            .collect();
        Self { values, command }
    }

    /// Makes paths absolute. `folder` is where the line was typed, `cwd` the working folder unless one was given.
    fn make_absolute(&mut self, keys: &Keys, folder: &Path, cwd: Option<&OsStr>) {
        let typed = keys.find(CWD).and_then(|cwd| self.values[cwd].first());
        let folders = Folders::new(folder, typed.map(OsString::as_os_str).or(cwd));
        for (key, values) in keys.all().iter().zip(&mut self.values) {
            for value in values {
                *value = key.absolute(std::mem::take(value), &folders);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_changed_is_said_in_the_place_of_what_was() {
        let words = |text: &str| text.split(' ').map(OsString::from).collect::<Vec<_>>();
        let spec = AppSpec {
            arguments: words("--name=web --workers=3 --cwd=/srv -- node server.js --workers 9"),
            variables: words("A 1"),
        };
        let changed = spec
            .with_command(&words("bun x -- y"), Path::new("/srv/v2"))
            .with_values(&[("workers", OsStr::new("5")), ("policy", OsStr::new("hash"))]);
        let expected = words("--name=web --workers=5 --policy=hash --cwd=/srv/v2 -- bun x -- y");
        assert_eq!(changed.arguments, expected);
        assert_eq!(changed.variables, spec.variables);
        assert_eq!(spec.with_values(&[]), spec);
    }

    #[test]
    fn a_specification_is_judged_like_a_command_line() {
        let words = |text: &str| text.split(' ').map(OsString::from).collect::<Vec<_>>();
        let spec = AppSpec {
            arguments: words("--name web --workers 3 -- node server.js"),
            variables: words("A 1 B 2"),
        };
        let options = spec.resolve().expect("right");
        assert_eq!((options.name.as_str(), options.workers), ("web", 3));
        assert_eq!(options.environment.variables[1], ("B".into(), "2".into()));
        let json = serde_json::to_string(&spec).expect("text");
        assert_eq!(serde_json::from_str::<AppSpec>(&json).expect("its own"), spec);
        let wrong = AppSpec {
            arguments: words("--workers 0 -- x"),
            ..AppSpec::default()
        };
        assert!(wrong.resolve().expect_err("none").error.contains("--workers 0"));
        let odd = AppSpec {
            variables: words("A 1 B"),
            ..spec
        };
        assert!(odd.resolve().expect_err("no value").error.contains("in turn"));
    }
}
