//! PM2's packets, in the form that existing code expects on the bus.

use std::collections::HashSet;

use serde::Serialize;

use crate::{
    base::{InstanceId, SlotId, whole_ms::unix_now_ms},
    process::channel::message::on_one_line,
    wire::Packet,
};
use reuse_machine::interface::{Note, NoteKind};

/// PM2's namespace for apps that have none.
const NAMESPACE: &str = "default";

/// The process that a packet is about.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Process<'a> {
    pub(crate) pm_id: u16,
    pub(crate) name: &'a str,
    namespace: &'static str,
}

/// Further data that PM2 gives about a process in an event.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Details<'a> {
    #[serde(flatten)]
    pub(crate) process: Process<'a>,
    pub(crate) status: &'static str,
    pub(crate) pid: Option<u32>,
    pub(crate) restart_time: u64,
}

/// An event that PM2 reports about a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Happened {
    pub(crate) event: &'static str,
    pub(crate) manually: bool,
}

/// What must be remembered to report events.
#[derive(Debug, Default)]
pub(crate) struct Lives {
    /// Slots in which a process ran before.
    slots: HashSet<SlotId>,
    /// Slots whose next process was not requested by a user.
    troubled: HashSet<SlotId>,
    online: HashSet<InstanceId>,
    ending: HashSet<InstanceId>,
}

impl<'a> Process<'a> {
    pub(crate) fn new(slot: SlotId, app: &'a str) -> Self {
        Self {
            pm_id: slot.0,
            name: app,
            namespace: NAMESPACE,
        }
    }

    /// The packet for a worker's message `{type, data}`.
    pub(crate) fn said(&self, name: &str, data: &str) -> Packet {
        self.packet(name, "data", &on_one_line(data))
    }

    /// The packet for any other message of a worker.
    pub(crate) fn said_raw(&self, raw: &str) -> Packet {
        self.packet("process:msg", "raw", &on_one_line(raw))
    }

    /// The packet for a line of a worker's output. PM2's packet includes the newline.
    pub(crate) fn wrote(&self, name: &str, line: &str) -> Packet {
        let line = serde_json::to_string(&format!("{line}\n")).expect("text");
        self.packet(name, "data", &line)
    }

    fn packet(&self, name: &str, key: &str, json: &str) -> Packet {
        let process = serde_json::to_string(self).expect("plain data");
        Packet {
            name: name.into(),
            data: format!(r#"{{"at":{},"{key}":{json},"process":{process}}}"#, unix_now_ms()),
        }
    }
}

impl Happened {
    pub(crate) fn packet(self, details: &Details<'_>) -> Packet {
        let Self { event, manually } = self;
        let process = serde_json::to_string(details).expect("plain data");
        Packet {
            name: "process:event".into(),
            data: format!(
                r#"{{"event":"{event}","manually":{manually},"process":{process},"at":{}}}"#,
                unix_now_ms()
            ),
        }
    }

    /// PM2's name for the state of the process after the event.
    pub(crate) fn status(self) -> &'static str {
        match self.event {
            "start" | "restart" => "launching",
            "online" => "online",
            "stop" => "stopping",
            _ => "stopped",
        }
    }
}

impl Lives {
    /// The event that PM2 would report. `is_leaving`: no other instance takes its place.
    pub(crate) fn happened(&mut self, note: &Note, is_leaving: bool) -> Option<Happened> {
        let slot = note.slot?;
        let is_wanted = !self.troubled.contains(&slot);
        let (event, manually) = match note.kind {
            NoteKind::Spawned if self.slots.insert(slot) => ("start", is_wanted),
            NoteKind::Spawned => ("restart", is_wanted),
            // Once per instance: one that was drained becomes active again, but was online all the time.
            NoteKind::Active if self.online.insert(note.instance?) => {
                self.troubled.remove(&slot);
                ("online", is_wanted)
            }
            // Noted when it is withdrawn, and again when it is told to stop.
            NoteKind::Stopping if self.ending.insert(note.instance?) && is_leaving => ("stop", is_wanted),
            NoteKind::Exited => {
                let instance = note.instance?;
                self.online.remove(&instance);
                let was_asked = self.ending.remove(&instance);
                ("exit", was_asked && is_wanted)
            }
            NoteKind::BackingOff | NoteKind::Recycled | NoteKind::Failed | NoteKind::Hung | NoteKind::Unhealthy => {
                self.troubled.insert(slot);
                return None;
            }
            NoteKind::Recovered => {
                self.troubled.remove(&slot);
                return None;
            }
            NoteKind::Active
            | NoteKind::Cut
            | NoteKind::Stopping
            | NoteKind::Draining
            | NoteKind::Drained
            | NoteKind::Weighed
            | NoteKind::AllFailed
            | NoteKind::Moved
            | NoteKind::Warning => return None,
        };
        Some(Happened { event, manually })
    }

    /// The event for a removed slot.
    pub(crate) fn removed(&mut self, slot: SlotId) -> Happened {
        self.slots.remove(&slot);
        self.troubled.remove(&slot);
        Happened {
            event: "delete",
            manually: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Text;
    use serde_json::{Value, json};

    fn without_time(packet: &Packet) -> Value {
        let mut value: Value = serde_json::from_str(&packet.data).expect("JSON");
        let at = value.as_object_mut().expect("an object").remove("at");
        assert!(at.is_some_and(|at| at.as_u64().is_some_and(|at| at > 1_700_000_000_000)));
        assert!(!packet.data.contains(['\n', '\r']));
        value
    }

    #[test]
    fn packets_are_as_pm2_makes_them() {
        let process = Process::new(SlotId(2), "shop \"1\"");
        let who = json!({"pm_id": 2, "name": "shop \"1\"", "namespace": "default"});
        assert_eq!(
            without_time(&process.said("chat", "{\r\n\"a\":1}")),
            json!({"data": {"a": 1}, "process": who})
        );
        assert_eq!(
            without_time(&process.said_raw("[1]")),
            json!({"raw": [1], "process": who})
        );
        assert_eq!(
            without_time(&process.wrote("log:out", "a \u{1b}[1mb")),
            json!({"data": "a \u{1b}[1mb\n", "process": who})
        );
        let happened = Happened {
            event: "exit",
            manually: false,
        };
        let details = Details {
            process,
            status: happened.status(),
            pid: Some(7),
            restart_time: 3,
        };
        assert_eq!(
            without_time(&happened.packet(&details)),
            json!({"event": "exit", "manually": false, "process": {
                "pm_id": 2, "name": "shop \"1\"", "namespace": "default", "status": "stopped", "pid": 7, "restart_time": 3,
            }})
        );
    }

    #[test]
    fn lives_are_told_as_pm2_tells_them() {
        let mut lives = Lives::default();
        let mut tell = |kind, instance, is_leaving| {
            let note = Note {
                slot: Some(SlotId(1)),
                instance: Some(InstanceId(instance)),
                kind,
                message: Text::default(),
            };
            let happened = lives.happened(&note, is_leaving)?;
            Some((happened.event, happened.manually))
        };
        for (kind, instance, expected) in [
            (NoteKind::Spawned, 1, Some(("start", true))),
            (NoteKind::Active, 1, Some(("online", true))),
            (NoteKind::Draining, 1, None),
            (NoteKind::Active, 1, None),
            // It crashes.
            (NoteKind::Exited, 1, Some(("exit", false))),
            (NoteKind::BackingOff, 1, None),
            (NoteKind::Spawned, 2, Some(("restart", false))),
            (NoteKind::Active, 2, Some(("online", false))),
            // A person restarts it.
            (NoteKind::Spawned, 3, Some(("restart", true))),
            (NoteKind::Active, 3, Some(("online", true))),
            (NoteKind::Stopping, 2, None),
            (NoteKind::Exited, 2, Some(("exit", true))),
            // It hangs and is replaced.
            (NoteKind::Hung, 3, None),
            (NoteKind::Spawned, 4, Some(("restart", false))),
        ] {
            assert_eq!(tell(kind, instance, false), expected, "{kind:?} {instance}");
        }
        assert_eq!(tell(NoteKind::Active, 4, false), Some(("online", false)));
        assert_eq!(tell(NoteKind::Stopping, 4, true), Some(("stop", true)));
        assert_eq!(tell(NoteKind::Stopping, 4, true), None);
        assert_eq!(lives.removed(SlotId(1)).event, "delete");
    }
}
