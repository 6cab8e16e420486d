//! `GET /v1/events`, read as it comes.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde::Deserialize;

use crate::app::App;
use crate::wait;

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
pub struct Events {
    stream: UnixStream,
    seen: Arc<Mutex<Vec<Event>>>,
    reader: Option<JoinHandle<()>>,
}

impl Events {
    /// Subscribes, and returns once the controller has answered: nothing that happens afterwards is missed.
    ///
    /// # Panics
    /// When nobody answers on the control socket.
    #[track_caller]
    pub fn of(app: &App) -> Self {
        let mut stream = UnixStream::connect(app.socket()).expect("connect to the control socket");
        stream
            .write_all(b"GET /v1/events HTTP/1.1\r\nHost: control\r\n\r\n")
            .expect("ask for the events");
        let mut lines = BufReader::new(stream.try_clone().expect("duplicate a descriptor")).lines();
        let status = lines.next().expect("an answer").expect("an answer");
        assert!(status.contains("200"), "{status}");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&seen);
        let reader = thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                // The chunks' sizes and the keep-alive comments are lines of their own.
                if let Some(event) = line
                    .strip_prefix("data:")
                    .and_then(|data| serde_json::from_str(data).ok())
                {
                    sink.lock().expect("no reader panics").push(event);
                }
            }
        });
        Self {
            stream,
            seen,
            reader: Some(reader),
        }
    }

    /// All so far.
    ///
    /// # Panics
    /// When the reader did.
    pub fn all(&self) -> Vec<Event> {
        self.seen.lock().expect("no reader panics").clone()
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
        let seen = self.seen.lock().expect("no reader panics");
        seen.iter().filter(|one| one.event == event).cloned().collect()
    }

    /// Waits until there are `count` of one kind.
    #[track_caller]
    pub fn wait_for(&self, event: &str, count: usize, limit: Duration) -> Vec<Event> {
        wait::until(&format!("{count} events `{event}`"), limit, || {
            self.named(event).len() >= count
        });
        self.named(event)
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        // The reader ends with the stream; the controller may have ended it already.
        drop(self.stream.shutdown(Shutdown::Both));
        if let Some(reader) = self.reader.take() {
            drop(reader.join());
        }
    }
}
