//! Finds the program of a command as the user's shell would.
//!
//! sudo replaces PATH by its `secure_path`, which doesn't contain Bun, Deno, Volta, nvm or cargo. So the usual places in the caller's home
//! are searched as well.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Why a command can't be run.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// No place has a file with this name.
    #[error("no command {command:?}")]
    NotFound {
        /// The command as typed.
        command: OsString,
        /// The places searched; empty if the command was given as a path.
        places: Vec<PathBuf>,
    },
    /// The file exists but is not executable.
    #[error("{} is not executable", path.display())]
    NotExecutable {
        /// The file.
        path: PathBuf,
    },
    /// The path is a directory.
    #[error("{} is a directory", path.display())]
    IsADirectory {
        /// The directory.
        path: PathBuf,
    },
}

impl CommandError {
    /// What the user should do next, in one line.
    pub fn hint(&self) -> String {
        match self {
            Self::NotFound { places, .. } if places.is_empty() => {
                "check the path; it is relative to this directory".into()
            }
            Self::NotFound { places, .. } => {
                let places: Vec<String> = places.iter().map(|place| place.display().to_string()).collect();
                format!(
                    "give its full path, or keep your PATH: sudo env PATH=\"$PATH\" reuse-ctl …; looked in {}",
                    places.join(", ")
                )
            }
            Self::NotExecutable { path } => {
                format!(
                    "chmod +x {0}, or run it by its interpreter: -- node {0}",
                    path.display()
                )
            }
            Self::IsADirectory { .. } => "give the file in it that is to be run".into(),
        }
    }
}

/// Where to look for a command.
#[derive(Debug, Clone, Copy)]
pub struct Search<'a> {
    /// The folder for relative names; an absolute path.
    pub cwd: &'a Path,
    /// The caller's PATH.
    pub path: Option<&'a OsStr>,
    /// The home of the calling user (see [`caller_home`](super::identity::caller_home)).
    pub home: Option<&'a Path>,
}

/// A command that can be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The absolute path of the file. Not canonical, because version managers go by the name they are called by.
    pub program: PathBuf,
    /// A folder to put in front of the workers' PATH if PATH lacks it: a script there may begin with `#!/usr/bin/env node` and needs the
    /// node beside it.
    pub path_prefix: Option<PathBuf>,
}

/// Finds the file that `command` refers to.
///
/// # Errors
/// See [`CommandError`].
pub fn resolve(command: &OsStr, search: &Search<'_>) -> Result<Resolved, CommandError> {
    if command.as_bytes().contains(&b'/') {
        let path = search.cwd.join(command);
        return match examine(&path) {
            Candidate::Executable => Ok(Resolved {
                program: path,
                path_prefix: None,
            }),
            Candidate::Plain => Err(CommandError::NotExecutable { path }),
            Candidate::Directory => Err(CommandError::IsADirectory { path }),
            Candidate::Absent => Err(CommandError::NotFound {
                command: command.to_owned(),
                places: Vec::new(),
            }),
        };
    }
    let on_path: Vec<PathBuf> = search
        .path
        .map(|path| {
            std::env::split_paths(path)
                .map(|place| search.cwd.join(place))
                .collect()
        })
        .unwrap_or_default();
    let usual: Vec<PathBuf> = usual_places(search)
        .into_iter()
        .filter(|place| !on_path.contains(place))
        .collect();

    let mut not_executable = None;
    let candidates = on_path
        .iter()
        .map(|place| (place, None))
        .chain(usual.iter().map(|place| (place, Some(place))));
    if !command.is_empty() {
        for (place, prefix) in candidates {
            let program = place.join(command);
            match examine(&program) {
                Candidate::Executable => {
                    return Ok(Resolved {
                        program,
                        path_prefix: prefix.cloned(),
                    });
                }
                // As in a shell, a later place may have an executable file.
                Candidate::Plain => not_executable = not_executable.or(Some(program)),
                Candidate::Directory | Candidate::Absent => {}
            }
        }
    }
    Err(match not_executable {
        Some(path) => CommandError::NotExecutable { path },
        None => CommandError::NotFound {
            command: command.to_owned(),
            places: [on_path, usual].concat(),
        },
    })
}

enum Candidate {
    Executable,
    Plain,
    Directory,
    Absent,
}

/// Any x bit is enough: whether the workers' user may run the file shows when it is run.
fn examine(path: &Path) -> Candidate {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => Candidate::Directory,
        Ok(metadata) if metadata.permissions().mode() & 0o111 != 0 => Candidate::Executable,
        Ok(_) => Candidate::Plain,
        Err(_) => Candidate::Absent,
    }
}

fn usual_places(search: &Search<'_>) -> Vec<PathBuf> {
    let mut places = vec![search.cwd.join("node_modules/.bin")];
    if let Some(home) = search.home {
        places
            .extend([".bun/bin", ".local/bin", ".cargo/bin", ".deno/bin", ".volta/bin"].map(|place| home.join(place)));
        places.extend(node_versions(&home.join(".nvm/versions/node")));
        places.extend([".asdf/shims", "n/bin"].map(|place| home.join(place)));
    }
    places.push(PathBuf::from("/usr/local/bin"));
    places
}

/// The `bin` folders of every Node version that nvm has installed, newest first.
fn node_versions(folder: &Path) -> Vec<PathBuf> {
    let mut versions: Vec<(Vec<u32>, PathBuf)> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| {
            let name = entry.file_name();
            let numbers = name
                .to_string_lossy()
                .trim_start_matches('v')
                .split('.')
                .map(|part| part.parse().unwrap_or(0))
                .collect();
            (numbers, entry.path().join("bin"))
        })
        .collect();
    versions.sort_by(|left, right| right.cmp(left));
    versions.into_iter().map(|(_, place)| place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("reuse-ctl-command-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).expect("temp dir");
            Self(path)
        }

        fn file(&self, path: &str, mode: u32) -> PathBuf {
            let path = self.0.join(path);
            fs::create_dir_all(path.parent().expect("inside")).expect("made");
            fs::write(&path, "#!/bin/sh\n").expect("written");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("ours");
            path
        }

        fn resolve(&self, command: &str, path: &str) -> Result<Resolved, CommandError> {
            let home = self.0.join("home");
            let search = Search {
                cwd: &self.0,
                path: Some(OsStr::new(path)),
                home: Some(&home),
            };
            resolve(OsStr::new(command), &search)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            drop(fs::remove_dir_all(&self.0));
        }
    }

    #[test]
    fn a_path_is_relative_to_the_working_directory() {
        let scratch = Scratch::new("path");
        let server = scratch.file("bin/server", 0o755);
        let plain = scratch.file("bin/plain", 0o644);
        assert_eq!(
            scratch.resolve("bin/server", ""),
            Ok(Resolved {
                program: server,
                path_prefix: None
            })
        );
        assert_eq!(
            scratch.resolve("bin/plain", ""),
            Err(CommandError::NotExecutable { path: plain })
        );
        assert_eq!(
            scratch.resolve("./bin", ""),
            Err(CommandError::IsADirectory {
                path: scratch.0.join("./bin")
            })
        );
        let missing = scratch.resolve("./none", "").expect_err("missing");
        assert_eq!(
            missing,
            CommandError::NotFound {
                command: "./none".into(),
                places: vec![]
            }
        );
        assert!(missing.hint().contains("relative"));
    }

    #[test]
    fn a_name_is_looked_for_in_path_first() {
        let scratch = Scratch::new("search");
        scratch.file("one/server", 0o644);
        let second = scratch.file("two/server", 0o755);
        scratch.file("home/.bun/bin/server", 0o755);
        let path = format!("{0}/none:{0}/one:two", scratch.0.display());
        assert_eq!(
            scratch.resolve("server", &path),
            Ok(Resolved {
                program: second,
                path_prefix: None
            })
        );
        let only_plain = scratch.resolve("server", "one").expect("the usual places have one");
        assert!(only_plain.program.ends_with("home/.bun/bin/server"));
    }

    #[test]
    fn then_in_the_usual_places_of_the_callers_home() {
        let scratch = Scratch::new("usual");
        let bun = scratch.file("home/.bun/bin/bun-of-test", 0o755);
        let expected = Resolved {
            program: bun.clone(),
            path_prefix: Some(scratch.0.join("home/.bun/bin")),
        };
        assert_eq!(scratch.resolve("bun-of-test", "/bin"), Ok(expected));
        let on_path = scratch.0.join("home/.bun/bin");
        let expected = Resolved {
            program: bun,
            path_prefix: None,
        };
        assert_eq!(
            scratch.resolve("bun-of-test", on_path.to_str().expect("ascii")),
            Ok(expected)
        );

        scratch.file("home/.nvm/versions/node/v9.1.0/bin/node-of-test", 0o755);
        scratch.file("home/.nvm/versions/node/v20.9.0/bin/node-of-test", 0o755);
        let newest = scratch.file("home/.nvm/versions/node/v20.11.1/bin/node-of-test", 0o755);
        assert_eq!(scratch.resolve("node-of-test", "/bin").expect("found").program, newest);
        let local = scratch.file("node_modules/.bin/vite-of-test", 0o755);
        assert_eq!(scratch.resolve("vite-of-test", "/bin").expect("found").program, local);
    }

    #[test]
    fn what_is_nowhere_is_said_with_the_places() {
        let scratch = Scratch::new("nowhere");
        let error = scratch.resolve("no-such-command", "/bin").expect_err("nowhere");
        let hint = error.hint();
        assert!(
            hint.contains("sudo env PATH") && hint.contains("/bin") && hint.contains(".bun/bin"),
            "{hint}"
        );
        assert!(error.to_string().contains("no-such-command"));
        assert!(matches!(
            scratch.resolve("", "/bin"),
            Err(CommandError::NotFound { .. })
        ));
        scratch.file("one/plain-of-test", 0o644);
        assert!(matches!(
            scratch.resolve("plain-of-test", "one"),
            Err(CommandError::NotExecutable { .. })
        ));
    }
}
