//! Steps that are needed both to set up an app and to change it.

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

/// The watched files. Folders to which workers write are excluded: a reload would write there and trigger the next one.
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

/// Lets workers reach their notify socket by its path. Whatever the umask, they may enter the folders on the way, though not list them.
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

/// The service ports: those of `--port` and `--listen`, or, without `--port`, every port that a worker binds.
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

/// The machine's rules, at the start and for `apply`.
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
