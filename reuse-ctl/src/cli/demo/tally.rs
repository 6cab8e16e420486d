//! Counts the outcome of every request, by act, by worker and by client. Pure.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;

use serde::Serialize;
use tokio::time::Instant;

/// The outcome of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RequestOutcome {
    /// It was answered.
    Answered {
        /// The worker that answered.
        worker: u16,
    },
    /// It was not answered.
    Failed {
        /// The client's end of the connection, if there was one.
        client: Option<SocketAddr>,
        /// The reason, in one line.
        reason: String,
    },
}

/// One request of one client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sample {
    /// The number of the client.
    pub(super) client: usize,
    /// The outcome.
    pub(super) outcome: RequestOutcome,
    /// Whether it was sent twice: the first time on a kept connection that closed before the first byte of the answer.
    pub(super) was_retried: bool,
    /// The handshake, if the connection was made for this request.
    pub(super) made: Option<Made>,
}

/// The time at which a connection was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Made {
    /// [`Tally::epoch`] before the handshake.
    pub(super) epoch: u64,
    /// Before the SYN.
    pub(super) from: Instant,
    /// After the ACK that completed the handshake: over loopback the other end has it by then.
    pub(super) until: Instant,
}

/// The sums of one act.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct ActSums {
    /// The name of the act.
    pub(super) act: String,
    /// Requests that ended during the act, with any outcome.
    pub(super) requests: u64,
    /// Those of `requests` that were sent twice.
    pub(super) retried: u64,
    /// Those that failed because the worker that had accepted the connection was killed.
    pub(super) died: u64,
    /// Those that failed because the handshake was completed while the killed worker's listener closed ([`Tally::dies`]).
    pub(super) caught: u64,
    /// Those that failed for any other reason. Must be 0.
    pub(super) lost: u64,
}

/// All sums.
#[derive(Debug, Default)]
pub(super) struct Tally {
    acts: Vec<ActSums>,
    answered: BTreeMap<u16, u64>,
    condemned: HashSet<SocketAddr>,
    dying: Option<Dying>,
    reasons: Vec<String>,
    epoch: u64,
    places: HashMap<usize, u16>,
    moves: u64,
}

/// The time from the kill to the end of the process.
#[derive(Debug, Clone, Copy)]
struct Dying {
    from: Instant,
    until: Option<Instant>,
}

impl Dying {
    fn overlaps(&self, made: &Made) -> bool {
        made.until >= self.from && self.until.is_none_or(|until| made.from <= until)
    }
}

/// Number of reasons that are kept; more would say nothing new.
const REASONS: usize = 5;

impl Tally {
    /// Begins an act: requests that end from now on belong to it.
    pub(super) fn begin(&mut self, act: &str) {
        self.acts.push(ActSums {
            act: act.into(),
            ..ActSums::default()
        });
        self.condemned.clear();
        self.dying = None;
        self.follow_clients();
    }

    /// Records the connections that will end with the worker that is about to be killed, because it has accepted them.
    pub(super) fn condemn(&mut self, clients: impl IntoIterator<Item = SocketAddr>) {
        self.condemned.extend(clients);
    }

    /// Records that the worker is being killed.
    ///
    /// A closing listener is marked as shut down a few instructions before it leaves the state LISTEN. A handshake that another CPU
    /// completes in between becomes a connection that inherits the mark: the kernel moves it to another worker like the rest of the queue,
    /// but has ended it already (seen on Linux 6.18: SYN_RECV, ESTABLISHED, FIN_WAIT1 within 3 µs; in 8 of 570 kills at 4,000 connections a
    /// second). Nothing outside the kernel can prevent this, so these requests are counted separately.
    pub(super) fn dies(&mut self, from: Instant) {
        self.dying = Some(Dying { from, until: None });
    }

    /// Records that the worker has ended and its listener is closed.
    pub(super) fn is_dead(&mut self, until: Instant) {
        if let Some(dying) = &mut self.dying {
            dying.until = Some(until);
        }
    }

    /// From now on, counts clients whose new connections go to different workers.
    pub(super) fn follow_clients(&mut self) {
        self.epoch += 1;
        self.places.clear();
        self.moves = 0;
    }

    /// Increases with [`Self::follow_clients`], so that connections made before and after it can be told apart.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Counts one request.
    pub(super) fn record(&mut self, sample: Sample) {
        let Some(act) = self.acts.last_mut() else { return };
        act.requests += 1;
        act.retried += u64::from(sample.was_retried);
        match sample.outcome {
            RequestOutcome::Answered { worker } => {
                *self.answered.entry(worker).or_default() += 1;
                if sample.made.is_some_and(|made| made.epoch == self.epoch) {
                    let before = self.places.insert(sample.client, worker);
                    self.moves += u64::from(before.is_some_and(|before| before != worker));
                }
            }
            RequestOutcome::Failed { client, .. } if client.is_some_and(|client| self.condemned.contains(&client)) => {
                act.died += 1
            }
            RequestOutcome::Failed { .. }
                if (self.dying.as_ref().zip(sample.made.as_ref()))
                    .is_some_and(|(dying, made)| dying.overlaps(made)) =>
            {
                act.caught += 1
            }
            RequestOutcome::Failed { reason, .. } => {
                act.lost += 1;
                if self.reasons.len() < REASONS {
                    self.reasons.push(reason);
                }
            }
        }
    }

    /// The sums of every act so far.
    pub(super) fn acts(&self) -> &[ActSums] {
        &self.acts
    }

    /// Number of requests answered by each worker.
    pub(super) fn answered(&self) -> &BTreeMap<u16, u64> {
        &self.answered
    }

    /// The first reasons of lost requests.
    pub(super) fn reasons(&self) -> &[String] {
        &self.reasons
    }

    /// Number of clients that made connections since [`Self::follow_clients`], and how often one of them changed its worker.
    pub(super) fn clients_and_moves(&self) -> (usize, u64) {
        (self.places.len(), self.moves)
    }

    /// The sums over all acts.
    pub(super) fn total(&self) -> ActSums {
        self.acts.iter().fold(
            ActSums {
                act: "all".into(),
                ..ActSums::default()
            },
            |mut total, act| {
                total.requests += act.requests;
                total.retried += act.retried;
                total.died += act.died;
                total.caught += act.caught;
                total.lost += act.lost;
                total
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn answered(client: usize, worker: u16, made: Option<Made>) -> Sample {
        Sample {
            client,
            outcome: RequestOutcome::Answered { worker },
            was_retried: false,
            made,
        }
    }

    fn failed(port: Option<u16>) -> Sample {
        let client = port.map(|port| SocketAddr::from(([127, 0, 1, 1], port)));
        Sample {
            client: 0,
            outcome: RequestOutcome::Failed {
                client,
                reason: "reset".into(),
            },
            was_retried: false,
            made: None,
        }
    }

    fn made_in(tally: &Tally) -> Option<Made> {
        let now = Instant::now();
        Some(Made {
            epoch: tally.epoch(),
            from: now,
            until: now,
        })
    }

    #[test]
    fn only_what_was_made_while_the_worker_died_was_caught() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut tally = Tally::default();
        tally.begin("kill");
        let fail = |tally: &mut Tally, from, until| {
            let made = Some(Made {
                epoch: 0,
                from: at(from),
                until: at(until),
            });
            tally.record(Sample {
                made,
                ..failed(Some(1))
            });
            (tally.total().caught, tally.total().lost)
        };
        assert_eq!(fail(&mut tally, 0, 9), (0, 1), "nobody dies");
        tally.dies(at(10));
        assert_eq!(fail(&mut tally, 0, 9), (0, 2), "what was queued before must be moved");
        assert_eq!(fail(&mut tally, 9, 10), (1, 2));
        assert_eq!(fail(&mut tally, 30, 31), (2, 2), "it is not known to be dead");
        tally.is_dead(at(20));
        assert_eq!(fail(&mut tally, 20, 31), (3, 2));
        assert_eq!(fail(&mut tally, 21, 31), (3, 3), "it was dead");
        tally.record(failed(Some(1)));
        assert_eq!(
            (tally.total().caught, tally.total().lost),
            (3, 4),
            "a kept connection was made long before"
        );
        tally.begin("after");
        assert_eq!(fail(&mut tally, 15, 15), (3, 5), "its act is over");
        assert_eq!(tally.total().died, 0);
    }

    #[test]
    fn only_what_the_killed_worker_had_accepted_died_with_it() {
        let mut tally = Tally::default();
        tally.record(answered(0, 0, None));
        tally.begin("steady");
        tally.record(failed(Some(1)));
        tally.begin("kill");
        tally.condemn([SocketAddr::from(([127, 0, 1, 1], 1))]);
        for sample in [failed(Some(1)), failed(Some(2)), failed(None), answered(0, 3, None)] {
            tally.record(sample);
        }
        tally.begin("after");
        tally.record(failed(Some(1)));
        let sums: Vec<_> = tally
            .acts()
            .iter()
            .map(|act| (act.requests, act.died, act.lost))
            .collect();
        assert_eq!(sums, [(1, 0, 1), (4, 1, 2), (1, 0, 1)]);
        assert_eq!(
            (tally.total().requests, tally.total().died, tally.total().lost),
            (6, 1, 4)
        );
        assert_eq!(
            tally.answered(),
            &BTreeMap::from([(3, 1)]),
            "before the first act nothing counts"
        );
    }

    #[test]
    fn a_client_moves_when_its_new_connections_do() {
        let mut tally = Tally::default();
        tally.begin("sticky");
        let before = made_in(&tally);
        tally.follow_clients();
        let now = made_in(&tally);
        for sample in [
            answered(1, 0, now),
            answered(1, 0, now),
            answered(2, 3, now),
            answered(2, 1, None),
            answered(2, 1, before),
            answered(2, 3, now),
        ] {
            tally.record(sample);
        }
        assert_eq!(tally.clients_and_moves(), (2, 0));
        tally.record(answered(2, 1, now));
        assert_eq!(tally.clients_and_moves(), (2, 1));
    }
}
