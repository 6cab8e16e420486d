//! `GET /v1/events`, read as it comes.

use std::time::Duration;

use serde::Deserialize;

use crate::app::App;
use crate::subscription::{Subscription, wait_for};

/// One line of it.
#[derive(Debug, Clone, Deserialize)]
#[expect(missing_docs, reason = "the product's own type describes every field")]
pub struct Event {
    pub at_ms: u64,
    pub worker: Option<u16>,
    pub pid: Option<u32>,
    pub event: String,
    pub message: String,
}

/// Collects everything from now on.
#[derive(Debug)]
pub struct Events(Subscription<Event>);

impl Events {
    /// Subscribes, and returns once the controller has answered: nothing that happens afterwards is missed.
    ///
    /// # Panics
    /// When nobody answers on the control socket.
    #[track_caller]
    pub fn of(app: &App) -> Self {
        // The chunks' sizes and the keep-alive comments are lines of their own.
        Self(Subscription::of(app, "/v1/events", |line| {
            serde_json::from_str(line.strip_prefix("data:")?).ok()
        }))
    }

    /// All so far.
    ///
    /// # Panics
    /// When the reader did.
    pub fn all(&self) -> Vec<Event> {
        self.0.heard().clone()
    }

    /// What all instances so far took from their start until they were active, the settle time included.
    ///
    /// # Panics
    /// When the reader did.
    pub fn boots(&self) -> Duration {
        let active = self.named("active");
        let boots = self.named("spawned").into_iter().filter_map(|spawned| {
            let active = active.iter().find(|active| active.pid == spawned.pid)?;
            Some(Duration::from_millis(active.at_ms.saturating_sub(spawned.at_ms)))
        });
        boots.sum()
    }

    /// Those of one kind so far.
    ///
    /// # Panics
    /// When the reader did.
    pub fn named(&self, event: &str) -> Vec<Event> {
        let seen = self.0.heard();
        seen.iter().filter(|one| one.event == event).cloned().collect()
    }

    /// Waits until there are `count` of one kind.
    #[track_caller]
    pub fn wait_for(&self, event: &str, count: usize, limit: Duration) -> Vec<Event> {
        wait_for(&format!("events `{event}`"), count, limit, || self.named(event))
    }
}
