//! A supervisor for tests: it answers from a script and records the requests. Shared by the tests of `server` and `cli`.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid};
use reuse_common::Share;
use tokio::sync::{broadcast, oneshot};

use crate::{
    app::AppSpec,
    base::{ErrorKind, SlotId, WorkerState},
    process::channel::message::Outgoing,
    server,
    supervisor::{
        bus::{Bus, BusReader},
        handle::{Ask, Handle, SupervisorEnds},
    },
    wire::{
        CanaryRequest, Event, GetRequest, Got, GroupStatus, InstanceStatus, Packet, Reply, Status, Verdicts,
        WorkerStatus,
    },
};
use reuse_machine::interface::Command;

/// A folder that is removed at the end of the test.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("reuse-ctl-test-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a temporary folder");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).expect("the temporary folder is still ours");
    }
}

/// A served app.
pub(crate) struct App {
    pub(crate) folder: Folder,
    pub(crate) events: broadcast::Sender<Event>,
    pub(crate) asked: Arc<Mutex<Vec<Command>>>,
    pub(crate) canaries: Arc<Mutex<Vec<(Share, CanaryRequest)>>>,
    pub(crate) shutdown: oneshot::Sender<()>,
    pub(crate) server: tokio::task::JoinHandle<std::io::Result<()>>,
    pub(crate) supervisor: tokio::task::JoinHandle<()>,
}

impl App {
    /// An app whose supervisor answers every command with the result of `respond`, starts every canary, and answers `get` as [`got`].
    pub(crate) fn start<F>(name: &str, respond: impl Fn(&Command) -> F + Send + 'static) -> Self
    where
        F: Future<Output = Reply> + Send + 'static,
    {
        let folder = Folder::new(name);
        let (handle, SupervisorEnds { mut asks, events }) = Handle::new(nix::unistd::geteuid());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&asked);
        let canaries = Arc::new(Mutex::new(Vec::new()));
        let started = Arc::clone(&canaries);
        let supervisor = tokio::spawn(async move {
            while let Some(ask) = asks.recv().await {
                match ask {
                    Ask::Status(reply) => drop(reply.send(status())),
                    Ask::Canary { share, request, reply } => {
                        started.lock().expect("no test panicked with it").push((share, request));
                        drop(reply.send(Reply {
                            ok: true,
                            message: Some("worker 3 is a canary".into()),
                            workers: vec![3],
                            ..Reply::default()
                        }));
                    }
                    Ask::Get { slot, request, reply } => drop(reply.send(got(slot, &request))),
                    Ask::Spec(reply) => drop(reply.send(AppSpec::default())),
                    Ask::Apply { reply, .. } => drop(reply.send(Reply::default())),
                    Ask::Send { slot, message, reply } => drop(reply.send(sent(slot, &message))),
                    Ask::Bus(reply) => drop(reply.send(published())),
                    Ask::Command { command, reply, .. } => {
                        let answer = respond(&command);
                        record.lock().expect("no test panicked with it").push(command);
                        tokio::spawn(async move { drop(reply.send(answer.await)) });
                    }
                }
            }
        });
        let listener = bind_private(&folder.0.join("control.sock"));
        let (shutdown, ended) = oneshot::channel();
        let server = tokio::spawn(server::serve(listener, handle, async {
            ended.await.expect("the test ends it");
        }));
        Self {
            folder,
            events,
            asked,
            canaries,
            shutdown,
            server,
            supervisor,
        }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.0.join("control.sock")
    }

    pub(crate) fn asked(&self) -> Vec<Command> {
        self.asked.lock().expect("no test panicked with it").clone()
    }
}

pub(crate) fn bind_private(path: &Path) -> tokio::net::UnixListener {
    server::bind(
        path,
        Uid::effective(),
        Gid::effective(),
        Mode::from_bits_truncate(0o600),
    )
    .expect("a folder of our own")
}

/// Worker 2 answers: binary data at `/bytes`, 204 at `/nothing`, 100 at `/strange`, else 404. Every other worker refuses.
#[expect(clippy::result_large_err, reason = "as the supervisor answers")]
pub(crate) fn got(slot: SlotId, request: &GetRequest) -> Result<Got, Reply> {
    let (status, content_type, body): (_, _, &[u8]) = match (slot, request.path.as_str()) {
        (SlotId(2), "/bytes") => (200, Some("image/x"), b"\x00\xff{\"ok\":false}"),
        (SlotId(2), "/nothing") => (204, None, b""),
        (SlotId(2), "/strange") => (100, None, b""),
        (SlotId(2), _) => (404, Some("text/plain"), b"no such page\n"),
        (slot, _) => {
            return Err(Reply {
                kind: Some(ErrorKind::Timeout),
                error: Some(format!("worker {slot} has not answered")),
                hint: Some("wait".into()),
                ..Reply::default()
            });
        }
    };
    Ok(Got {
        status,
        content_type: content_type.map(str::to_owned),
        body: body.to_vec(),
    })
}

/// Every worker except 1 gets every message.
fn sent(slot: Option<SlotId>, message: &Outgoing) -> Reply {
    let line = message.line(slot.map_or(0, |slot| slot.0));
    Reply {
        ok: slot != Some(SlotId(1)),
        message: Some(String::from_utf8_lossy(&line).into_owned()),
        workers: slot.map_or(vec![0, 2], |slot| vec![slot.0]),
        error: (slot == Some(SlotId(1))).then(|| "worker 1 is deaf".into()),
        ..Reply::default()
    }
}

/// Two packets, then the end.
fn published() -> BusReader {
    let bus = Bus::default();
    let reader = bus.subscribe();
    for (name, data) in [("chat", r#"{"data":1}"#), ("process:event", r#"{"event":"online"}"#)] {
        bus.publish(Packet {
            name: name.into(),
            data: data.into(),
        });
    }
    reader
}

/// Three workers: one active, one draining, one backing off.
pub(crate) fn status() -> Status {
    Status {
        app: "shop".into(),
        policy: "sticky".into(),
        pid: 4711,
        uptime_s: 3723,
        problem: None,
        groups: vec![
            GroupStatus {
                addr: "0.0.0.0:8080".into(),
                protocol: "tcp".into(),
                handshakes: 1,
                parked: 0,
                verdicts: Verdicts {
                    chosen: 1000,
                    ..Verdicts::default()
                },
                strangers: vec![],
            },
            GroupStatus {
                addr: "[::]:8443".into(),
                protocol: "tcp".into(),
                handshakes: 0,
                parked: 3,
                verdicts: Verdicts::default(),
                strangers: vec![],
            },
        ],
        fallbacks: 0,
        unsteered: 0,
        drain_timeout_ms: Some(30_000),
        workers: vec![
            worker(0, WorkerState::Active, 750),
            WorkerStatus {
                connections: 17,
                queue: 3,
                ..worker(1, WorkerState::Draining, 250)
            },
            WorkerStatus {
                pid: None,
                instances: vec![],
                uptime_s: 0,
                connections: 0,
                restarts: 4,
                reason: Some("exit code 1, 4 times in a row; next try in 3.2 s".into()),
                ..worker(2, WorkerState::BackingOff, 0)
            },
        ],
    }
}

pub(crate) fn worker(id: u16, state: WorkerState, selected_total: u64) -> WorkerStatus {
    let pid = 5000 + u32::from(id);
    WorkerStatus {
        id,
        pid: Some(pid),
        state,
        uptime_s: 3720,
        restarts: 0,
        connections: 12,
        queue: 0,
        selected_total,
        established_total: selected_total,
        accepted_total: selected_total,
        migrated_in_total: 0,
        migrated_out_total: 0,
        cut_total: 0,
        cut_in_flight_total: 0,
        cpu_percent: 12.34,
        memory_bytes: 52_428_800,
        instances: vec![InstanceStatus {
            pid,
            state,
            connections: 12,
            queue: 0,
            left_out: Vec::new(),
        }],
        published: state == WorkerState::Active,
        fault: None,
        weight: None,
        canary: false,
        status_text: None,
        reason: None,
    }
}
