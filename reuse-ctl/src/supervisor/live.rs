//! The data that the controller keeps about each instance, beside the machine's state.

use std::{
    collections::HashMap,
    net::SocketAddr,
    os::fd::OwnedFd,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use nix::sys::signal::Signal;
use reuse_common::ids::Row;
use tokio::sync::mpsc;

use super::{
    directed::{DirectedId, DirectedOutcome},
    lookups::{Found, LookupError},
    messages::Report,
    new_address::{Named, ServedAt},
    ready_notify::{NotifySocket, Said},
    recycle_files::Told,
    stop_signal::{self, Begun, Signalled, StopRequest},
};
use crate::{
    app::options::StopOptions,
    base::{InstanceId, SlotId, VersionId},
    bpf::{BpfError, GroupProgram},
    group::{Groups, Listening, diag::Listener},
    process::{
        cgroup::InstanceCgroup,
        channel::{
            Channel, Offer,
            message::{SHUTDOWN, line_of},
        },
        handle::ProcessHandle,
        launch::{self, Child, LaunchSpec, Running, SpawnError},
        stop_plan::KillMode,
    },
};
use reuse_machine::interface::Exit;

/// How long the kernel may take to end the processes of a killed cgroup. This takes milliseconds, unless a process hangs in the kernel.
const REAP_PATIENCE: Duration = Duration::from_secs(10);

/// How often to check whether the servers behind an ended wrapper have ended, too.
const LOOK_AT_REST_EVERY: Duration = Duration::from_millis(10);

/// The result of a background task.
pub(crate) enum BackgroundEvent {
    /// The instance's command is running.
    Spawned(InstanceId, Running),
    /// The instance's command has been running for a while.
    RanForAWhile(InstanceId),
    /// The instance could not be started.
    SpawnFailed(InstanceId, SpawnError),
    /// The instance's processes that were told to stop have ended, and others go on.
    ServersEnded(InstanceId),
    /// The instance's main process has ended, and its cgroup is empty.
    Exited(InstanceId, Exit),
    /// Both ends of a connection that the controller opened are established.
    Established(DirectedId),
    /// The outcome of a connection that the controller opened.
    Over(DirectedId, DirectedOutcome),
    /// The instance has sent a message to its notify socket.
    Notified(InstanceId, Said),
    /// The memory used by instances, in bytes.
    Measured(HashMap<InstanceId, u64>),
    /// Watched files have changed.
    Files(Told),
    /// A program for the next group was loaded.
    SpareLoaded(Result<Box<GroupProgram>, BpfError>),
    /// The instance, or its channel, has something for the task.
    Said(InstanceId, Report),
    /// A look-up of files for a request has ended.
    LookedUp(Result<Found, LookupError>),
    /// The process that has the listener with this cookie, on a group's address: `pid (command)`.
    StrangerNamed(u64, SocketAddr, Option<String>),
}

/// An instance's process, and its data in the kernel's tables.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) slot: SlotId,
    /// The version that it was started from.
    pub(crate) version: VersionId,
    /// Its row in the load table.
    pub(crate) row: Row,
    pub(crate) cgroup: Arc<InstanceCgroup>,
    pub(crate) process: Process,
    /// The processes that were sent the stop signal.
    pub(crate) signalled: Signalled,
    /// The channel for messages to it.
    pub(crate) channel: Channel,
    /// The offset in the slot's log where its output begins.
    pub(crate) log_start: u64,
    /// The log of its standard output, if that goes to a file.
    pub(crate) log: PathBuf,
    /// The same offset for its standard error.
    pub(crate) err_log_start: u64,
    pub(crate) err_log: PathBuf,
    /// The addresses that it tried to bind, in case that fails.
    pub(crate) binds: Vec<SocketAddr>,
    /// Inherited listeners from which it has accepted a connection.
    pub(crate) accepted: Vec<SocketAddr>,
    /// The ports and addresses that occur in its command and variables.
    pub(crate) told: Named,
    /// Whether a user has said that it may listen on another address than its predecessors.
    pub(crate) may_move: bool,
    /// A known problem of it, for the user.
    pub(crate) problem: Option<String>,
    /// Whether it was sent the stop signal. Then the end of its main process doesn't end the other processes.
    pub(crate) told_to_end: Arc<AtomicBool>,
    /// Whether it has said that it is ready in the way that `--ready` requires: by a message, to its `NOTIFY_SOCKET`, or by an answer.
    pub(crate) announced_ready: bool,
    /// Its own status text, for the user.
    pub(crate) status_text: Option<String>,
    /// The socket for such messages.
    pub(crate) _notify: Option<NotifySocket>,
    /// Whether it was ever seen listening.
    pub(crate) listens: bool,
    /// Whether the machine was told that it is ready.
    pub(crate) ready: bool,
    /// Whether it was ever ready.
    pub(crate) was_ready: bool,
    /// Whether it was ever published.
    pub(crate) was_published: bool,
    /// Where its predecessors served, if it was published without serving all of that and may still open the rest.
    pub(crate) unsettled_move: Option<ServedAt>,
}

/// The state of the process.
#[derive(Debug)]
pub(crate) enum Process {
    /// The shim is preparing it.
    Launching,
    /// It is running.
    Running(ProcessHandle),
}

impl Live {
    pub(crate) fn pid(&self) -> Option<u32> {
        match &self.process {
            Process::Launching => None,
            Process::Running(handle) => Some(handle.pid()),
        }
    }

    /// It has said how it is; an empty text takes that back.
    pub(crate) fn set_status(&mut self, text: String) {
        self.status_text = Some(text).filter(|text| !text.is_empty());
    }

    pub(crate) fn was_told_to_end(&self) -> bool {
        self.told_to_end.load(Ordering::Acquire)
    }

    /// Every process of the instance, grandchildren included.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.cgroup.pids().unwrap_or_default()
    }

    /// Whether the listener was created by one of its processes. False if the kernel does not report the listener's cgroup.
    pub(crate) fn has_made(&self, listener: &Listener) -> bool {
        listener
            .cgroup
            .is_some_and(|cgroup| self.cgroup.ids().unwrap_or_default().contains(&cgroup))
    }

    /// Asks it to end: by a message, if that is wanted and it can be sent, else by the signal, which is passed down beside the task.
    pub(crate) fn ask_to_end(&self, stop: &StopOptions, groups: &Groups) -> Begun {
        let is_asked = stop.message && self.channel.outbox().is_open() && {
            let line = line_of(SHUTDOWN).expect("it is JSON");
            self.channel.say_last(line) == Offer::Queued
        };
        if is_asked {
            self.note_asked(stop.signal, stop.kill_mode);
            return Begun::NOTHING;
        }
        self.terminate(stop.signal, stop.kill_mode, groups.listeners_of(self.row))
    }

    /// Sends the stop signal to its main process, to those that have `listeners`, and to those in between.
    fn terminate(&self, signal: Signal, mode: Option<KillMode>, listeners: Vec<Listening>) -> Begun {
        match &self.process {
            Process::Launching => Begun::NOTHING,
            Process::Running(main) => {
                let request = StopRequest {
                    main: main.clone(),
                    cgroup: Arc::clone(&self.cgroup),
                    listeners,
                    signal,
                    mode,
                };
                stop_signal::stop(request, &self.signalled)
            }
        }
    }

    /// Records that its main process was asked to stop, but not by a signal.
    fn note_asked(&self, signal: Signal, mode: Option<KillMode>) {
        if let Process::Running(main) = &self.process {
            self.signalled.note_asked(signal, mode, main.pid());
        }
    }

    /// Kills every process of the instance. Its exit is reported as usual.
    pub(crate) fn kill(&self) {
        if let Err(error) = self.cgroup.kill() {
            tracing::warn!("{error}");
        }
    }
}

/// Starts the process in the background, with `channel` as its end of the message channel.
pub(crate) fn launch(
    id: InstanceId,
    spec: LaunchSpec,
    channel: OwnedFd,
    background_events: mpsc::Sender<BackgroundEvent>,
) {
    tokio::spawn(async move {
        let event = match launch::spawn(&spec, channel).await {
            Ok(running) => BackgroundEvent::Spawned(id, running),
            Err(error) => BackgroundEvent::SpawnFailed(id, error),
        };
        // The receiver exists as long as any instance does.
        drop(background_events.send(event).await);
    });
}

/// Waits in the background for the main process to end. If it was not told to stop, the rest of the instance is killed: a listener
/// inherited by an orphan would go on taking connections. Otherwise this waits for the servers behind it, which were told as well. Any
/// other process may still have connections to finish, and the task decides when it must end.
pub(crate) fn reap(
    id: InstanceId,
    mut child: Child,
    cgroup: Arc<InstanceCgroup>,
    told_to_end: Arc<AtomicBool>,
    signalled: Signalled,
    background_events: mpsc::Sender<BackgroundEvent>,
) {
    tokio::spawn(async move {
        let exit = match child.wait().await {
            Ok(status) => launch::exit_of(status),
            Err(error) => {
                tracing::warn!("waiting for a worker: {error}");
                Exit::Code(-1)
            }
        };
        if told_to_end.load(Ordering::Acquire) {
            // A kill ends them at the latest; the machine's timeouts decide when.
            while signalled.has_left(&cgroup) && !cgroup.was_killed() {
                tokio::time::sleep(LOOK_AT_REST_EVERY).await;
            }
            if !cgroup.is_empty().unwrap_or(true) {
                drop(background_events.send(BackgroundEvent::ServersEnded(id)).await);
            }
            cgroup.killed_or_empty().await;
        } else if let Err(error) = cgroup.kill() {
            tracing::warn!("{error}");
        }
        if let Err(error) = cgroup.wait_empty(REAP_PATIENCE).await {
            tracing::warn!("{error}");
        }
        drop(background_events.send(BackgroundEvent::Exited(id, exit)).await);
    });
}
