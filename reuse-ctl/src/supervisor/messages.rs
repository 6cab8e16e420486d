//! Messages to workers, from workers, and the bus: the part of the supervisor's task.
//!
//! ```text
//!  worker ──channel──▶ Ear ──"ready", complaints──▶ task ──▶ events
//!                       │ ├──to a worker──▶ outbox of its current instance ──channel──▶ worker
//!                       │ ╰──anything else──▶ bus      (only while somebody listens)
//!  API ──send──▶ task ──╯        task: process:event ──▶ bus ◀── log:out: read from the logs
//! ```
//!
//! What workers say to each other does not pass through the task: it has queues to watch, and a worker that talks all day must not keep it.

pub(crate) mod ear;
pub(crate) mod output;
pub(crate) mod packets;
pub(crate) mod route;

pub(crate) use self::ear::Report;
use self::{ear::Ear, output::Outputs, packets::Lives};
use super::live::BackgroundEvent;
use crate::{
    base::{InstanceId, SlotId},
    process::channel::{Channel, Outbox, Turn},
    supervisor::bus::{Bus, BusReader},
};
use hyper::body::Bytes;
use std::{
    collections::BTreeMap,
    io,
    os::fd::OwnedFd,
    path::Path,
    sync::{Arc, Mutex},
};
use tokio::sync::mpsc;

/// What the task keeps for messages.
#[derive(Debug)]
pub(crate) struct Messages {
    pub(crate) app: Arc<str>,
    pub(crate) mailboxes: Arc<Mutex<route::Mailboxes<Mailbox>>>,
    /// Whom the mailboxes belong to, as the machine said last.
    pub(crate) seated: BTreeMap<SlotId, Option<InstanceId>>,
    turn: Turn,
    pub(crate) bus: Bus,
    pub(crate) lives: Lives,
    outputs: Outputs,
}

/// Who hears what is sent to a slot.
#[derive(Debug, Clone)]
pub(crate) struct Mailbox {
    pub(crate) instance: InstanceId,
    pub(crate) outbox: Outbox<Bytes>,
}

impl Messages {
    pub(crate) fn new(app: &str) -> Self {
        Self {
            app: app.into(),
            mailboxes: Arc::default(),
            seated: BTreeMap::new(),
            turn: Turn::default(),
            bus: Bus::default(),
            lives: Lives::default(),
            outputs: Outputs::default(),
        }
    }

    /// The channel of a new instance, and the end that it inherits.
    pub(crate) fn open(
        &self,
        slot: SlotId,
        instance: InstanceId,
        background_events: mpsc::Sender<BackgroundEvent>,
    ) -> io::Result<(Channel, OwnedFd)> {
        let ear = Ear {
            slot,
            instance,
            app: Arc::clone(&self.app),
            mailboxes: Arc::clone(&self.mailboxes),
            bus: self.bus.clone(),
            background_events,
            memory: Mutex::default(),
        };
        Channel::open(Arc::clone(&self.turn), ear)
    }

    /// A worker is about to write into this log; on the bus its lines are packets of this name.
    pub(crate) fn add_output(&self, slot: SlotId, name: &'static str, log: &Path) {
        self.outputs.add((slot, name), log);
    }

    /// What happens from now on.
    pub(crate) fn subscribe(&self) -> BusReader {
        let reader = self.bus.subscribe();
        self.outputs.follow(&self.bus, &self.app);
        reader
    }
}

/// "a message ", "3 messages ": of one kind, since the last time that it was told.
pub(crate) fn a_message(times: u64) -> String {
    match times {
        1 => "a message ".into(),
        _ => format!("{times} messages "),
    }
}
