//! What is told of the app while it runs: a line for people, and an event for programs that follow them.

use super::{bus::Bus, console::Console};
use crate::{
    base::whole_ms::unix_now_ms,
    process::channel::message::OWN_EVENTS,
    wire::{Event, Packet},
};
use tokio::sync::broadcast;

/// Tells it. It changes nothing and decides nothing.
#[derive(Debug)]
pub(crate) struct Announcer {
    /// For lines that are no event.
    pub(crate) console: Console,
    events: broadcast::Sender<Event>,
    bus: Bus,
}

impl Announcer {
    pub(crate) fn new(console: Console, events: broadcast::Sender<Event>, bus: Bus) -> Self {
        Self { console, events, bus }
    }

    /// A line and an event.
    pub(crate) fn say(&self, event: Event) {
        self.console.say(&event.message);
        self.tell(event);
    }

    /// The same, with a line that should be seen.
    pub(crate) fn warn(&self, event: Event) {
        self.console.warn(&event.message);
        self.tell(event);
    }

    /// The event alone, which gets its time here. On the bus it is a packet beside those that PM2 has: `reuse:warning`.
    pub(crate) fn tell(&self, mut event: Event) {
        event.at_ms = unix_now_ms();
        if self.bus.is_heard() {
            self.bus.publish(Packet {
                name: format!("{OWN_EVENTS}{}", event.event),
                data: serde_json::to_string(&event).expect("an event is plain data"),
            });
        }
        drop(self.events.send(event));
    }
}
