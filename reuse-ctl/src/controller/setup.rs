//! `run`: creates what an app needs before its first worker, and removes it again whatever happens in between.

use std::{
    ffi::OsStr,
    fs::{self},
    io,
    time::Duration,
};

use nix::{
    sys::stat::Mode,
    unistd::{Gid, Uid},
};
use reuse_common::client::ClientMask;
use tokio::{net::UnixListener, sync::oneshot};

use super::leftovers;
use crate::supervisor::preparing::{address_taken, open_run_folder, rules, service_ports, watched_files};
use crate::{
    app::options::{LogTarget, RunOptions, WhenEmpty},
    base::{Failure, whole_ms::whole_ms},
    bpf::{AppOptions, BpfError, Notices},
    doctor,
    group::{GroupError, Groups, GroupsOptions, diag::Diag},
    process::{
        cgroup::AppCgroup,
        descriptors,
        env_file::Rights,
        identity::{self, Identity},
        journal, own_priority,
        paths::{AppLock, AppPaths},
    },
    server,
    supervisor::{
        all_failed,
        console::Console,
        handle::Handle,
        logs::{self, Logs},
        ports::Guards,
        recycle_files::Files,
        service_manager::ServiceManager,
        signals::Signals,
        task::{Task, Upkeep},
        template::{Template, Version},
        terminal::{Terminal, TerminalLines, is_coloured, show_panics},
    },
};
use reuse_machine::{
    Machine,
    interface::{Config, WhenAllFailed},
    versions::Versions,
};

/// The first delay after a crash, and the limit up to which it doubles.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));

/// Number of crashes in a row after which a worker has failed.
const CRASH_LIMIT: u32 = 5;

/// A worker that has been active for this long counts as stable.
const STABLE: Duration = Duration::from_secs(10);

/// How long background work may take when everything else has ended.
const LAST_LOOKS: Duration = Duration::from_secs(2);

/// Runs an app in this process until it is stopped.
///
/// # Errors
/// Fails if the app could not be started, or if every worker has failed. Nothing is left behind in either case.
pub fn run(options: RunOptions) -> Result<(), Failure> {
    give_back_large_blocks();
    // Dropped last, because there may be something to print until then.
    let terminal = Terminal::start().map_err(|error| Failure::failed(format!("clone: {error}"), "see `ulimit -u`"))?;
    show_panics(terminal.lines());
    start_logging(options.verbosity, terminal.lines());
    // This thread runs the task that looks at the queues.
    if let Err(error) = own_priority::prefer_this_thread() {
        tracing::debug!("looks may be late when the processors are busy: sched_setattr: {error}");
    }
    if let Err(error) = descriptors::raise_limit() {
        tracing::debug!("many workers may be too many: RLIMIT_NOFILE: {error}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("epoll_create: {error}"), "see `ulimit -n`"))?;
    let result = runtime.block_on(run_app(options, terminal.lines()));
    // A background look at a file may wait for a file system that hangs.
    runtime.shutdown_timeout(LAST_LOOKS);
    result
}

async fn run_app(options: RunOptions, lines: TerminalLines) -> Result<(), Failure> {
    let signals = Signals::new().map_err(|error| Failure::failed(format!("sigaction: {error}"), ""))?;
    let console = Console::new(options.detached, lines);
    let prepared = prepare(&options, &console)?;
    let Prepared {
        control,
        groups,
        notices,
        diag,
        template,
        guards,
        files,
        traces,
    } = prepared;

    let (handle, ends) = Handle::new(Uid::from_raw(template.identity.uid));
    let (close, closing) = oneshot::channel::<()>();
    let api = tokio::spawn(server::serve(control, handle, async {
        drop(closing.await);
    }));
    let machine = Machine::new(machine_config(&options), options.policy);
    let logs = Logs::start(logs::limits(options.logs), console.worker_lines())
        .map_err(|error| Failure::failed(format!("socketpair: {error}"), "see `ulimit -n`"))?;
    if options.detached {
        logs.keep_own(template.paths.controller_log());
    }
    let upkeep = Upkeep {
        hung_after_ms: options.hung.hung_after_ms,
        health: options.health.clone(),
        recycle: options.recycle.clone(),
        files,
        service: ServiceManager::from_environment().map_err(|error| {
            Failure::failed(
                format!("NOTIFY_SOCKET: {error}"),
                "unset it if there is no service manager",
            )
        })?,
        logs,
        guards,
    };
    let (mut task, happened) = Task::new(machine, template, groups, diag, console, ends.events, upkeep);
    let finished = task.run(ends.asks, notices, happened, signals).await;
    task.come_to_rest().await;

    let (how, last_failure) = task.last_words();
    // Last answers first; then the program and its maps, the port guards, and what is left on disk.
    drop(close);
    drop(api.await);
    drop(task);
    drop(traces);
    if finished.failed {
        let mut failure = Failure::failed(
            all_failed::all_have_failed(how.as_deref(), last_failure.as_ref()),
            format!(
                "see `reuse-ctl logs --app {0}`, or the files in /var/log/reuse-ctl/{0}",
                options.name
            ),
        );
        let (_, output) = last_failure.unwrap_or_default();
        (failure.output, failure.output_of) = (output.lines, output.of);
        return Err(failure);
    }
    Ok(())
}

/// Everything that exists before the first worker.
struct Prepared {
    control: UnixListener,
    groups: Groups,
    notices: Notices,
    diag: Diag,
    template: Template,
    guards: Guards,
    files: Option<Files>,
    traces: Traces,
}

fn prepare(options: &RunOptions, console: &Console) -> Result<Prepared, Failure> {
    doctor::required().map_err(|check| Failure::failed(format!("{}: {}", check.name, check.detail), check.remedy))?;
    let version = Version::resolve(options.clone(), Rights::Callers)?;
    let cwd = version.command.cwd().to_owned();
    let identity =
        Identity::resolve(options.user.as_deref()).map_err(|error| Failure::failed(error.to_string(), error.hint()))?;
    if identity.runs_as_root() {
        console.warn("workers run as root: give --user, or start with sudo from your own account");
    }
    let mode_and_group = control_access(options)?;
    let paths = AppPaths::new(&options.name).map_err(|error| Failure::usage(error.to_string(), error.hint()))?;
    let files = watched_files(options, &cwd, &paths)?;
    if options.logs.target == LogTarget::Journald {
        journal::check().map_err(|error| {
            Failure::failed(
                format!("--log journald: connect to {}: {error}", journal::SOCKET),
                "systemd-journald does not run here: leave the option out, and output goes to files",
            )
        })?;
    }
    leftovers::refuse(&options.name)?;
    let lock = paths
        .lock()
        .map_err(|error| Failure::failed(error.to_string(), error.hint()))?;
    open_run_folder(&options.ready.kind, &paths)?;
    note_target(&paths, options.logs.target)?;
    let mut traces = Traces {
        cgroup: None,
        lock: Some(lock),
    };
    let mut diag = Diag::new().map_err(|error| Failure::failed(error.to_string(), "see `reuse-ctl doctor`"))?;
    let cgroup = AppCgroup::create(&options.name).map_err(|error| Failure::failed(error.to_string(), error.hint()))?;
    traces.cgroup = Some(cgroup.clone());
    cgroup
        .allow(&options.limits)
        .map_err(|error| Failure::failed(error.to_string(), error.hint()))?;
    let opened = cgroup
        .open()
        .map_err(|error| Failure::failed(format!("{}: {error}", cgroup.path().display()), ""))?;
    let guards = Guards::hold(&options.ports, &opened, identity.uid, &mut diag)?;
    let (groups, notices) = Groups::open(paths.pin_dir(), opened, &groups_options(options, &cgroup, identity.uid))
        .map_err(|error| cannot_steer(&error, identity.uid, &mut diag))?;
    let (mode, uid, gid) = mode_and_group;
    let control = server::bind(&paths.control_socket(), uid, gid, mode)
        .map_err(|error| Failure::failed(error.to_string(), "see whether /run is writable"))?;
    let template = Template {
        app: options.name.clone(),
        cgroup,
        identity,
        listen: options.listen.clone(),
        paths,
        versions: Versions::new(version),
        verbosity: options.verbosity,
    };
    Ok(Prepared {
        control,
        groups,
        notices,
        diag,
        template,
        guards,
        files,
        traces,
    })
}

/// What would be left on disk. Dropping this removes it, in the right order.
struct Traces {
    cgroup: Option<AppCgroup>,
    lock: Option<AppLock>,
}

impl Drop for Traces {
    fn drop(&mut self) {
        if let Some(cgroup) = self.cgroup.take()
            && let Err(error) = cgroup.kill().and_then(|()| cgroup.remove())
        {
            tracing::warn!("{error}");
        }
        if let Some(lock) = self.lock.take()
            && let Err(error) = lock.remove()
        {
            tracing::warn!("{error}");
        }
    }
}

/// Leaves a note for `logs`, which may be called after the app has ended.
fn note_target(paths: &AppPaths, target: LogTarget) -> Result<(), Failure> {
    let note = paths.journal_note();
    let noted = match target {
        LogTarget::Journald => fs::create_dir_all(paths.log_dir()).and_then(|()| fs::write(&note, "")),
        LogTarget::File => match fs::remove_file(&note) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        },
    };
    noted.map_err(|error| {
        Failure::failed(
            format!("{}: {error}", note.display()),
            "see whether /var/log is writable",
        )
    })
}

fn control_access(options: &RunOptions) -> Result<(Mode, Uid, Gid), Failure> {
    let owner = identity::owner();
    let uid = Uid::from_raw(owner.uid);
    let Some(group) = &options.control_group else {
        return Ok((Mode::from_bits_truncate(0o600), uid, Gid::from_raw(owner.gid)));
    };
    let gid = identity::group_id(group)
        .ok_or_else(|| Failure::failed(format!("there is no group {group}"), "see `getent group`"))?;
    Ok((Mode::from_bits_truncate(0o660), uid, Gid::from_raw(gid)))
}

fn cannot_steer(error: &GroupError, uid: u32, diag: &mut Diag) -> Failure {
    match error {
        GroupError::Backstop { addr, source } => address_taken(*addr, source, uid, diag),
        GroupError::Taken { app, .. } => Failure::failed(
            error.to_string(),
            format!("serve on another port, or end that one: `reuse-ctl stop --app {app}`"),
        ),
        GroupError::Bpf(BpfError::Pins { .. }) => Failure::failed(error.to_string(), "mount -t bpf bpf /sys/fs/bpf"),
        _ => Failure::failed(
            error.to_string(),
            "`reuse-ctl doctor` tests every feature and shows what is missing",
        ),
    }
}

fn groups_options(options: &RunOptions, cgroup: &AppCgroup, uid: u32) -> GroupsOptions {
    let sticky = options.sticky;
    GroupsOptions {
        cgroup: cgroup.clone(),
        programs: AppOptions {
            policy: options.policy,
            client_mask: ClientMask::new(sticky.prefix4.into(), sticky.prefix6.into()),
            client_ttl_s: sticky.ttl.as_secs(),
            client_capacity: sticky.capacity,
            ports: service_ports(options),
            cgroup_level: cgroup.instance_level(),
            verbose: options.verbosity > 0,
        },
        uid,
        alone: options.alone,
        refuse_when_empty: options.when_empty == WhenEmpty::Refuse,
        listen: options.listen.clone(),
    }
}

fn machine_config(options: &RunOptions) -> Config {
    let rules = rules(options);
    Config {
        workers: options.workers,
        ready_timeout_ms: rules.ready_timeout_ms,
        drain_timeout_ms: rules.drain_timeout_ms,
        stop_timeout_ms: rules.stop_timeout_ms,
        rest_gets_signal: rules.rest_gets_signal,
        settle_ms: rules.settle_ms,
        surge: rules.surge,
        backoff_min_ms: whole_ms(BACKOFF.0),
        backoff_max_ms: whole_ms(BACKOFF.1),
        crash_limit: CRASH_LIMIT,
        stable_ms: whole_ms(STABLE),
        seed: fastrand::u64(..),
        hung: rules.hung,
        health: rules.health,
        when_all_failed: when_all_failed(options.detached, std::env::var_os("NOTIFY_SOCKET").as_deref()),
    }
}

/// Nobody would restart a controller that `--detach` left in the background. A service manager would, if one waits for it.
fn when_all_failed(is_detached: bool, notify_socket: Option<&OsStr>) -> WhenAllFailed {
    let is_service = notify_socket.is_some_and(|path| !path.is_empty());
    if is_detached && !is_service {
        WhenAllFailed::Stay
    } else {
        WhenAllFailed::Finish
    }
}

/// Loading a program takes 20 MB for a moment. Without this setting the allocator would keep such blocks afterwards, for each thread that
/// uses them: 30 MB instead of 11 stayed resident.
fn give_back_large_blocks() {
    #[cfg(target_env = "gnu")]
    {
        /// The allocator's own initial value.
        const LARGE_BYTES: libc::c_int = 128 * 1024;
        // SAFETY: no other thread allocates yet, and a size is what this parameter takes.
        let accepted = unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE_BYTES) };
        debug_assert_eq!(accepted, 1, "within the allocator's bounds");
    }
}

/// Prints the controller's diagnostics, and with `-v` the programs' log.
fn start_logging(verbosity: u8, lines: TerminalLines) {
    let level = match verbosity {
        0 => "warn",
        1 => "warn,reuse=debug,select=debug,reuse_ctl=info",
        _ => "debug",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_env("REUSE_LOG").unwrap_or_else(|_| level.into());
    // A logger exists already if this is called a second time, as in a test.
    drop(
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_ansi(is_coloured())
            .with_writer(lines)
            .try_init(),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_app_that_nobody_waits_for_stays() {
        let manager = Some(OsStr::new("/run/systemd/notify"));
        for (is_detached, notify_socket, expected) in [
            (true, None, WhenAllFailed::Stay),
            (true, Some(OsStr::new("")), WhenAllFailed::Stay),
            (true, manager, WhenAllFailed::Finish),
            (false, None, WhenAllFailed::Finish),
            (false, manager, WhenAllFailed::Finish),
        ] {
            assert_eq!(
                when_all_failed(is_detached, notify_socket),
                expected,
                "{is_detached} {notify_socket:?}"
            );
        }
    }
}
