//! The host checks: requirements of the apps that this host does not meet, each with its place in the file.

use std::ops::Range;

use super::{
    Loaded, NamedSpec,
    parsed::ParsedApp,
    source::{Problem, SourceError},
};
use crate::{
    app::{
        keys::{CWD, Keys},
        requirements::{Extent, Missing, missing},
    },
    base::Failure,
    process::{command::CommandError, env_file::EnvFileError, variables::VariablesError},
};

/// The hint for paths relative to the file's folder.
const OF_THE_FILE: &str = "paths are relative to the folder of this file";

/// The hint for paths relative to `cwd`.
const OF_CWD: &str = "paths are relative to `cwd`, which is the folder of this file unless it is said";

impl Loaded {
    /// Checks the apps on this machine, each as far as `extent` says, or not at all. Whatever depends on one of the options in `elsewhere`
    /// (given without hyphens) is not checked, because a value from outside the file counts there.
    ///
    /// A requirement that this user may not look at is no error. Returns one line for each of those.
    ///
    /// # Errors
    /// Usage, with everything that is missing, each with its place.
    pub fn judge(
        &self,
        extent: impl Fn(&NamedSpec) -> Option<Extent>,
        elsewhere: &[String],
    ) -> Result<Vec<String>, Failure> {
        let is_root = nix::unistd::geteuid().is_root();
        let (mut problems, mut unseen) = (Vec::new(), Vec::new());
        let options = self.options.iter().zip(&self.content.apps);
        for (app, (options, parsed)) in self.apps.iter().zip(options) {
            let Some(extent) = extent(app) else { continue };
            let place = Positions {
                parsed,
                keys: &self.content.keys,
                environment: self.environment.as_deref(),
            };
            for one in missing(options, extent) {
                if keys_of(&one).iter().any(|key| elsewhere.iter().any(|long| long == key)) {
                    continue;
                }
                let problem = place.problem(&one);
                if one.is_denied() && !is_root {
                    unseen.push(self.source.position(problem).title());
                } else {
                    problems.push(problem);
                }
            }
        }
        if problems.is_empty() {
            Ok(unseen)
        } else {
            Err(self.source.refuse(problems))
        }
    }
}

/// The options that the requirement follows from.
fn keys_of(missing: &Missing) -> &'static [&'static str] {
    match missing {
        Missing::Folder { .. } | Missing::Command { .. } => &[CWD],
        Missing::EnvFile { .. } => &["env-file"],
        Missing::Variables(_) => &["env-file", "port-step", "workers"],
        Missing::User(_) => &["user"],
        Missing::Group(_) => &["control-group"],
        Missing::Watch { .. } => &["watch"],
        Missing::Journal(_) => &["log"],
    }
}

/// The places of an app's options in the file.
struct Positions<'a> {
    parsed: &'a ParsedApp,
    keys: &'a Keys,
    environment: Option<&'a str>,
}

impl Positions<'_> {
    fn problem(&self, missing: &Missing) -> Problem {
        let (error, hint) = self.words(missing);
        Problem::new(self.of(missing).clone(), error, hint)
    }

    fn of(&self, missing: &Missing) -> &Range<usize> {
        let key = |name, number| self.parsed.place_of(self.keys, name, number);
        let said = match missing {
            Missing::Folder { .. } => key(CWD, 0),
            Missing::EnvFile { number, .. } => key("env_file", *number),
            Missing::Variables(VariablesError::Impossible { name, .. }) => {
                let of_table = |name| self.parsed.variables.place(self.environment, name);
                name.to_str().and_then(of_table).or_else(|| key("env_file", 0))
            }
            Missing::Variables(_) => key("port_step", 0),
            Missing::Command { .. } => Some(&self.parsed.program_span),
            Missing::User(_) => key("user", 0),
            Missing::Group(_) => key("control_group", 0),
            Missing::Watch { number, .. } => key("watch", *number),
            Missing::Journal(_) => key("log", 0),
        };
        said.unwrap_or(&self.parsed.span)
    }

    /// What is wrong and what to do, in terms of the file.
    fn words(&self, missing: &Missing) -> (String, String) {
        let own = |hint: &str| (self.keys.in_words_of_the_file(&missing.to_string()), hint.to_owned());
        match missing {
            Missing::Folder { .. } => own(OF_THE_FILE),
            Missing::EnvFile { source, .. } => match source {
                EnvFileError::Open { path, source } => {
                    let why = SourceError::from_io(source);
                    let hint = match why {
                        SourceError::Missing => OF_THE_FILE,
                        _ => "it should be a text file with lines like NAME=VALUE",
                    };
                    (format!("{}: {why}", path.display()), hint.to_owned())
                }
                other => own(other.hint()),
            },
            Missing::Variables(error) => own(&self.keys.in_words_of_the_file(error.hint())),
            Missing::Command { source, .. } => match source {
                CommandError::NotFound { places, .. } if places.is_empty() => own(OF_CWD),
                CommandError::NotFound { .. } => own(&source.hint()),
                CommandError::NotExecutable { path } => own(&format!(
                    "`chmod +x {0}`, or name what runs it, like command = \"node {0}\"",
                    path.display()
                )),
                CommandError::IsADirectory { .. } => own(&source.hint()),
            },
            Missing::User(_) => own("give a name or a number that `getent passwd` knows"),
            Missing::Group(_) => own("give a name or a number that `getent group` knows"),
            Missing::Watch { path, source, .. } => (
                format!("{}: {}", path.display(), SourceError::from_io(source)),
                OF_CWD.to_owned(),
            ),
            Missing::Journal(_) => own("leave it out, and output goes to files"),
        }
    }
}
