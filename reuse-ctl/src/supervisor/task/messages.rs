//! What the task does about [`messages`](crate::supervisor::messages).

pub(crate) use crate::supervisor::messages::ear::Report;
use crate::supervisor::messages::packets::{Details, Happened, Process};
use crate::supervisor::messages::*;
use crate::supervisor::{asks::refusal, live::Live, stop_signal::Begun, task::Task};
use crate::{
    base::{ErrorKind, InstanceId, SlotId, Verb, WorkerState},
    process::channel::{
        Offer, Unread,
        message::{Outgoing, SHUTDOWN, line_of},
    },
    wire::{Event, Reply},
};
use reuse_machine::{View, interface::Note};
use std::{collections::BTreeMap, sync::PoisonError};

impl Task {
    /// Asks a worker to end: by a message, if that is wanted and it can be sent, else by the signal, which is passed down beside the task.
    pub(crate) fn ask_to_end(&self, live: &Live) -> Begun {
        let is_asked = self.is_asked_by_message(live) && {
            let line = line_of(SHUTDOWN).expect("it is JSON");
            live.channel.say_last(line) == Offer::Queued
        };
        let stop = &self.template.options(live.version).stop;
        if is_asked {
            live.note_asked(stop.signal, stop.kill_mode);
            return Begun::NOTHING;
        }
        live.terminate(stop.signal, stop.kill_mode, self.groups.listeners_of(live.row))
    }

    /// Whether it is to be asked to end by a message.
    fn is_asked_by_message(&self, live: &Live) -> bool {
        self.template.options(live.version).stop.message && live.channel.outbox().is_open()
    }

    /// Who is where, after something may have changed.
    pub(crate) fn assign_mailboxes(&mut self, view: &View) {
        let seated: BTreeMap<_, _> = view.slots.iter().map(|slot| (slot.id, slot.current)).collect();
        if seated == self.messages.seated {
            return;
        }
        let mailboxes = seated.iter().map(|(&slot, &current)| {
            let live = current.and_then(|instance| Some((instance, self.live.get(&instance)?)));
            let mailbox = live.map(|(instance, live)| Mailbox {
                instance,
                outbox: live.channel.outbox().clone(),
            });
            (slot, mailbox)
        });
        let mailboxes = mailboxes.collect();
        *self.messages.mailboxes.lock().unwrap_or_else(PoisonError::into_inner) = mailboxes;
        let before = std::mem::replace(&mut self.messages.seated, seated);
        for slot in before.into_keys() {
            if !self.messages.seated.contains_key(&slot) {
                let happened = self.messages.lives.removed(slot);
                self.publish_event(happened, slot, None, view);
            }
        }
    }

    /// Tells the bus what became of an instance.
    pub(crate) fn tell_bus(&mut self, note: &Note) {
        let view = self.machine.view();
        let Some(slot) = note.slot else { return };
        let row = view.slots.iter().find(|row| row.id == slot);
        let is_leaving = row.is_none_or(|row| row.current.is_none_or(|current| Some(current) == note.instance));
        let Some(happened) = self.messages.lives.happened(note, is_leaving) else {
            return;
        };
        let pid = note.instance.and_then(|id| self.live.get(&id)).and_then(Live::pid);
        self.publish_event(happened, slot, pid, &view);
    }

    fn publish_event(&self, happened: Happened, slot: SlotId, pid: Option<u32>, view: &View) {
        if !self.messages.bus.is_heard() {
            return;
        }
        let row = view.slots.iter().find(|row| row.id == slot);
        let has_failed = row.is_some_and(|row| row.state == WorkerState::Failed);
        let details = Details {
            process: Process::new(slot, &self.messages.app),
            status: if has_failed { "errored" } else { happened.status() },
            pid,
            restart_time: row.map_or(0, |row| row.restarts),
        };
        self.messages.bus.publish(happened.packet(&details));
    }

    /// Sends a message to one worker, or to all that there are.
    pub(crate) fn send(&self, to: Option<SlotId>, message: &Outgoing) -> Reply {
        let mailboxes = self
            .messages
            .mailboxes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
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
                        self.tell_of_deaf(slot, mailbox.instance);
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

    pub(crate) fn on_report(&mut self, id: InstanceId, report: Report) {
        let Some(live) = self.live.get_mut(&id) else { return };
        let slot = live.slot;
        match report {
            Report::Ready => self.announce_ready(id),
            Report::NoMessage { line, why } => self.tell_of_message(
                "warning",
                slot,
                id,
                &format!("said something on its message channel that is not a message, and is ignored ({why}): {line}"),
            ),
            Report::TooLong { times } => self.tell_of_message(
                "warning",
                slot,
                id,
                &format!("sent {}longer than 16 MiB: not delivered", a_message(times)),
            ),
            Report::Unreachable { why, times } => self.tell_of_message(
                "warning",
                slot,
                id,
                &format!("sent {}that can't be delivered: {why}", a_message(times)),
            ),
            Report::Deaf { slot, instance } => self.tell_of_deaf(slot, instance),
            Report::HearsAgain { lost } => self.tell_of_message(
                "hearing",
                slot,
                id,
                &format!("has read all messages that waited for it; {lost} were lost"),
            ),
            Report::HungUp => self.tell_of_unread(id, "closed its message channel"),
        }
    }

    /// Says what an instance has never read and can't read any more, because it has done this. Once: what comes later is refused.
    pub(crate) fn tell_of_unread(&self, id: InstanceId, why: &str) {
        let Some(live) = self.live.get(&id) else { return };
        let Some(Unread { messages, is_exact }) = live.channel.give_up() else {
            return;
        };
        let up_to = if is_exact { "" } else { "up to " };
        let s = if messages == 1 { "" } else { "s" };
        let what = format!("has {why} before it read all that was sent to it: {up_to}{messages} message{s} lost");
        self.tell_of_message("lost", live.slot, id, &what);
    }

    fn tell_of_deaf(&self, slot: SlotId, instance: InstanceId) {
        self.tell_of_message(
            "deaf",
            slot,
            instance,
            "does not read its messages: 32 MiB wait for it, and it gets no more until it has read them",
        );
    }

    fn tell_of_message(&self, event: &str, slot: SlotId, id: InstanceId, what: &str) {
        let pid = self.live.get(&id).and_then(Live::pid);
        let name = pid.map_or_else(|| format!("worker {slot}"), |pid| format!("worker {slot} (pid {pid})"));
        let message = format!("{name} {what}");
        self.console.warn(&message);
        self.tell(Event {
            at_ms: 0,
            worker: Some(slot.0),
            pid,
            event: event.into(),
            message,
        });
    }
}
