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
use self::{
    ear::Ear,
    output::Outputs,
    packets::{Details, Happened, Lives, Process},
};
use super::{
    announcer::Announcer,
    asks::refusal,
    bus::{Bus, BusReader},
    live::{BackgroundEvent, Live},
};
use crate::{
    base::{ErrorKind, InstanceId, SlotId, Verb, WorkerState},
    process::channel::{Channel, Offer, Outbox, Turn, Unread, message::Outgoing},
    wire::{Event, Reply},
};
use hyper::body::Bytes;
use reuse_machine::{View, interface::Note};
use std::{
    collections::{BTreeMap, HashMap},
    io,
    os::fd::OwnedFd,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::mpsc;

/// The task's state for messages.
#[derive(Debug)]
pub(crate) struct Messages {
    app: Arc<str>,
    mailboxes: Arc<Mutex<route::Mailboxes<Mailbox>>>,
    /// The instances that own the mailboxes, as the machine last said.
    current: BTreeMap<SlotId, Option<InstanceId>>,
    turn: Turn,
    pub(crate) bus: Bus,
    lives: Lives,
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
            current: BTreeMap::new(),
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
    pub(crate) fn assign(&mut self, view: &View, live: &HashMap<InstanceId, Live>) {
        let current: BTreeMap<_, _> = view.slots.iter().map(|slot| (slot.id, slot.current)).collect();
        if current == self.current {
            return;
        }
        let mailboxes = current.iter().map(|(&slot, &current)| {
            let live = current.and_then(|instance| Some((instance, live.get(&instance)?)));
            let mailbox = live.map(|(instance, live)| Mailbox {
                instance,
                outbox: live.channel.outbox().clone(),
            });
            (slot, mailbox)
        });
        let mailboxes = mailboxes.collect();
        *self.mailboxes.lock().unwrap_or_else(PoisonError::into_inner) = mailboxes;
        let before = std::mem::replace(&mut self.current, current);
        for slot in before.into_keys() {
            if !self.current.contains_key(&slot) {
                let happened = self.lives.removed(slot);
                self.publish_event(happened, slot, None, view);
            }
        }
    }

    /// Tells the bus what became of an instance.
    pub(crate) fn tell_bus(&mut self, note: &Note, pid: Option<u32>, view: &View) {
        let Some(slot) = note.slot else { return };
        let row = view.slots.iter().find(|row| row.id == slot);
        let is_leaving = row.is_none_or(|row| row.current.is_none_or(|current| Some(current) == note.instance));
        if let Some(happened) = self.lives.happened(note, is_leaving) {
            self.publish_event(happened, slot, pid, view);
        }
    }

    fn publish_event(&self, happened: Happened, slot: SlotId, pid: Option<u32>, view: &View) {
        if !self.bus.is_heard() {
            return;
        }
        let row = view.slots.iter().find(|row| row.id == slot);
        let has_failed = row.is_some_and(|row| row.state == WorkerState::Failed);
        let details = Details {
            process: Process::new(slot, &self.app),
            status: if has_failed { "errored" } else { happened.status() },
            pid,
            restart_time: row.map_or(0, |row| row.restarts),
        };
        self.bus.publish(happened.packet(&details));
    }

    /// Sends a message to one worker, or to all that there are.
    pub(crate) fn send(
        &self,
        to: Option<SlotId>,
        message: &Outgoing,
        live: &HashMap<InstanceId, Live>,
        announcer: &Announcer,
    ) -> Reply {
        let mailboxes = self.mailboxes.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let hint = Verb::Status.run() + " lists the workers and their states";
        if let Some(slot) = to
            && !mailboxes.contains_key(&slot)
        {
            return *refusal(ErrorKind::NotFound, format!("no worker {slot}"), hint);
        }
        let (mut queued, mut refused) = (Vec::new(), Vec::new());
        for (slot, mailbox) in mailboxes {
            if to.is_some_and(|to| to != slot) {
                continue;
            }
            let Some(mailbox) = mailbox else {
                // Of all, nobody is missed there.
                refused.extend(to.map(|_| format!("worker {slot}: nothing runs there now")));
                continue;
            };
            match mailbox.outbox.offer(message.line(slot.0)) {
                Offer::Queued => queued.push(slot.0),
                Offer::Lost { is_first } => {
                    if is_first {
                        tell_of_deaf(slot, live.get(&mailbox.instance), announcer);
                    }
                    refused.push(format!(
                        "worker {slot} does not read its messages: no more can wait for it"
                    ));
                }
                Offer::Closed => refused.push(format!("worker {slot} has no channel: it has closed it")),
            }
        }
        if queued.is_empty() && refused.is_empty() {
            refused.push("nothing runs now".into());
        }
        if !refused.is_empty() {
            let refusal = refusal(ErrorKind::Failed, refused.join("; "), hint);
            return Reply {
                workers: queued,
                ..*refusal
            };
        }
        let names: Vec<String> = queued.iter().map(u16::to_string).collect();
        let s = if queued.len() == 1 { "" } else { "s" };
        Reply {
            ok: true,
            message: Some(format!("queued for worker{s} {}", names.join(", "))),
            workers: queued,
            ..Reply::default()
        }
    }

    /// A reader of everything that happens from now on.
    pub(crate) fn subscribe(&self) -> BusReader {
        let reader = self.bus.subscribe();
        self.outputs.follow(&self.bus, &self.app);
        reader
    }
}

/// A worker, or the channel to it, has something for people. That it is ready is for the task to know.
pub(crate) fn tell_of_report(live: &Live, report: Report, all: &HashMap<InstanceId, Live>, announcer: &Announcer) {
    let tell = |event, what: &str| tell(event, live.slot, Some(live), what, announcer);
    match report {
        Report::Ready => {}
        Report::NoMessage { line, why } => tell(
            "warning",
            &format!("said something on its message channel that is not a message, and is ignored ({why}): {line}"),
        ),
        Report::TooLong { times } => tell(
            "warning",
            &format!("sent {}longer than 16 MiB: not delivered", a_message(times)),
        ),
        Report::Unreachable { why, times } => tell(
            "warning",
            &format!("sent {}that can't be delivered: {why}", a_message(times)),
        ),
        Report::Deaf { slot, instance } => tell_of_deaf(slot, all.get(&instance), announcer),
        Report::HearsAgain { lost } => tell(
            "hearing",
            &format!("has read all messages that waited for it; {lost} were lost"),
        ),
        Report::HungUp => tell_of_unread(live, "closed its message channel", announcer),
    }
}

/// Says what an instance has never read and can't read any more, because it has done this. Once: what comes later is refused.
pub(crate) fn tell_of_unread(live: &Live, why: &str, announcer: &Announcer) {
    let Some(Unread { messages, is_exact }) = live.channel.give_up() else {
        return;
    };
    let up_to = if is_exact { "" } else { "up to " };
    let s = if messages == 1 { "" } else { "s" };
    let what = format!("has {why} before it read all that was sent to it: {up_to}{messages} message{s} lost");
    tell("lost", live.slot, Some(live), &what, announcer);
}

fn tell_of_deaf(slot: SlotId, live: Option<&Live>, announcer: &Announcer) {
    let what = "does not read its messages: 32 MiB wait for it, and it gets no more until it has read them";
    tell("deaf", slot, live, what, announcer);
}

fn tell(event: &str, slot: SlotId, live: Option<&Live>, what: &str, announcer: &Announcer) {
    let pid = live.and_then(Live::pid);
    let name = pid.map_or_else(|| format!("worker {slot}"), |pid| format!("worker {slot} (pid {pid})"));
    announcer.warn(Event {
        at_ms: 0,
        worker: Some(slot.0),
        pid,
        event: event.into(),
        message: format!("{name} {what}"),
    });
}

/// "a message ", "3 messages ": of one kind, since the last time that it was told.
fn a_message(times: u64) -> String {
    match times {
        1 => "a message ".into(),
        _ => format!("{times} messages "),
    }
}
