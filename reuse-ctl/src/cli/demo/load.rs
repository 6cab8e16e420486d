//! The demo's clients: some make a new connection for each request, some keep theirs for a while. Each has its own address (all of
//! 127.0.0.0/8 is loopback), so that `sticky` can distinguish them.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::http::{Answer, ExchangeError, exchange, until_closed};
use super::tally::{Made, RequestOutcome, Sample, Tally};

/// A request that takes longer counts as lost.
const PATIENCE: Duration = Duration::from_secs(10);

/// The number of clients and how often they send requests.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    /// Number of clients that make a new connection for each request.
    pub(super) fresh: usize,
    /// Number of clients that keep their connection.
    pub(super) keeping: usize,
    /// Number of requests over one kept connection before a new one is made.
    pub(super) requests_per_connection: u32,
    /// Pause of a client between two requests.
    pub(super) rest: Duration,
}

/// The counts, shared by the clients and the screen.
pub(super) type SharedTally = Arc<Mutex<Tally>>;

/// Locks the counts.
pub(super) fn lock(tally: &SharedTally) -> MutexGuard<'_, Tally> {
    tally.lock().expect("counting does not panic")
}

/// The running clients.
#[derive(Debug)]
pub(super) struct Load {
    stop: watch::Sender<bool>,
    clients: JoinSet<()>,
}

impl Load {
    /// Starts all clients of `plan` against `server`.
    pub(super) fn start(server: SocketAddr, plan: Plan, tally: &SharedTally) -> Self {
        let (stop, stopped) = watch::channel(false);
        let mut clients = JoinSet::new();
        for number in 0..plan.fresh + plan.keeping {
            let client = Client {
                number,
                server,
                plan,
                tally: Arc::clone(tally),
            };
            let stopped = stopped.clone();
            clients.spawn(async move {
                if number < plan.fresh {
                    client.ask_anew(stopped).await
                } else {
                    client.ask_and_keep(stopped).await
                }
            });
        }
        Self { stop, clients }
    }

    /// Lets every client finish its request. Takes at most the timeout of one request.
    pub(super) async fn finish(self) {
        self.stop.send_replace(true);
        self.clients.join_all().await;
    }
}

struct Client {
    number: usize,
    server: SocketAddr,
    plan: Plan,
    tally: SharedTally,
}

impl Client {
    async fn ask_anew(&self, stopped: watch::Receiver<bool>) {
        while !*stopped.borrow() {
            let (connected, made) = self.connect().await;
            let outcome = match connected {
                Ok((mut stream, address)) => {
                    let outcome = outcome(ask(&mut stream, false).await, address);
                    drop(tokio::time::timeout(PATIENCE, until_closed(&mut stream)).await);
                    outcome
                }
                Err(error) => not_connected(&error),
            };
            self.record(outcome, false, Some(made));
            tokio::time::sleep(self.plan.rest).await;
        }
    }

    async fn ask_and_keep(&self, stopped: watch::Receiver<bool>) {
        let mut kept: Option<Kept> = None;
        while !*stopped.borrow() {
            let (outcome, was_retried, made) = self.ask_over(&mut kept).await;
            self.record(outcome, was_retried, made);
            tokio::time::sleep(self.plan.rest).await;
        }
    }

    /// Sends a request over the kept connection if there is one. As browsers do, it tries again over a new connection if the kept one
    /// closed before the first byte of the answer.
    async fn ask_over(&self, kept: &mut Option<Kept>) -> (RequestOutcome, bool, Option<Made>) {
        let mut was_retried = false;
        if let Some(Kept {
            mut stream,
            address,
            requests,
        }) = kept.take()
        {
            match ask(&mut stream, true).await {
                Err(Lost::Exchange(ExchangeError::Unanswered)) => was_retried = true,
                result => {
                    let is_kept = matches!(&result, Ok(answer) if answer.keeps_open);
                    let requests = requests + 1;
                    if is_kept && requests < self.plan.requests_per_connection {
                        *kept = Some(Kept {
                            stream,
                            address,
                            requests,
                        });
                    }
                    return (outcome(result, address), false, None);
                }
            }
        }
        let (connected, made) = self.connect().await;
        let outcome = match connected {
            Ok((mut stream, address)) => {
                let result = ask(&mut stream, true).await;
                if matches!(&result, Ok(answer) if answer.keeps_open) {
                    *kept = Some(Kept {
                        stream,
                        address,
                        requests: 1,
                    });
                }
                outcome(result, address)
            }
            Err(error) => not_connected(&error),
        };
        (outcome, was_retried, Some(made))
    }

    fn record(&self, outcome: RequestOutcome, was_retried: bool, made: Option<Made>) {
        lock(&self.tally).record(Sample {
            client: self.number,
            outcome,
            was_retried,
            made,
        });
    }

    async fn connect(&self) -> (io::Result<(TcpStream, SocketAddr)>, Made) {
        let epoch = lock(&self.tally).epoch();
        let from = Instant::now();
        let connected = self.try_connect().await;
        let until = Instant::now();
        (connected, Made { epoch, from, until })
    }

    async fn try_connect(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from((self.source(), 0)))?;
        let connecting = tokio::time::timeout(PATIENCE, socket.connect(self.server));
        let stream = connecting
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        let address = stream.local_addr()?;
        Ok((stream, address))
    }

    /// The client's address: 127.0.1.1 and up.
    fn source(&self) -> Ipv4Addr {
        let first = u32::from(Ipv4Addr::new(127, 0, 1, 1));
        Ipv4Addr::from(first + u32::try_from(self.number).expect("the plan has few clients"))
    }
}

struct Kept {
    stream: TcpStream,
    address: SocketAddr,
    requests: u32,
}

#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("{0}")]
    Exchange(ExchangeError),
    #[error("no answer within {} s", PATIENCE.as_secs())]
    Patience,
}

async fn ask(stream: &mut TcpStream, keeps_open: bool) -> Result<Answer, Lost> {
    match tokio::time::timeout(PATIENCE, exchange(stream, keeps_open)).await {
        Ok(result) => result.map_err(Lost::Exchange),
        Err(_) => Err(Lost::Patience),
    }
}

fn outcome(result: Result<Answer, Lost>, client: SocketAddr) -> RequestOutcome {
    match result {
        Ok(Answer { worker, .. }) => RequestOutcome::Answered { worker },
        Err(lost) => RequestOutcome::Failed {
            client: Some(client),
            reason: lost.to_string(),
        },
    }
}

fn not_connected(error: &io::Error) -> RequestOutcome {
    RequestOutcome::Failed {
        client: None,
        reason: format!("connect: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::server;
    use super::*;

    const PLAN: Plan = Plan {
        fresh: 4,
        keeping: 4,
        requests_per_connection: 20,
        rest: Duration::from_millis(1),
    };
    /// Longer than any step of these tests takes.
    const LONG: Duration = Duration::from_secs(10);

    async fn until(condition: impl Fn() -> bool) {
        let deadline = Instant::now() + LONG;
        while !condition() {
            assert!(Instant::now() < deadline, "it never came");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    fn tally() -> SharedTally {
        let tally = SharedTally::default();
        lock(&tally).begin("test");
        tally
    }

    /// Two servers on one port, the kernel's own hash between them.
    #[tokio::test]
    async fn every_request_is_answered_and_counted_once() {
        let first = server::listen(0).expect("a free port");
        let address = first.local_addr().expect("it is bound");
        let second = server::listen(address.port()).expect("the same port");
        let first = tokio::spawn(server::serve(first, 0, std::future::pending()));
        let second = tokio::spawn(server::serve(second, 1, std::future::pending()));
        let tally = tally();
        let load = Load::start(address, PLAN, &tally);
        until(|| {
            [0, 1]
                .iter()
                .all(|worker| lock(&tally).answered().get(worker) > Some(&50))
        })
        .await;
        tokio::time::timeout(LONG, load.finish()).await.expect("bounded");
        for server in [first, second] {
            server.abort();
            assert!(server.await.expect_err("it serves for ever").is_cancelled());
        }
        let tally = lock(&tally);
        assert_eq!(
            (tally.total().lost, tally.total().retried, tally.total().caught),
            (0, 0, 0),
            "{:?}",
            tally.reasons()
        );
        assert_eq!(tally.total().requests, tally.answered().values().sum::<u64>());
        assert_eq!(
            tally.clients_and_moves().0,
            PLAN.fresh + PLAN.keeping,
            "every client made connections"
        );
        assert!(tally.clients_and_moves().1 > 0, "the hash knows no clients");
    }

    /// The generator must be able to see a loss.
    #[tokio::test]
    async fn a_server_that_just_closes_is_seen() {
        let rude = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = rude.local_addr().expect("it is bound");
        let tally = tally();
        let load = Load::start(address, PLAN, &tally);
        for _ in 0..20 {
            drop(rude.accept().await.expect("a client"));
        }
        drop(rude);
        until(|| lock(&tally).total().lost > 20).await;
        tokio::time::timeout(LONG, load.finish()).await.expect("bounded");
        let tally = lock(&tally);
        assert_eq!(tally.total().requests, tally.total().lost);
        assert!(tally.reasons().iter().all(|reason| !reason.is_empty()));
    }
}
