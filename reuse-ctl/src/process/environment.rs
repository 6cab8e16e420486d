//! The environment of a worker: the controller's own without what is meant for the controller alone, plus the variables given for the
//! workers ([`variables`](super::variables)), plus the variables that identify the worker.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;

use super::launch::{LAUNCH_VARIABLE, LaunchSpec};

/// A worker's variable passes through the shim with this prefix: the shim runs as root, so for example the worker's `LD_PRELOAD` must not
/// affect it. Each is passed as a variable of its own, because one may be as long as the whole [`LaunchSpec`].
pub const VARIABLE_PREFIX: &str = "REUSE_CTL_SET_";

/// Variables that are never passed to a worker, whoever sets them. `NODE_UNIQUE_ID` would make Node a cluster worker that hangs in
/// listen(). The channel, the notify socket, the watchdog and the descriptors are set by the controller itself.
const CONTROLLERS: [&str; 9] = [
    LAUNCH_VARIABLE,
    "NODE_UNIQUE_ID",
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_PIDFDID",
    "LISTEN_FDNAMES",
];
const CONTROLLERS_PREFIXES: [&str; 2] = ["NODE_CHANNEL_", VARIABLE_PREFIX];

/// Prefixes of variables that workers don't inherit: those by which PM2 identifies its children, and those of sudo.
const STRIPPED_PREFIXES: [&str; 3] = ["PM2_", "pm_", "SUDO_"];

/// Go ≥ 1.24 listens with MPTCP unless told not to, and an MPTCP listener can't be a member. Go uses the last setting of a name.
const GO_WITHOUT_MPTCP: &str = "multipathtcp=0";

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Computes the environment. `parent` is the shim's environment, which holds the worker's variables with the prefix [`VARIABLE_PREFIX`].
/// `pid` is the worker's own: `LISTEN_PID` must name the process that finally runs.
pub fn worker_environment(
    parent: impl IntoIterator<Item = (OsString, OsString)>,
    spec: &LaunchSpec,
    pid: u32,
) -> Vec<(OsString, OsString)> {
    let mut environment = Vec::new();
    let mut given = Vec::new();
    for (name, value) in parent {
        if let Some(name) = name.as_bytes().strip_prefix(VARIABLE_PREFIX.as_bytes()) {
            given.push((OsString::from_vec(name.to_vec()), value));
        } else if !is_stripped(&name) {
            environment.push((name, value));
        }
    }

    let slot = spec.slot.to_string();
    set(&mut environment, "HOME", spec.identity.home.as_os_str());
    set(&mut environment, "USER", &spec.identity.name);
    set(&mut environment, "LOGNAME", &spec.identity.name);
    for (name, value) in given {
        set(&mut environment, &name, value);
    }
    set(&mut environment, "REUSE_APP", &spec.app);
    set(&mut environment, "REUSE_WORKER_ID", &slot);
    set(&mut environment, "NODE_APP_INSTANCE", &slot);
    set(&mut environment, "NODE_CHANNEL_FD", spec.channel_fd().to_string());

    let go = match get(&environment, "GODEBUG") {
        Some(before) if !before.is_empty() => join(before, ",", GO_WITHOUT_MPTCP),
        _ => GO_WITHOUT_MPTCP.into(),
    };
    set(&mut environment, "GODEBUG", go);

    let path = get(&environment, "PATH").unwrap_or(OsStr::new(DEFAULT_PATH)).to_owned();
    let folders = spec
        .path_prefix
        .iter()
        .cloned()
        .chain(std::env::split_paths(&path))
        .collect::<Vec<PathBuf>>();
    // A folder with a colon in its name can't be in PATH, so the worker does without it.
    set(&mut environment, "PATH", std::env::join_paths(folders).unwrap_or(path));

    if !spec.listen.is_empty() {
        let names: Vec<String> = spec
            .listen
            .iter()
            .map(|address| format!("tcp-{}", address.port()))
            .collect();
        set(&mut environment, "LISTEN_FDS", spec.listen.len().to_string());
        set(&mut environment, "LISTEN_PID", pid.to_string());
        set(&mut environment, "LISTEN_FDNAMES", names.join(":"));
    }
    environment
}

/// Whether only the controller may set this variable of a worker.
pub(super) fn is_the_controllers(name: &OsStr) -> bool {
    CONTROLLERS.iter().any(|known| name == *known) || begins_with_one(name, &CONTROLLERS_PREFIXES)
}

fn is_stripped(name: &OsStr) -> bool {
    is_the_controllers(name) || begins_with_one(name, &STRIPPED_PREFIXES)
}

fn begins_with_one(name: &OsStr, prefixes: &[&str]) -> bool {
    prefixes
        .iter()
        .any(|prefix| name.as_bytes().starts_with(prefix.as_bytes()))
}

fn get<'a>(environment: &'a [(OsString, OsString)], name: &str) -> Option<&'a OsStr> {
    environment
        .iter()
        .find(|(known, _)| known == name)
        .map(|(_, value)| value.as_os_str())
}

fn set(environment: &mut Vec<(OsString, OsString)>, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) {
    let name = name.as_ref();
    environment.retain(|(known, _)| known != name);
    environment.push((name.to_owned(), value.as_ref().to_owned()));
}

fn join(before: &OsStr, separator: &str, after: &str) -> OsString {
    let mut joined = before.to_owned();
    joined.push(separator);
    joined.push(after);
    joined
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::launch::spec::tests::spec;

    fn of(parent: &[(&str, &str)], spec: &LaunchSpec) -> Vec<(String, String)> {
        let parent = parent
            .iter()
            .map(|(name, value)| (OsString::from(name), OsString::from(value)));
        let text = |value: OsString| value.into_string().expect("ascii");
        let mut result: Vec<_> = worker_environment(parent, spec, 77)
            .into_iter()
            .map(|(name, value)| (text(name), text(value)))
            .collect();
        result.sort();
        result
    }

    fn value<'a>(environment: &'a [(String, String)], name: &str) -> Option<&'a str> {
        environment
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    #[test]
    fn what_is_the_controllers_own_is_stripped_and_the_rest_kept() {
        let stripped = [
            "NODE_UNIQUE_ID",
            "NODE_CHANNEL_SERIALIZATION_MODE",
            "NOTIFY_SOCKET",
            "WATCHDOG_USEC",
            "LISTEN_FDS",
            "LISTEN_PID",
            "LISTEN_FDNAMES",
            "PM2_HOME",
            "PM2_USAGE",
            "pm_id",
            "SUDO_UID",
            "SUDO_COMMAND",
            "REUSE_CTL_LAUNCH",
        ];
        let mut parent: Vec<(&str, &str)> = stripped.iter().map(|name| (*name, "x")).collect();
        parent.extend([
            ("PORT", "3000"),
            ("NODE_ENV", "production"),
            ("LISTENER", "kept"),
            ("LISTEN_ADDRESS", "kept"),
            ("USER", "root"),
        ]);
        let environment = of(&parent, &spec());
        for name in stripped {
            assert_eq!(value(&environment, name), None, "{name}");
        }
        assert_eq!(value(&environment, "PORT"), Some("3000"));
        assert_eq!(value(&environment, "NODE_ENV"), Some("production"));
        assert_eq!(value(&environment, "LISTENER"), Some("kept"));
        assert_eq!(value(&environment, "LISTEN_ADDRESS"), Some("kept"));
    }

    #[test]
    fn what_is_for_the_worker_alone_comes_on_top() {
        let parent = [
            ("REUSE_CTL_SET_LD_PRELOAD", "/lib/x.so"),
            ("REUSE_CTL_SET_A", "worker's"),
            ("A", "controller's"),
            ("REUSE_CTL_SET_HOME", "/srv"),
            ("REUSE_CTL_SET_REUSE_WORKER_ID", "9"),
            ("REUSE_CTL_SET_PM2_HOME", "/wanted"),
        ];
        let environment = of(&parent, &spec());
        for (name, expected) in [
            ("LD_PRELOAD", "/lib/x.so"),
            ("A", "worker's"),
            ("HOME", "/srv"),
            ("REUSE_WORKER_ID", "2"),
            ("PM2_HOME", "/wanted"),
        ] {
            assert_eq!(value(&environment, name), Some(expected), "{name}");
        }
        assert!(!environment.iter().any(|(name, _)| name.starts_with(VARIABLE_PREFIX)));
    }

    #[test]
    fn the_worker_learns_who_it_is() {
        let environment = of(
            &[
                ("HOME", "/root"),
                ("USER", "root"),
                ("NODE_APP_INSTANCE", "9"),
                ("NODE_CHANNEL_FD", "9"),
            ],
            &spec(),
        );
        for (name, expected) in [
            ("HOME", "/nonexistent"),
            ("USER", "nobody"),
            ("LOGNAME", "nobody"),
            ("REUSE_APP", "shop"),
            ("REUSE_WORKER_ID", "2"),
            ("NODE_APP_INSTANCE", "2"),
            ("NODE_CHANNEL_FD", "100"),
            ("GODEBUG", "multipathtcp=0"),
            ("PATH", DEFAULT_PATH),
        ] {
            assert_eq!(value(&environment, name), Some(expected), "{name}");
        }
        let names: Vec<&String> = environment.iter().map(|(name, _)| name).collect();
        let mut unique = names.clone();
        unique.dedup();
        assert_eq!(names, unique);
    }

    #[test]
    fn settings_of_go_are_kept_and_the_path_grows_in_front() {
        let spec = LaunchSpec {
            path_prefix: vec!["/home/ann/.bun/bin".into()],
            ..spec()
        };
        let environment = of(&[("GODEBUG", "netdns=go"), ("PATH", "/bin:/usr/bin")], &spec);
        assert_eq!(value(&environment, "GODEBUG"), Some("netdns=go,multipathtcp=0"));
        assert_eq!(value(&environment, "PATH"), Some("/home/ann/.bun/bin:/bin:/usr/bin"));
    }

    #[test]
    fn inherited_listeners_are_announced_as_systemd_does() {
        let listen = vec![
            "127.0.0.1:80".parse().expect("address"),
            "[::]:443".parse().expect("address"),
        ];
        let environment = of(&[("LISTEN_FDS", "7")], &LaunchSpec { listen, ..spec() });
        assert_eq!(value(&environment, "LISTEN_FDS"), Some("2"));
        assert_eq!(value(&environment, "LISTEN_PID"), Some("77"));
        assert_eq!(value(&environment, "LISTEN_FDNAMES"), Some("tcp-80:tcp-443"));
    }
}
