//! The specification of a worker that the shim gets.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::FIRST_INHERITED_FD;
use crate::process::identity::Identity;
use crate::process::os_text;

/// Node and Bun open a few dozen descriptors when they start.
const CHANNEL_FD: RawFd = 100;

/// Everything the shim needs to know. As JSON it has to fit into one variable of 128 KiB, but for the worker's variables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchSpec {
    /// The app's name.
    pub app: String,
    /// The slot's number.
    pub slot: u16,
    /// The file to run, absolute.
    #[serde(with = "os_text")]
    pub program: PathBuf,
    /// Its arguments, the first being its name as typed.
    #[serde(with = "os_text::list")]
    pub args: Vec<OsString>,
    /// The working folder.
    #[serde(with = "os_text")]
    pub cwd: PathBuf,
    /// Folders to put in front of PATH.
    #[serde(with = "os_text::list")]
    pub path_prefix: Vec<PathBuf>,
    /// The folder of the instance's cgroup.
    pub cgroup: PathBuf,
    /// Where standard output and standard error go.
    pub output: Output,
    /// Who it runs as.
    pub identity: Identity,
    /// The listeners it inherits, from descriptor 3 up.
    pub listen: Vec<SocketAddr>,
    /// How many descriptors it may open, if not as many as the controller.
    #[serde(default)]
    pub descriptors: Option<u64>,
    /// Variables on top of the controller's own. They travel in the shim's environment and not in the JSON: there may be many.
    #[serde(skip)]
    pub variables: Vec<(OsString, OsString)>,
}

impl LaunchSpec {
    /// Where the worker finds its end of the IPC channel. A high number: a worker may start a Node process that inherits the variable but
    /// not the descriptor (Python's `subprocess` closes all), and would take whatever it has opened itself at that number for the
    /// channel. At 3, Node aborts.
    pub(in crate::process) fn channel_fd(&self) -> RawFd {
        let after = self.after_listeners();
        CHANNEL_FD.max(after.saturating_add(1))
    }

    /// The first number behind the listeners.
    pub(in crate::process) fn after_listeners(&self) -> RawFd {
        FIRST_INHERITED_FD.saturating_add(RawFd::try_from(self.listen.len()).unwrap_or(RawFd::MAX))
    }
}

/// Where a worker's output goes: to nothing that ends with the controller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Output {
    /// Each of the two is appended to a file.
    Files {
        /// Standard output.
        out: PathBuf,
        /// Standard error.
        err: PathBuf,
    },
    /// To journald.
    Journal {
        /// Under this name.
        identifier: String,
    },
}

#[cfg(test)]
pub(in crate::process) mod tests {
    use std::os::unix::ffi::OsStringExt as _;

    use super::*;
    use crate::process::identity::IdentitySource;

    /// A specification that can be written but not launched; tests change what they look at.
    pub(in crate::process) fn spec() -> LaunchSpec {
        LaunchSpec {
            app: "shop".into(),
            slot: 2,
            program: "/bin/true".into(),
            args: vec!["true".into()],
            cwd: "/".into(),
            path_prefix: Vec::new(),
            cgroup: "/none".into(),
            output: Output::Files {
                out: "/none".into(),
                err: "/none".into(),
            },
            identity: Identity {
                uid: 65534,
                gid: 65534,
                groups: vec![65534],
                name: "nobody".into(),
                home: "/nonexistent".into(),
                source: IdentitySource::Option,
            },
            listen: Vec::new(),
            descriptors: None,
            variables: Vec::new(),
        }
    }

    #[test]
    fn arguments_that_are_not_text_survive() {
        let odd = OsString::from_vec(vec![b'a', 0xff]);
        let spec = LaunchSpec {
            args: vec!["server".into(), odd.clone()],
            cwd: odd.into(),
            ..spec()
        };
        let json = serde_json::to_string(&spec).expect("written");
        assert!(json.contains(r#""args":["server",[97,255]]"#), "{json}");
        assert_eq!(serde_json::from_str::<LaunchSpec>(&json).expect("read"), spec);
    }
}
