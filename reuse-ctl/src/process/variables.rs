//! The variables that a worker gets in addition to the controller's own: those of env files, those of the configuration, and those that
//! increase from worker to worker.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use super::{
    env_file::{self, Contents, EnvFileError, Rights},
    environment::{self, VARIABLE_PREFIX},
    identity::Identity,
};

/// The variables of workers, in addition to the controller's own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EnvironmentOptions {
    /// Env files of `NAME=VALUE` lines. They are read at the start and again for every reload, restart and canary; the last value of a name
    /// counts. Paths are relative to the folder in which the controller was started.
    pub files: Vec<PathBuf>,
    /// Variables that override those of the files; the last value of a name counts. The configuration's `env`, then its `[env.NAME]`.
    pub variables: Vec<(OsString, OsString)>,
    /// A variable that increases from slot to slot.
    pub increment: Option<Increment>,
    /// How much `PORT` increases from slot to slot; 0: it is the same for all.
    pub port_step: u16,
    /// Whether PM2's variables are set as well: `pm_id`, `name`, `exec_mode`.
    pub pm2_names: bool,
}

/// `--increment-var NAME[=FIRST]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Increment {
    /// The name of the variable.
    pub name: String,
    /// The value for slot 0; `None`: the variable's value in the environment, else 0.
    pub first: Option<u64>,
}

/// Maximum length of `NAME=VALUE` including the terminating zero (MAX_ARG_STRLEN).
const MAX_VARIABLE_BYTES: usize = 128 * 1024;

/// Why a worker's variables can't be set.
#[derive(Debug, thiserror::Error)]
pub enum VariablesError {
    /// An env file can't be used.
    #[error(transparent)]
    File(#[from] EnvFileError),
    /// A variable that no process can have.
    #[error("the variable {name:?} {problem}")]
    Impossible {
        /// Its name.
        name: OsString,
        /// The problem, in words that follow the name.
        problem: &'static str,
    },
    /// `--port-step` without a port to start from.
    #[error("--port-step {step} has nothing to add to: PORT is {}", port.as_ref().map_or("not set".into(), |port| format!("{port:?}")))]
    NoPort {
        /// The step.
        step: u16,
        /// The value of PORT.
        port: Option<OsString>,
    },
    /// The sum is not a valid port.
    #[error("worker {slot} would get PORT {port}: the last one is 65535")]
    NoSuchPort {
        /// The slot.
        slot: u16,
        /// The sum.
        port: u64,
    },
}

impl VariablesError {
    /// What the user should do next, in one line.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::File(error) => error.hint(),
            Self::Impossible { .. } => "put long values into a file, and its path into the variable",
            Self::NoPort { .. } => "set PORT to the first worker's port, in the environment or an env file",
            Self::NoSuchPort { .. } => "begin with a lower PORT, or take a smaller --port-step",
        }
    }
}

/// The variables that were read, from which those of each worker are computed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Variables {
    /// The options, with absolute paths of files.
    options: EnvironmentOptions,
    /// The variables of the files, in order.
    read: Vec<(OsString, OsString)>,
    /// The real path of each file.
    places: Vec<PathBuf>,
}

impl Variables {
    /// Reads the files. Paths are relative to `folder`, in which the controller was started.
    ///
    /// # Errors
    /// Fails if a file can't be used, or a variable can't be passed on.
    pub fn read(mut options: EnvironmentOptions, folder: &Path, rights: Rights<'_>) -> Result<Self, VariablesError> {
        for file in &mut options.files {
            *file = folder.join(&*file);
        }
        Self::of_files(options, |_| rights)
    }

    fn of_files<'a>(
        options: EnvironmentOptions,
        rights_to: impl Fn(usize) -> Rights<'a>,
    ) -> Result<Self, VariablesError> {
        let (mut read, mut places) = (Vec::new(), Vec::new());
        for (number, file) in options.files.iter().enumerate() {
            let Contents { variables, place } = env_file::read(file, rights_to(number))?;
            read.extend(variables.into_iter().map(|(name, value)| (name.into(), value.into())));
            places.push(place);
        }
        read.iter().chain(&options.variables).try_for_each(check)?;
        Ok(Self { options, read, places })
    }

    /// Reads the files again. A file whose real path has changed is read only if the workers' user may read it.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn reread(&self, workers: &Identity) -> Result<Self, VariablesError> {
        Self::of_files(self.options.clone(), |number| match self.places.get(number) {
            Some(place) => Rights::CallersAt(place, workers),
            None => Rights::Workers(workers),
        })
    }

    /// Whether any variable comes from a file.
    pub fn have_files(&self) -> bool {
        !self.options.files.is_empty()
    }

    /// Whether the files of both had the same contents when they were read.
    pub fn reads_as(&self, other: &Self) -> bool {
        self.read == other.read
    }

    /// Whether each worker has a `PORT` of its own.
    pub fn give_own_ports(&self) -> bool {
        let counts = |increment: &Increment| increment.name == "PORT";
        self.options.port_step > 0 || self.options.increment.as_ref().is_some_and(counts)
    }

    /// The variables for the worker of `slot`, each name once. `inherited` looks up a name in the controller's own environment.
    ///
    /// # Errors
    /// [`VariablesError::NoPort`] and [`VariablesError::NoSuchPort`].
    pub fn of(
        &self,
        app: &str,
        slot: u16,
        inherited: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Vec<(OsString, OsString)>, VariablesError> {
        let mut variables = Vec::new();
        let given = self.read.iter().chain(&self.options.variables);
        for (name, value) in given.filter(|(name, _)| !environment::is_the_controllers(name)) {
            set(&mut variables, name, value.clone());
        }
        let known = |variables: &[(OsString, OsString)], name: &str| {
            let own = variables.iter().find(|(known, _)| known == name);
            own.map(|(_, value)| value.clone()).or_else(|| inherited(name))
        };
        let step = self.options.port_step;
        if step > 0 {
            let port = known(&variables, "PORT");
            let first = port.as_deref().and_then(number::<u16>);
            let first = first.ok_or(VariablesError::NoPort { step, port })?;
            let port = u64::from(first) + u64::from(step) * u64::from(slot);
            if port > u64::from(u16::MAX) {
                return Err(VariablesError::NoSuchPort { slot, port });
            }
            set(&mut variables, OsStr::new("PORT"), port.to_string());
        }
        if let Some(increment) = &self.options.increment {
            let before = || known(&variables, &increment.name).as_deref().and_then(number::<u64>);
            let first = increment.first.or_else(before).unwrap_or(0);
            let value = first.saturating_add(u64::from(slot)).to_string();
            set(&mut variables, OsStr::new(&increment.name), value);
        }
        if self.options.pm2_names {
            for (name, value) in [
                ("pm_id", &*slot.to_string()),
                ("name", app),
                ("exec_mode", "cluster_mode"),
            ] {
                set(&mut variables, OsStr::new(name), value);
            }
        }
        Ok(variables)
    }
}

fn check((name, value): &(OsString, OsString)) -> Result<(), VariablesError> {
    let has = |text: &OsStr, byte| text.as_bytes().contains(&byte);
    let problem = if name.is_empty() || has(name, b'=') || has(name, 0) {
        "is not a name"
    } else if has(value, 0) {
        "has a NUL character"
    } else if VARIABLE_PREFIX.len() + name.len() + value.len() + "=\0".len() > MAX_VARIABLE_BYTES {
        "is longer than 128 KiB"
    } else {
        return Ok(());
    };
    Err(VariablesError::Impossible {
        name: name.clone(),
        problem,
    })
}

fn number<T: std::str::FromStr>(text: &OsStr) -> Option<T> {
    text.to_str()?.trim().parse().ok()
}

fn set(variables: &mut Vec<(OsString, OsString)>, name: &OsStr, value: impl Into<OsString>) {
    variables.retain(|(known, _)| known != name);
    variables.push((name.to_owned(), value.into()));
}

#[cfg(test)]
mod tests {
    use super::*;
    fn pairs(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
        pairs.iter().map(|(name, value)| (name.into(), value.into())).collect()
    }

    fn of(
        options: EnvironmentOptions,
        slot: u16,
        inherited: &[(&str, &str)],
    ) -> Result<Vec<(OsString, OsString)>, VariablesError> {
        let variables = Variables::read(options, Path::new("/"), Rights::Callers)?;
        let inherited = pairs(inherited);
        let look = |name: &str| {
            inherited
                .iter()
                .find(|(known, _)| known == name)
                .map(|(_, value)| value.clone())
        };
        variables.of("shop", slot, look)
    }

    #[test]
    fn the_last_of_a_name_counts_and_what_is_the_controllers_is_left_out() {
        let given = pairs(&[
            ("A", "1"),
            ("NOTIFY_SOCKET", "/x"),
            ("B", "2"),
            ("A", "3"),
            ("NODE_CHANNEL_FD", "9"),
        ]);
        let options = EnvironmentOptions {
            variables: given,
            ..EnvironmentOptions::default()
        };
        assert_eq!(of(options, 0, &[]).expect("right"), pairs(&[("B", "2"), ("A", "3")]));
    }

    #[test]
    fn numbers_count_up_from_what_is_there() {
        let stepped = |port_step, variables: &[(&str, &str)]| EnvironmentOptions {
            port_step,
            variables: pairs(variables),
            ..EnvironmentOptions::default()
        };
        assert_eq!(
            of(stepped(10, &[]), 3, &[("PORT", "3000")]).expect("right"),
            pairs(&[("PORT", "3030")])
        );
        assert_eq!(
            of(stepped(1, &[("PORT", "80")]), 1, &[("PORT", "3000")]).expect("right"),
            pairs(&[("PORT", "81")])
        );
        assert!(matches!(
            of(stepped(1, &[]), 0, &[]),
            Err(VariablesError::NoPort { .. })
        ));
        assert!(matches!(
            of(stepped(1, &[("PORT", "http")]), 0, &[]),
            Err(VariablesError::NoPort { .. })
        ));
        let error = of(stepped(1000, &[]), 200, &[("PORT", "3000")]).expect_err("too high");
        assert_eq!(
            error.to_string(),
            "worker 200 would get PORT 203000: the last one is 65535"
        );

        let counted = |first| EnvironmentOptions {
            increment: Some(Increment {
                name: "N".into(),
                first,
            }),
            ..EnvironmentOptions::default()
        };
        assert_eq!(of(counted(None), 2, &[]).expect("right"), pairs(&[("N", "2")]));
        assert_eq!(
            of(counted(None), 2, &[("N", "7")]).expect("right"),
            pairs(&[("N", "9")])
        );
        assert_eq!(
            of(counted(Some(100)), 2, &[("N", "7")]).expect("right"),
            pairs(&[("N", "102")])
        );
    }

    #[test]
    fn apps_made_for_pm2_find_its_names() {
        let options = EnvironmentOptions {
            pm2_names: true,
            ..EnvironmentOptions::default()
        };
        let expected = pairs(&[("pm_id", "4"), ("name", "shop"), ("exec_mode", "cluster_mode")]);
        assert_eq!(of(options, 4, &[("name", "mine")]).expect("right"), expected);
    }

    #[test]
    fn what_no_process_can_have_is_refused() {
        let long = "x".repeat(MAX_VARIABLE_BYTES);
        for (name, value) in [("", "1"), ("A=B", "1"), ("A", "\0"), ("A", &long)] {
            let options = EnvironmentOptions {
                variables: pairs(&[(name, value)]),
                ..EnvironmentOptions::default()
            };
            assert!(
                matches!(of(options, 0, &[]), Err(VariablesError::Impossible { .. })),
                "{name}"
            );
        }
    }
}
