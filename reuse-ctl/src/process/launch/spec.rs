//! The specification of a worker, which the shim reads.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::FIRST_INHERITED_FD;
use crate::process::identity::Identity;
use crate::process::os_text;

/// The channel's descriptor. High, because Node and Bun open a few dozen descriptors when they start.
const CHANNEL_FD: RawFd = 100;

/// Everything the shim needs to know. As JSON it must fit into one variable of 128 KiB, so the worker's variables are passed separately.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchSpec {
    /// The app's name.
    pub app: String,
    /// The slot's number.
    pub slot: u16,
    /// The absolute path of the file to run.
    #[serde(with = "os_text")]
    pub program: PathBuf,
    /// The arguments. The first one is the program's name as typed.
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
    /// The user that the worker runs as.
    pub identity: Identity,
    /// The listeners that the worker inherits, from descriptor 3 up.
    pub listen: Vec<SocketAddr>,
    /// The limit of open descriptors; `None`: the same as the controller's.
    #[serde(default)]
    pub descriptors: Option<u64>,
    /// Variables in addition to the controller's own. They are passed in the shim's environment and not in the JSON, because there may be
    /// many.
    #[serde(skip)]
    pub variables: Vec<(OsString, OsString)>,
}

impl LaunchSpec {
    /// The descriptor of the worker's end of the IPC channel. The number is high because a worker may start a Node process that inherits
    /// the variable but not the descriptor (Python's `subprocess` closes all). That Node process would take whatever it has opened at that
    /// number for the channel, and abort if it is 3.
    pub(in crate::process) fn channel_fd(&self) -> RawFd {
        let after = self.after_listeners();
        CHANNEL_FD.max(after.saturating_add(1))
    }

    /// The first number after the listeners.
    pub(in crate::process) fn after_listeners(&self) -> RawFd {
        FIRST_INHERITED_FD.saturating_add(RawFd::try_from(self.listen.len()).unwrap_or(RawFd::MAX))
    }
}

/// Where a worker's output goes. It never depends on the controller's life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Output {
    /// Each stream is appended to a file.
    Files {
        /// Standard output.
        out: PathBuf,
        /// Standard error.
        err: PathBuf,
    },
    /// To journald.
    Journal {
        /// The identifier in the journal.
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
