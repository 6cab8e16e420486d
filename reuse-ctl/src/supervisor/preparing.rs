//! Steps that setting an app up and changing it have in common.

use crate::{
    app::options::{ReadyKind, RunOptions},
    base::{Failure, whole_ms::whole_ms},
    group::diag::Diag,
    process::{paths::AppPaths, stop_plan::tells_rest},
    supervisor::{
        listener_owners::taken_by,
        recycle_files::{Files, WatchError},
    },
};
use reuse_machine::interface::Rules;
use std::{
    fs::{self, Permissions},
    io,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

/// Where workers write is not watched: a reload would write there, too.
pub(crate) fn watched_files(options: &RunOptions, cwd: &Path, paths: &AppPaths) -> Result<Option<Files>, Failure> {
    let Some(watch) = &options.recycle.watch else {
        return Ok(None);
    };
    let folders = vec![paths.log_dir().to_owned(), paths.run_dir().to_owned()];
    match Files::meant(watch, cwd, folders) {
        Ok(files) => Ok(Some(files)),
        Err(error @ WatchError::Root { .. }) => Err(Failure::usage(error.to_string(), error.hint())),
        Err(error) => Err(Failure::failed(error.to_string(), error.hint())),
    }
}

/// Workers open their notify socket, if they get one, by its path: whatever the umask, they can pass through the folders, if not list them.
pub(crate) fn open_run_folder(ready: &ReadyKind, paths: &AppPaths) -> Result<(), Failure> {
    if *ready != ReadyKind::Notify {
        return Ok(());
    }
    let run_dir = paths.run_dir();
    let let_pass = |folder: &Path| {
        let mode = fs::metadata(folder)?.permissions().mode();
        fs::set_permissions(folder, Permissions::from_mode(mode | 0o111))
    };
    let opened = run_dir.ancestors().take(2).try_for_each(let_pass);
    opened.map_err(|error: io::Error| Failure::failed(format!("{}: {error}", run_dir.display()), ""))
}

pub(crate) fn address_taken(addr: SocketAddr, error: &io::Error, uid: u32, diag: &mut Diag) -> Failure {
    let listeners = diag.listeners_on(addr.port()).unwrap_or_default();
    match taken_by(addr, &listeners, &[], uid) {
        Some(who) => Failure::failed(who, "end it, or serve on another port"),
        None => Failure::failed(
            format!("port {}: {error}", addr.port()),
            "an outgoing connection may have it as its local port: see `ss -tan`, and `reuse-ctl doctor` for how to reserve it",
        ),
    }
}

/// With `--port` only these are ours, and those of `--listen`; else every port that a worker binds.
pub(crate) fn service_ports(options: &RunOptions) -> Vec<u16> {
    if options.ports.is_empty() {
        return Vec::new();
    }
    options
        .ports
        .iter()
        .copied()
        .chain(options.listen.iter().map(SocketAddr::port))
        .collect()
}

/// What the machine is told at the start, and again by `apply`.
pub(crate) fn rules(options: &RunOptions) -> Rules {
    Rules {
        ready_timeout_ms: whole_ms(options.ready.timeout),
        drain_timeout_ms: whole_ms(options.stop.drain_timeout),
        stop_timeout_ms: whole_ms(options.stop.timeout),
        rest_gets_signal: tells_rest(options.stop.kill_mode),
        settle_ms: whole_ms(options.rollout.settle),
        surge: options.rollout.surge,
        hung: options.hung,
        health: options.health.as_ref().map(|health| health.rules),
    }
}
