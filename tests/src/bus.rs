//! `GET /v1/bus`, read as it comes.

use std::time::Duration;

use serde_json::Value;

use crate::app::App;
use crate::subscription::{Subscription, wait_for};

/// Collects everything from now on.
#[derive(Debug)]
pub struct Bus(Subscription<(String, Value)>);

impl Bus {
    /// Subscribes, and returns once the controller has answered.
    ///
    /// # Panics
    /// When nobody answers on the control socket.
    #[track_caller]
    pub fn of(app: &App) -> Self {
        let mut name = String::new();
        Self(Subscription::of(app, "/v1/bus", move |line| {
            if let Some(event) = line.strip_prefix("event: ") {
                event.clone_into(&mut name);
            }
            let data = line.strip_prefix("data: ")?;
            let data = serde_json::from_str(data).expect("JSON on one line");
            Some((name.clone(), data))
        }))
    }

    /// The packets of one name so far.
    ///
    /// # Panics
    /// When the reader did.
    pub fn named(&self, name: &str) -> Vec<Value> {
        let heard = self.0.heard();
        let named = heard.iter().filter(|(event, _)| event == name);
        named.map(|(_, data)| data.clone()).collect()
    }

    /// Forgets what it has heard.
    ///
    /// # Panics
    /// When the reader did.
    pub fn clear(&self) {
        self.0.heard().clear();
    }

    /// Waits until there are `count` of one name.
    #[track_caller]
    pub fn wait_for(&self, name: &str, count: usize, limit: Duration) -> Vec<Value> {
        wait_for(&format!("packets `{name}`"), count, limit, || self.named(name))
    }
}
