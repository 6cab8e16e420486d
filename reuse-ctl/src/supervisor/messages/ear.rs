//! Reads the messages of one worker, and passes each on at once, to other workers or to the bus. Only messages for the supervisor go to its
//! task.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use hyper::body::Bytes;
use tokio::sync::mpsc;

use super::{Mailbox, packets::Process, route};
use crate::{
    base::{InstanceId, SlotId},
    process::channel::{
        Line, Listener, Offer,
        message::{Addressee, Meaning, meaning, shortened},
    },
    supervisor::{bus::Bus, live::BackgroundEvent},
};

/// Minimum interval between equal complaints about one worker.
const COMPLAIN_EVERY: Duration = Duration::from_secs(10);

/// Reports for the supervisor's task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Report {
    /// The worker said that it is ready.
    Ready,
    /// The worker sent a line that is not a message. Reported once per instance.
    NoMessage {
        /// The beginning of the line.
        line: String,
        why: String,
    },
    /// The worker sent messages longer than 16 MiB; `times` since the last report.
    TooLong { times: u64 },
    /// The worker sent messages that reach nobody; `times` since the last report.
    Unreachable { why: String, times: u64 },
    /// Another worker doesn't read the messages sent to it.
    Deaf { slot: SlotId, instance: InstanceId },
    /// The worker has read all waiting messages, after `lost` were lost.
    HearsAgain { lost: u64 },
    /// The worker has closed its end of the channel and is still running.
    HungUp,
}

/// The listener for one instance's messages.
#[derive(Debug)]
pub(crate) struct Ear {
    pub(crate) slot: SlotId,
    pub(crate) instance: InstanceId,
    pub(crate) app: Arc<str>,
    pub(crate) mailboxes: Arc<Mutex<route::Mailboxes<Mailbox>>>,
    pub(crate) bus: Bus,
    pub(crate) background_events: mpsc::Sender<BackgroundEvent>,
    pub(crate) memory: Mutex<Memory>,
}

#[derive(Debug, Default)]
pub(crate) struct Memory {
    reports: Vec<Report>,
    has_said_ready: bool,
    has_said_nonsense: bool,
    too_long: Complaints,
    unreachable: Complaints,
}

/// Counts complaints of one kind.
#[derive(Debug, Default)]
struct Complaints {
    last: Option<Instant>,
    unsaid: u64,
}

impl Complaints {
    /// Counts one more. Returns the number to report, if it is time for a report.
    fn count(&mut self, now: Instant) -> Option<u64> {
        self.unsaid += 1;
        if self.last.is_some_and(|last| now.duration_since(last) < COMPLAIN_EVERY) {
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.unsaid))
    }
}

impl Listener for Ear {
    fn hear(&self, line: Line<'_>) {
        let line = match line {
            Line::Whole(line) => line,
            Line::TooLong => {
                let mut memory = self.memory();
                if let Some(times) = memory.too_long.count(Instant::now()) {
                    memory.reports.push(Report::TooLong { times });
                }
                return;
            }
        };
        match meaning(line) {
            Ok(Meaning::Internal) => {}
            Ok(Meaning::Ready) => {
                let mut memory = self.memory();
                if !std::mem::replace(&mut memory.has_said_ready, true) {
                    memory.reports.push(Report::Ready);
                }
            }
            Ok(Meaning::To(to)) => self.pass_on(&to, line),
            Ok(Meaning::Event { name, data }) if self.bus.is_heard() => {
                self.bus.publish(self.process().said(&name, data));
            }
            Ok(Meaning::Other) if self.bus.is_heard() => {
                let text = std::str::from_utf8(line).expect("JSON is UTF-8");
                self.bus.publish(self.process().said_raw(text));
            }
            Ok(Meaning::Event { .. } | Meaning::Other) => {}
            Err(why) => {
                let mut memory = self.memory();
                if !std::mem::replace(&mut memory.has_said_nonsense, true) {
                    memory.reports.push(Report::NoMessage {
                        line: shortened(&String::from_utf8_lossy(&line[..line.len().min(SHOWN_BYTES)])),
                        why: why.to_string(),
                    });
                }
            }
        }
    }

    async fn settle(&self) {
        let reports = std::mem::take(&mut self.memory().reports);
        for report in reports {
            self.report(report).await;
        }
    }

    async fn hears_again(&self, lost: u64) {
        self.report(Report::HearsAgain { lost }).await;
    }

    async fn hung_up(&self) {
        self.report(Report::HungUp).await;
    }
}

/// Maximum size in bytes of the part of a line that is shown.
const SHOWN_BYTES: usize = 1024;

impl Ear {
    fn pass_on(&self, to: &Addressee, line: &[u8]) {
        let mailboxes = self.mailboxes.lock().unwrap_or_else(PoisonError::into_inner);
        let slots = match route::recipients(to, self.slot, &mailboxes) {
            Ok(slots) => slots,
            Err(why) => return self.complain(&why),
        };
        let line: Bytes = [line, b"\n"].concat().into();
        for slot in slots {
            let Some(Some(mailbox)) = mailboxes.get(&slot) else {
                continue;
            };
            match (mailbox.outbox.offer(line.clone()), to) {
                (Offer::Lost { is_first: true }, _) => {
                    let instance = mailbox.instance;
                    self.memory().reports.push(Report::Deaf { slot, instance });
                }
                (Offer::Closed, Addressee::Slot(number)) => self.complain(&route::Unreachable::Closed(*number)),
                // With a message to all, a worker that is gone is not reported.
                (Offer::Queued | Offer::Lost { .. } | Offer::Closed, _) => {}
            }
        }
    }

    fn complain(&self, why: &route::Unreachable) {
        let mut memory = self.memory();
        if let Some(times) = memory.unreachable.count(Instant::now()) {
            let why = why.to_string();
            memory.reports.push(Report::Unreachable { why, times });
        }
    }

    fn process(&self) -> Process<'_> {
        Process::new(self.slot, &self.app)
    }

    async fn report(&self, report: Report) {
        // The receiver exists as long as any instance does.
        drop(
            self.background_events
                .send(BackgroundEvent::Said(self.instance, report))
                .await,
        );
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::channel::Outbox;

    fn ear(mailboxes: route::Mailboxes<Mailbox>) -> (Ear, mpsc::Receiver<BackgroundEvent>) {
        let (background_events, happened) = mpsc::channel(8);
        let ear = Ear {
            slot: SlotId(0),
            instance: InstanceId(10),
            app: "shop".into(),
            mailboxes: Arc::new(Mutex::new(mailboxes)),
            bus: Bus::default(),
            background_events,
            memory: Mutex::default(),
        };
        (ear, happened)
    }

    fn mailbox(number: u32) -> Option<Mailbox> {
        Some(Mailbox {
            instance: InstanceId(number),
            outbox: Outbox::new(),
        })
    }

    async fn reports(ear: &Ear, happened: &mut mpsc::Receiver<BackgroundEvent>) -> Vec<Report> {
        ear.settle().await;
        std::iter::from_fn(|| match happened.try_recv() {
            Ok(BackgroundEvent::Said(InstanceId(10), report)) => Some(report),
            Ok(_) => panic!("only reports are sent"),
            Err(_) => None,
        })
        .collect()
    }

    #[tokio::test]
    async fn messages_go_on_as_they_are_and_nonsense_is_told_once() {
        let mailboxes = route::Mailboxes::from([
            (SlotId(0), mailbox(10)),
            (SlotId(1), mailbox(11)),
            (SlotId(2), mailbox(12)),
        ]);
        let outboxes: Vec<_> = mailboxes
            .values()
            .flatten()
            .map(|mailbox| mailbox.outbox.clone())
            .collect();
        let (ear, mut happened) = ear(mailboxes);
        let hear = |line: &str| ear.hear(Line::Whole(line.as_bytes()));
        let to_one = r#"{ "type":"process:msg", "id":1, "data":"x" }"#;
        hear(to_one);
        hear(r#"{"type":"process:msg","id":"all"}"#);
        hear(r#"{"cmd":"NODE_HANDLE_ACK","type":"process:msg","id":1}"#);
        hear(r#"{"hello":1}"#);
        assert_eq!(
            outboxes[1].try_take().as_deref(),
            Some(format!("{to_one}\n").as_bytes())
        );
        for outbox in &outboxes[1..] {
            assert_eq!(
                outbox.try_take().as_deref(),
                Some(&b"{\"type\":\"process:msg\",\"id\":\"all\"}\n"[..])
            );
            assert_eq!(outbox.try_take(), None);
        }
        assert_eq!(outboxes[0].try_take(), None);
        assert_eq!(reports(&ear, &mut happened).await, []);
        for _ in 0..3 {
            hear("\"ready\"");
            hear("no \u{1b}[1mJSON");
            hear("");
            hear(r#"{"type":"process:msg","id":7}"#);
            ear.hear(Line::TooLong);
        }
        let told = reports(&ear, &mut happened).await;
        assert!(
            matches!(&told[..], [
                Report::Ready,
                Report::NoMessage { line, .. },
                Report::Unreachable { why, times: 1 },
                Report::TooLong { times: 1 },
            ] if line == "no \u{fffd}[1mJSON" && why == "there is no worker 7"),
            "{told:?}"
        );
    }

    #[tokio::test]
    async fn who_has_closed_his_channel_can_not_be_reached() {
        let mailboxes = route::Mailboxes::from([(SlotId(0), mailbox(10)), (SlotId(1), mailbox(11))]);
        mailboxes[&SlotId(1)].as_ref().expect("a mailbox").outbox.close();
        let (ear, mut happened) = ear(mailboxes);
        ear.hear(Line::Whole(br#"{"type":"process:msg","id":"all"}"#));
        assert_eq!(reports(&ear, &mut happened).await, [], "all that there are");
        ear.hear(Line::Whole(br#"{"type":"process:msg","id":1}"#));
        let told = reports(&ear, &mut happened).await;
        assert!(
            matches!(&told[..], [Report::Unreachable { why, times: 1 }] if why == "worker 1 has closed its channel"),
            "{told:?}"
        );
    }

    #[test]
    fn complaints_are_counted_and_made_now_and_then() {
        let mut complaints = Complaints::default();
        let start = Instant::now();
        assert_eq!(complaints.count(start), Some(1));
        assert_eq!(complaints.count(start + Duration::from_secs(9)), None);
        assert_eq!(complaints.count(start + COMPLAIN_EVERY), Some(2));
    }
}
