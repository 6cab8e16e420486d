//! Messages to and from workers, and the bus: the state that the supervisor's task keeps for them.
//!
//! ```text
//!  worker ──channel──▶ Ear ──"ready", complaints──▶ task ──▶ events
//!                       │ ├──to a worker──▶ outbox of its current instance ──channel──▶ worker
//!                       │ ╰──anything else──▶ bus      (only while somebody listens)
//!  API ──send──▶ task ──╯        task: process:event ──▶ bus ◀── log:out: read from the logs
//! ```
//!
//! Messages between workers do not pass through the task: it has queues to watch, and must not be kept busy by a worker that sends all the
//! time.

pub(crate) mod ear;
pub(crate) mod output;
pub(crate) mod packets;
pub(crate) mod route;

pub(crate) use self::ear::Report;
use self::{ear::Ear, output::Outputs, packets::Lives};
use super::live::BackgroundEvent;
use crate::{
    base::{InstanceId, SlotId},
    process::channel::{Channel, Outbox, Turn, message::OWN_EVENTS},
    supervisor::bus::{Bus, BusReader},
    wire::{Event, Packet},
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

/// The task's state for messages.
#[derive(Debug)]
pub(crate) struct Messages {
    pub(crate) app: Arc<str>,
    pub(crate) mailboxes: Arc<Mutex<route::Mailboxes<Mailbox>>>,
    /// The instances that own the mailboxes, as the machine last said.
    pub(crate) seated: BTreeMap<SlotId, Option<InstanceId>>,
    turn: Turn,
    pub(crate) bus: Bus,
    pub(crate) lives: Lives,
    outputs: Outputs,
}

/// The recipient of messages to a slot.
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

    /// The channel of a new instance, and the end that the instance inherits.
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

    /// Announces that a worker will write to this log. On the bus, its lines become packets with this name.
    pub(crate) fn add_output(&self, slot: SlotId, name: &'static str, log: &Path) {
        self.outputs.add((slot, name), log);
    }

    /// Publishes an event of the controller's own, beside PM2's packets: `reuse:warning`.
    pub(crate) fn publish_own(&self, event: &Event) {
        if self.bus.is_heard() {
            self.bus.publish(Packet {
                name: format!("{OWN_EVENTS}{}", event.event),
                data: serde_json::to_string(event).expect("an event is plain data"),
            });
        }
    }

    /// A reader of everything that happens from now on.
    pub(crate) fn subscribe(&self) -> BusReader {
        let reader = self.bus.subscribe();
        self.outputs.follow(&self.bus, &self.app);
        reader
    }
}

/// "a message ", "3 messages ": number of messages of one kind since the last report.
pub(crate) fn a_message(times: u64) -> String {
    match times {
        1 => "a message ".into(),
        _ => format!("{times} messages "),
    }
}
