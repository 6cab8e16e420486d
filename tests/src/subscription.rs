//! An answer of the control socket that goes on and on, read as it comes.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::app::App;
use crate::wait;

/// Collects everything from now on.
#[derive(Debug)]
pub(crate) struct Subscription<T> {
    stream: UnixStream,
    heard: Arc<Mutex<Vec<T>>>,
    reader: Option<JoinHandle<()>>,
}

impl<T: Send + 'static> Subscription<T> {
    /// Sends `GET path`, and returns once the controller has answered: nothing that happens afterwards is missed. `parse` gets each line.
    ///
    /// # Panics
    /// When nobody answers on the control socket.
    #[track_caller]
    pub(crate) fn of(app: &App, path: &str, mut parse: impl FnMut(&str) -> Option<T> + Send + 'static) -> Self {
        let mut stream = UnixStream::connect(app.socket()).expect("connect to the control socket");
        stream
            .write_all(format!("GET {path} HTTP/1.1\r\nHost: control\r\n\r\n").as_bytes())
            .expect("subscribe");
        let mut lines = BufReader::new(stream.try_clone().expect("duplicate a descriptor")).lines();
        let status = lines.next().expect("an answer").expect("an answer");
        assert!(status.contains("200"), "{status}");
        let heard = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&heard);
        let reader = thread::spawn(move || {
            for one in lines.map_while(Result::ok).filter_map(|line| parse(&line)) {
                sink.lock().expect("no reader panics").push(one);
            }
        });
        Self {
            stream,
            heard,
            reader: Some(reader),
        }
    }

    /// All so far.
    ///
    /// # Panics
    /// When the reader did.
    pub(crate) fn heard(&self) -> MutexGuard<'_, Vec<T>> {
        self.heard.lock().expect("no reader panics")
    }
}

/// Waits until `so_far` gives `count` of them.
#[track_caller]
pub(crate) fn wait_for<T>(named: &str, count: usize, limit: Duration, so_far: impl Fn() -> Vec<T>) -> Vec<T> {
    wait::until(&format!("{count} {named}"), limit, || so_far().len() >= count);
    so_far()
}

impl<T> Drop for Subscription<T> {
    fn drop(&mut self) {
        // The reader ends with the stream; the controller may have ended it already.
        drop(self.stream.shutdown(Shutdown::Both));
        if let Some(reader) = self.reader.take() {
            drop(reader.join());
        }
    }
}
