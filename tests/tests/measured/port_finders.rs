//! Servers that listen on one address for a moment, to see whether the port is free, and then on all addresses.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use reuse_tests::http::get;
use reuse_tests::{App, Launch, Namespace, SERVER, commands, wait};

const PATIENCE: Duration = Duration::from_secs(20);

/// Asks again and again until it is told to stop; a request may be refused or reset, but not wait.
struct Client {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    thread: thread::JoinHandle<Duration>,
}

impl Client {
    fn start() -> Self {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (until, count) = (Arc::clone(&stop), Arc::clone(&answered));
        let thread = thread::spawn(move || {
            let mut slowest = Duration::ZERO;
            while !until.load(Ordering::Relaxed) {
                let began = Instant::now();
                if get(SERVER, None).is_ok() {
                    count.fetch_add(1, Ordering::Relaxed);
                }
                slowest = slowest.max(began.elapsed());
            }
            slowest
        });
        Self { stop, answered, thread }
    }

    fn wait_for(&self, more: u64) {
        let target = self.answered.load(Ordering::Relaxed) + more;
        wait::until("so many answers", PATIENCE, || {
            self.answered.load(Ordering::Relaxed) >= target
        });
    }

    /// How long the slowest request took.
    fn stop(self) -> Duration {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("a client thread")
    }
}

#[test]
fn no_client_waits_for_a_listener_that_does_not_come_back() {
    let _namespace = Namespace::enter();
    let client = Client::start();
    let app: App = Launch::new(&["--workers", "2", "--settle", "0s"]).run(&commands::node_port_probe());
    client.wait_for(200);
    for _ in 0..3 {
        app.ctl(&["reload"]).expect_code(0);
        client.wait_for(200);
    }
    let groups: Vec<String> = app.status().groups.into_iter().map(|group| group.addr).collect();
    assert_eq!(groups, ["0.0.0.0:8080"]);
    let slowest = client.stop();
    println!("the slowest request took {slowest:?}");
    assert!(slowest <= Duration::from_millis(100), "{slowest:?}");
    app.stop();
}
