//! What the controller holds of each instance beside the machine's state.

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
    connections::{DirectedOutcome, Ticket},
    lookups::{Found, LookupError},
    messages::Report,
    new_address::{Named, Place},
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

/// How long the kernel may take to end a killed cgroup. It is a matter of milliseconds, unless a process hangs in the kernel.
const REAP_PATIENCE: Duration = Duration::from_secs(10);

/// How often it is seen whether the servers behind a wrapper that has ended have ended, too.
const LOOK_AT_REST_EVERY: Duration = Duration::from_millis(10);

/// Something that a background task has to tell.
pub(crate) enum BackgroundEvent {
    /// Its command runs.
    Spawned(InstanceId, Running),
    /// Its command has run for a while.
    Settled(InstanceId),
    /// It could not be started.
    SpawnFailed(InstanceId, SpawnError),
    /// Those of its processes that were told to end have ended, and others go on.
    ServersEnded(InstanceId),
    /// Its main process has ended, and nothing is left in its cgroup.
    Exited(InstanceId, Exit),
    /// Both ends of a connection of the controller's own are established.
    Established(Ticket),
    /// Something has come of one.
    Over(Ticket, DirectedOutcome),
    /// It has said something to its notify socket.
    Notified(InstanceId, Said),
    /// What instances have in memory, in bytes.
    Measured(HashMap<InstanceId, u64>),
    /// Of files that are watched.
    Files(Told),
    /// A program for the next group.
    SpareLoaded(Result<Box<GroupProgram>, BpfError>),
    /// It, or the channel to it, has something for the task.
    Said(InstanceId, Report),
    /// Files were looked at for somebody.
    LookedUp(Result<Found, LookupError>),
    /// Who has the listener with this cookie, on the address of a group: `pid (command)`.
    StrangerNamed(u64, SocketAddr, Option<String>),
}

/// A process and where it stands in the kernel's tables.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) slot: SlotId,
    /// What it was started from.
    pub(crate) version: VersionId,
    /// Row of the load table.
    pub(crate) row: Row,
    pub(crate) cgroup: Arc<InstanceCgroup>,
    pub(crate) process: Process,
    /// Who of it has got the stop signal.
    pub(crate) signalled: Signalled,
    /// For messages to it.
    pub(crate) channel: Channel,
    /// Where its part of the slot's log begins.
    pub(crate) log_start: u64,
    /// Its standard output, if that goes to a file.
    pub(crate) log: PathBuf,
    /// The same of its standard error.
    pub(crate) err_log_start: u64,
    pub(crate) err_log: PathBuf,
    /// What it tried to bind, for the case that it does not succeed.
    pub(crate) binds: Vec<SocketAddr>,
    /// Inherited listeners that it has accepted from.
    pub(crate) accepted: Vec<SocketAddr>,
    /// What it was told, as far as it may say where to listen.
    pub(crate) told: Named,
    /// Whether somebody has said that it may listen elsewhere than those before it.
    pub(crate) may_move: bool,
    /// What is known to be wrong with it, for a person.
    pub(crate) problem: Option<String>,
    /// Whether it has got the stop signal: then the end of its main process is not the end of the others.
    pub(crate) told_to_end: Arc<AtomicBool>,
    /// Whether it has said itself that it is ready, in the way that `--ready` wants: by a message, to its `NOTIFY_SOCKET`, or by an
    /// answer.
    pub(crate) announced_ready: bool,
    /// What it says of itself, for a person.
    pub(crate) status_text: Option<String>,
    /// Over which it says so.
    pub(crate) _notify: Option<NotifySocket>,
    /// Whether it was ever seen to listen.
    pub(crate) listens: bool,
    /// Whether the machine was told that it is ready.
    pub(crate) ready: bool,
    /// Whether it ever was.
    pub(crate) was_ready: bool,
    /// Whether it could ever be chosen.
    pub(crate) was_published: bool,
    /// Where the instances before it served, if it was published without some of that and may still open it.
    pub(crate) unsettled_move: Option<Place>,
}

/// How far the process is.
#[derive(Debug)]
pub(crate) enum Process {
    /// The shim prepares it.
    Launching,
    /// It runs.
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

    /// Whether the listener was made by one of its processes. Not, where the kernel does not tell the listener's cgroup.
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

    /// Its main process was asked to end, but not by a signal.
    fn note_asked(&self, signal: Signal, mode: Option<KillMode>) {
        if let Process::Running(main) = &self.process {
            self.signalled.note_asked(signal, mode, main.pid());
        }
    }

    /// Ends every process of the instance; its exit is told as usual.
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
        // The receiver lives as long as any instance does.
        drop(background_events.send(event).await);
    });
}

/// Waits in the background for the main process to end. If it was not told to, what is left of the instance is ended: an orphan's inherited
/// descriptor would go on swallowing connections. Else the servers behind it are waited for, which were told as well; what is left then may
/// have connections to finish, and the task says when it has to end.
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
            // A kill ends them at the latest, for which the machine has its times.
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
