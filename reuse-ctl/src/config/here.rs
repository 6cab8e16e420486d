//! What the apps of a file need and this machine lacks, each thing at its place in the file.

use std::ops::Range;

use super::{
    Loaded, NamedSpec,
    described::Described,
    source::{Problem, SourceError},
};
use crate::{
    app::{
        keys::{CWD, Keys},
        requirements::{Extent, Lack, lacks},
    },
    base::Failure,
    process::{command::CommandError, env_file::EnvFileError, variables::VariablesError},
};

/// What relative paths are relative to.
const OF_THE_FILE: &str = "paths are relative to the folder of this file";

/// The same for those that are relative to `cwd`.
const OF_CWD: &str = "paths are relative to `cwd`, which is the folder of this file unless it is said";

impl Loaded {
    /// Judges the apps on this machine, each as far as `extent` says, or not at all. What depends on one of the options `elsewhere` (without
    /// their hyphens) is not judged: another value than the file's counts.
    ///
    /// What this user may not look at is no error: returned is what that is, in a line each.
    ///
    /// # Errors
    /// Usage, with all that is missing, each at its place.
    pub fn judge(
        &self,
        extent: impl Fn(&NamedSpec) -> Option<Extent>,
        elsewhere: &[String],
    ) -> Result<Vec<String>, Failure> {
        let is_root = nix::unistd::geteuid().is_root();
        let (mut problems, mut unseen) = (Vec::new(), Vec::new());
        let options = self.options.iter().zip(&self.content.apps);
        for (app, (options, described)) in self.apps.iter().zip(options) {
            let Some(extent) = extent(app) else { continue };
            let place = Places {
                described,
                keys: &self.content.keys,
                environment: self.environment.as_deref(),
            };
            for lack in lacks(options, extent) {
                if keys_of(&lack)
                    .iter()
                    .any(|key| elsewhere.iter().any(|long| long == key))
                {
                    continue;
                }
                let problem = place.problem(&lack);
                if lack.is_denied() && !is_root {
                    unseen.push(self.source.place(problem).title());
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

/// The options that it follows from.
fn keys_of(lack: &Lack) -> &'static [&'static str] {
    match lack {
        Lack::Folder { .. } | Lack::Command { .. } => &[CWD],
        Lack::EnvFile { .. } => &["env-file"],
        Lack::Variables(_) => &["env-file", "port-step", "workers"],
        Lack::User(_) => &["user"],
        Lack::Group(_) => &["control-group"],
        Lack::Watch { .. } => &["watch"],
        Lack::Journal(_) => &["log"],
    }
}

/// Where things are said of one app.
struct Places<'a> {
    described: &'a Described,
    keys: &'a Keys,
    environment: Option<&'a str>,
}

impl Places<'_> {
    fn problem(&self, lack: &Lack) -> Problem {
        let (error, hint) = self.words(lack);
        Problem::new(self.of(lack).clone(), error, hint)
    }

    fn of(&self, lack: &Lack) -> &Range<usize> {
        let key = |name, number| self.described.place_of(self.keys, name, number);
        let said = match lack {
            Lack::Folder { .. } => key(CWD, 0),
            Lack::EnvFile { number, .. } => key("env_file", *number),
            Lack::Variables(VariablesError::Impossible { name, .. }) => {
                let of_table = |name| self.described.variables.place(self.environment, name);
                name.to_str().and_then(of_table).or_else(|| key("env_file", 0))
            }
            Lack::Variables(_) => key("port_step", 0),
            Lack::Command { .. } => Some(&self.described.program_span),
            Lack::User(_) => key("user", 0),
            Lack::Group(_) => key("control_group", 0),
            Lack::Watch { number, .. } => key("watch", *number),
            Lack::Journal(_) => key("log", 0),
        };
        said.unwrap_or(&self.described.span)
    }

    /// What is wrong, and what to do about it, in words of the file.
    fn words(&self, lack: &Lack) -> (String, String) {
        let own = |hint: &str| (self.keys.in_words_of_the_file(&lack.to_string()), hint.to_owned());
        match lack {
            Lack::Folder { .. } => own(OF_THE_FILE),
            Lack::EnvFile { source, .. } => match source {
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
            Lack::Variables(error) => own(&self.keys.in_words_of_the_file(error.hint())),
            Lack::Command { source, .. } => match source {
                CommandError::NotFound { places, .. } if places.is_empty() => own(OF_CWD),
                CommandError::NotFound { .. } => own(&source.hint()),
                CommandError::NotExecutable { path } => own(&format!(
                    "`chmod +x {0}`, or say what runs it, like command = \"node {0}\"",
                    path.display()
                )),
                CommandError::IsADirectory { .. } => own(&source.hint()),
            },
            Lack::User(_) => own("say a name or a number that `getent passwd` knows"),
            Lack::Group(_) => own("say a name or a number that `getent group` knows"),
            Lack::Watch { path, source, .. } => (
                format!("{}: {}", path.display(), SourceError::from_io(source)),
                OF_CWD.to_owned(),
            ),
            Lack::Journal(_) => own("leave it out, and output goes to files"),
        }
    }
}
