//! Passes an [`AppSpec`] to a controller that is started by another process.
//!
//! The controller's arguments are what a user would type, so that `ps` shows what is running. The workers' variables may be secret and too
//! long for a command line, so they are passed in an unnamed file on standard input, which only the controller can read.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use nix::sys::memfd::{MFdFlags, memfd_create};
use serde::{Deserialize, Serialize};

use crate::{app::AppSpec, base::Failure, cli::detach, process::os_text};

pub(crate) use crate::cli::detach::Started;

/// The hidden option that tells where the variables are.
const OPTION: &str = "--variables-on-stdin";

/// Starts an app in the background and returns when all its workers are active.
///
/// # Errors
/// As `run --detach`: the app could not be started, a worker has failed, or a deadline has passed.
pub(crate) async fn start_in_background(spec: &AppSpec, verbosity: u8) -> Result<Started, Failure> {
    detach::start(spec, verbosity).await
}

/// The command of a controller, with its variables on standard input. The caller chooses output, session and process group.
///
/// # Errors
/// memfd_create(2), write(2): there is no memory or descriptor left.
pub(crate) fn controller(spec: &AppSpec, verbosity: u8, detached: bool) -> io::Result<Command> {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("reuse-ctl").args(arguments(spec, verbosity, detached));
    if spec.variables.is_empty() {
        command.stdin(Stdio::null());
    } else {
        command.stdin(unnamed_file(&to_json(&spec.variables))?);
    }
    Ok(command)
}

/// `run`, the options for the controller alone, then the specification's own arguments.
fn arguments(spec: &AppSpec, verbosity: u8, detached: bool) -> Vec<OsString> {
    let mut arguments = vec![OsString::from("run")];
    arguments.extend(std::iter::repeat_n(OsString::from("-v"), verbosity.into()));
    if detached {
        arguments.push("--detached".into());
    }
    if !spec.variables.is_empty() {
        arguments.push(OPTION.into());
    }
    arguments.extend(spec.arguments.iter().cloned());
    arguments
}

fn unnamed_file(content: &str) -> io::Result<File> {
    let mut file = File::from(memfd_create(c"variables", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(content.as_bytes())?;
    file.rewind()?;
    Ok(file)
}

/// The variables that [`controller`] has put on standard input, which is empty afterwards.
///
/// # Errors
/// Fails if a user has typed the hidden option.
pub(crate) fn take_variables() -> Result<Vec<OsString>, Failure> {
    let failed = |error: &dyn std::fmt::Display| {
        Failure::usage(
            format!("{OPTION}: {error}"),
            "that option is for controllers which reuse-ctl itself starts",
        )
    };
    let variables = from_json(io::stdin().lock()).map_err(|error| failed(&error))?;
    let null = File::open("/dev/null").map_err(|error| failed(&error))?;
    nix::unistd::dup2_stdin(null).map_err(|error| failed(&error))?;
    Ok(variables)
}

#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct Variables(#[serde(with = "os_text::list")] Vec<OsString>);

fn to_json(variables: &[OsString]) -> String {
    serde_json::to_string(&Variables(variables.to_vec())).expect("plain data")
}

fn from_json(mut reader: impl Read) -> serde_json::Result<Vec<OsString>> {
    let mut text = Vec::new();
    reader.read_to_end(&mut text).map_err(serde_json::Error::io)?;
    serde_json::from_slice(&text).map(|Variables(variables)| variables)
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt as _;

    use super::*;

    fn spec() -> AppSpec {
        AppSpec {
            arguments: ["--name=web", "--", "node", "server.js"].map(OsString::from).to_vec(),
            variables: vec![
                "SECRET".into(),
                "x".repeat(1 << 20).into(),
                "RAW".into(),
                OsString::from_vec(vec![0xff]),
            ],
        }
    }

    #[test]
    fn variables_are_read_as_they_were_written_and_are_in_no_argument() {
        let spec = spec();
        let mut file = unnamed_file(&to_json(&spec.variables)).expect("memory");
        assert_eq!(from_json(&mut file).expect("its own"), spec.variables);
        let arguments = arguments(&spec, 2, true);
        let expected = [
            "run",
            "-v",
            "-v",
            "--detached",
            OPTION,
            "--name=web",
            "--",
            "node",
            "server.js",
        ];
        assert_eq!(arguments, expected);
        assert!(from_json(&b"[1]"[..]).is_err());
    }
}
