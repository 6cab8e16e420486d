//! `GET /v1/bus`, read as it comes.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::Value;

use crate::app::App;
use crate::wait;

/// Collects everything from now on.
#[derive(Debug)]
pub struct Bus {
    stream: UnixStream,
    heard: Arc<Mutex<Vec<(String, Value)>>>,
    reader: Option<JoinHandle<()>>,
}

impl Bus {
    /// Subscribes, and returns once the controller has answered.
    ///
    /// # Panics
    /// When nobody answers on the control socket.
    #[track_caller]
    pub fn of(app: &App) -> Self {
        let mut stream = UnixStream::connect(app.socket()).expect("connect to the control socket");
        stream
            .write_all(b"GET /v1/bus HTTP/1.1\r\nHost: control\r\n\r\n")
            .expect("ask for the bus");
        let mut lines = BufReader::new(stream.try_clone().expect("duplicate a descriptor")).lines();
        let status = lines.next().expect("an answer").expect("an answer");
        assert!(status.contains("200"), "{status}");
        let heard = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&heard);
        let reader = thread::spawn(move || {
            let mut name = String::new();
            for line in lines.map_while(Result::ok) {
                if let Some(event) = line.strip_prefix("event: ") {
                    event.clone_into(&mut name);
                } else if let Some(data) = line.strip_prefix("data: ") {
                    let data = serde_json::from_str(data).expect("JSON on one line");
                    sink.lock().expect("no reader panics").push((name.clone(), data));
                }
            }
        });
        Self {
            stream,
            heard,
            reader: Some(reader),
        }
    }

    /// The packets of one name so far.
    ///
    /// # Panics
    /// When the reader did.
    pub fn named(&self, name: &str) -> Vec<Value> {
        let heard = self.heard.lock().expect("the bus was JSON");
        let named = heard.iter().filter(|(event, _)| event == name);
        named.map(|(_, data)| data.clone()).collect()
    }

    /// Forgets what it has heard.
    ///
    /// # Panics
    /// When the reader did.
    pub fn clear(&self) {
        self.heard.lock().expect("the bus was JSON").clear();
    }

    /// Waits until there are `count` of one name.
    #[track_caller]
    pub fn wait_for(&self, name: &str, count: usize, limit: Duration) -> Vec<Value> {
        wait::until(&format!("{count} packets `{name}`"), limit, || {
            self.named(name).len() >= count
        });
        self.named(name)
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        // The reader ends with the stream; the controller may have ended it already.
        drop(self.stream.shutdown(Shutdown::Both));
        if let Some(reader) = self.reader.take() {
            drop(reader.join());
        }
    }
}
