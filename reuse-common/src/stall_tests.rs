//! Simulates the kinds of servers that must be told apart, millisecond by millisecond, and checks properties for any readings.

use proptest::prelude::*;

use super::*;
use crate::withhold::{self, Candidate};

/// How a server accepts connections from its queue.
#[derive(Debug, Clone)]
enum Server {
    /// Accepts everything at once: an event loop with little work per connection.
    Prompt,
    /// One thread: accepts up to `burst` connections, then works on each for `work_ms`.
    Serial { burst: u32, work_ms: u64, until_ms: u64 },
    /// Each thread accepts one connection and works on it.
    Pool { work_ms: u64, until_ms: Vec<u64> },
    /// An event loop that computes for `busy_ms` in every `every_ms`, starting at `offset_ms`.
    Computing {
        busy_ms: u64,
        every_ms: u64,
        offset_ms: u64,
    },
    /// Accepts everything, except from `from_ms` to `to_ms`.
    Stopped { from_ms: u64, to_ms: u64 },
}

impl Server {
    fn pool(threads: usize, work_ms: u64) -> Self {
        let until_ms = vec![0; threads];
        Self::Pool { work_ms, until_ms }
    }

    fn take(&mut self, now_ms: u64, queue: u32) -> u32 {
        match self {
            Self::Prompt => queue,
            Self::Serial {
                burst,
                work_ms,
                until_ms,
            } => {
                let taken = if now_ms < *until_ms { 0 } else { queue.min(*burst) };
                if taken > 0 {
                    *until_ms = now_ms + u64::from(taken) * *work_ms;
                }
                taken
            }
            Self::Pool { work_ms, until_ms } => {
                let idle = until_ms.iter_mut().filter(|until_ms| **until_ms <= now_ms);
                let mut taken = 0;
                for until_ms in idle.take(queue as usize) {
                    *until_ms = now_ms + *work_ms;
                    taken += 1;
                }
                taken
            }
            Self::Computing {
                busy_ms,
                every_ms,
                offset_ms,
            } => {
                let computes = now_ms >= *offset_ms && (now_ms - *offset_ms) % *every_ms < *busy_ms;
                if computes { 0 } else { queue }
            }
            Self::Stopped { from_ms, to_ms } if (*from_ms..*to_ms).contains(&now_ms) => 0,
            Self::Stopped { .. } => queue,
        }
    }
}

/// An app under load, and the controller that looks at it.
struct App {
    servers: Vec<Server>,
    queues: Vec<u32>,
    accepted: Vec<u64>,
    watches: Vec<Watch>,
    norm: Norm,
    withdrawn: Vec<bool>,
    hung_since_ms: Vec<Option<u64>>,
    /// When a worker was declared hung, which one, and after what stall.
    calls: Vec<(u64, usize, u64)>,
    recoveries: Vec<(u64, usize)>,
    chance: u64,
    now_ms: u64,
    next_look_ms: u64,
    /// The controller does not look during this time.
    blind_ms: std::ops::Range<u64>,
    look_every_ms: u64,
    /// New connections per worker and second.
    rate: u64,
}

impl App {
    fn new(servers: Vec<Server>, rate: u64) -> Self {
        let workers = servers.len();
        Self {
            servers,
            queues: vec![0; workers],
            accepted: vec![0; workers],
            watches: vec![Watch::new(); workers],
            norm: Norm::new(50),
            withdrawn: vec![false; workers],
            hung_since_ms: vec![None; workers],
            calls: Vec::new(),
            recoveries: Vec::new(),
            chance: 7,
            now_ms: 0,
            next_look_ms: 0,
            blind_ms: 0..0,
            look_every_ms: 5,
            rate,
        }
    }

    fn of(server: &Server, workers: usize, rate: u64) -> Self {
        Self::new(vec![server.clone(); workers], rate)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.chance = self.chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.chance >> 33) % bound
    }

    fn run(&mut self, ms: u64) {
        for _ in 0..ms {
            self.now_ms += 1;
            self.arrive();
            for (worker, server) in self.servers.iter_mut().enumerate() {
                let taken = server.take(self.now_ms, self.queues[worker]);
                self.queues[worker] -= taken;
                self.accepted[worker] += u64::from(taken);
            }
            if self.now_ms >= self.next_look_ms && !self.blind_ms.contains(&self.now_ms) {
                self.next_look_ms = self.now_ms + self.look_every_ms + self.below(3);
                self.look();
            }
            self.rescue();
        }
    }

    /// Connections go to random published workers, which is as uneven as it gets.
    fn arrive(&mut self) {
        let published: Vec<_> = (0..self.servers.len())
            .filter(|worker| !self.withdrawn[*worker])
            .collect();
        let tries = self.servers.len() as u64 * self.rate;
        let count = tries / 1000 + u64::from(self.below(1000) < tries % 1000);
        for _ in 0..count {
            let worker = published[usize::try_from(self.below(published.len() as u64)).expect("small")];
            self.queues[worker] += 1;
        }
    }

    fn look(&mut self) {
        for worker in 0..self.servers.len() {
            // Connections arrive while the counters are read, so either bound may be off by one, and sometimes by more.
            let comes = u64::from(!self.withdrawn[worker]);
            let (under, over) = (comes * self.below(2), comes * self.below(2));
            let spike = comes * 10 * u64::from(self.below(50) == 0);
            let look = Look {
                at_ms: self.now_ms,
                queue: self.queues[worker],
                accepted_at_least: self.accepted[worker].saturating_sub(under),
                accepted_at_most: self.accepted[worker] + over + spike,
            };
            self.watches[worker].look(look, &mut self.norm);
        }
        let published = self.watches.iter_mut().zip(&self.withdrawn);
        let mut published: Vec<_> = published
            .filter_map(|(watch, withdrawn)| (!withdrawn).then_some(watch))
            .collect();
        self.norm.judge(self.now_ms, &mut published);
        for worker in 0..self.servers.len() {
            let watch = &self.watches[worker];
            match (watch.is_hung(), self.hung_since_ms[worker]) {
                (true, None) => {
                    self.hung_since_ms[worker] = Some(self.now_ms);
                    self.calls.push((self.now_ms, worker, watch.stall_ms()));
                }
                (false, Some(_)) => {
                    self.hung_since_ms[worker] = None;
                    self.recoveries.push((self.now_ms, worker));
                }
                _ => {}
            }
        }
        let candidates = self.hung_since_ms.iter().map(|since| Candidate {
            faulty_since_ms: *since,
            withdrawn: false,
        });
        let mut candidates: Vec<_> = candidates.collect();
        withhold::decide(&mut candidates, 50);
        self.withdrawn = candidates.iter().map(|candidate| candidate.withdrawn).collect();
    }

    /// 20 ms after a worker was declared hung its queue is moved to others, and a wake-up probe arrives.
    fn rescue(&mut self) {
        for worker in 0..self.servers.len() {
            if self.withdrawn[worker] && self.hung_since_ms[worker] == Some(self.now_ms.saturating_sub(20)) {
                let moved = std::mem::replace(&mut self.queues[worker], 1);
                let other = (0..self.servers.len()).find(|other| !self.withdrawn[*other]);
                self.queues[other.expect("never all")] += moved;
            }
        }
    }

    /// The stalls after which `worker` was declared hung.
    fn calls_of(&self, worker: usize) -> Vec<u64> {
        let calls = self.calls.iter().filter(|(_, called, _)| *called == worker);
        calls.map(|(_, _, stall_ms)| *stall_ms).collect()
    }
}

fn serial(burst: u32, work_ms: u64) -> Server {
    Server::Serial {
        burst,
        work_ms,
        until_ms: 0,
    }
}

#[test]
fn a_stopped_worker_is_called_at_about_50_ms_and_comes_back() {
    for rate in [100, 300, 2000] {
        let mut servers = vec![Server::Prompt; 4];
        servers[1] = Server::Stopped {
            from_ms: 2_000,
            to_ms: 12_000,
        };
        let mut app = App::new(servers, rate);
        app.run(13_000);
        let [(called_ms, 1, stall_ms)] = app.calls[..] else {
            panic!("{rate}/s: {:?}", app.calls)
        };
        assert!((50..=75).contains(&stall_ms), "{rate}/s: {stall_ms} ms");
        assert!(called_ms < 2_100, "{rate}/s: {called_ms}");
        let [(back_ms, 1)] = app.recoveries[..] else {
            panic!("{rate}/s: {:?}", app.recoveries)
        };
        assert!((12_000..12_020).contains(&back_ms), "{rate}/s: {back_ms}");
    }
}

#[test]
fn a_loop_that_computes_is_called_each_time_and_is_back_each_time() {
    let mut servers = vec![Server::Prompt; 4];
    servers[2] = Server::Computing {
        busy_ms: 500,
        every_ms: 1_000,
        offset_ms: 1_000,
    };
    let mut app = App::new(servers, 250);
    app.run(60_000);
    assert_eq!(app.calls.len(), 59, "{:?}", app.calls);
    for (called_ms, worker, stall_ms) in &app.calls {
        assert_eq!(*worker, 2);
        assert!((50..=70).contains(stall_ms), "{stall_ms} ms");
        assert!(called_ms % 1_000 <= 80, "at {called_ms}");
    }
    assert!(
        app.recoveries
            .iter()
            .all(|(back_ms, _)| (500..=520).contains(&(back_ms % 1_000)))
    );
}

#[test]
fn growing_pauses_of_one_do_not_raise_what_is_borne() {
    let mut servers = vec![Server::Prompt; 4];
    servers[0] = Server::Computing {
        busy_ms: 45,
        every_ms: 200,
        offset_ms: 500,
    };
    let mut app = App::new(servers, 250);
    app.run(5_000);
    for busy_ms in [60, 80, 100, 130, 170] {
        app.servers[0] = Server::Computing {
            busy_ms,
            every_ms: 300,
            offset_ms: app.now_ms,
        };
        app.run(3_000);
    }
    assert_eq!(app.norm.patience_ms(&app.watches[0]), Some(50));
    assert!(app.calls_of(0).len() >= 40, "{:?}", app.calls);
}

#[test]
fn a_server_that_takes_one_at_a_time_is_never_called_idle_busy_or_overloaded() {
    for rate in [0, 1, 2, 3, 7] {
        for workers in [2, 4, 16] {
            let mut app = App::of(&serial(1, 300), workers, rate);
            app.run(60_000);
            assert_eq!(app.calls, [], "{workers} workers, {rate}/s");
        }
    }
}

#[test]
fn a_server_that_takes_eight_at_once_and_then_works_is_never_called() {
    for rate in [1, 2, 3, 7] {
        for workers in [2, 4, 16] {
            let mut app = App::of(&serial(8, 300), workers, rate);
            app.run(120_000);
            assert_eq!(app.calls, [], "{workers} workers, {rate}/s");
        }
    }
}

#[test]
fn a_slow_server_that_does_hang_is_called_after_what_is_normal_for_it() {
    let mut app = App::of(&serial(1, 300), 4, 2);
    app.run(20_000);
    app.servers[3] = Server::Stopped {
        from_ms: 0,
        to_ms: u64::MAX,
    };
    app.run(5_000);
    let calls = app.calls_of(3);
    assert!(calls.len() == 1 && (900..1_500).contains(&calls[0]), "{:?}", app.calls);
    assert_eq!(app.calls.len(), 1);
}

/// While the pools fill one after the other, the first full ones may be declared hung, because the others are better off then. Once all are
/// full, none is.
#[test]
fn pools_that_are_overloaded_together_are_not_called_for_long() {
    for rate in [40, 54, 100] {
        for workers in [4, 16] {
            let mut app = App::of(&Server::pool(8, 300), workers, rate);
            app.run(60_000);
            let late = app.calls.iter().filter(|(called_ms, ..)| *called_ms > 1_000).count();
            assert!(
                late == 0 && app.calls.len() <= workers,
                "{workers} workers, {rate}/s of 26/s each: {:?}",
                app.calls
            );
        }
    }
}

#[test]
fn all_stopped_are_seen_in_one_look_and_stay_published() {
    let stopped = Server::Stopped {
        from_ms: 2_000,
        to_ms: 6_000,
    };
    let mut app = App::of(&stopped, 4, 200);
    app.run(5_900);
    assert_eq!(app.calls.len(), 4, "{:?}", app.calls);
    assert!(app.calls.iter().all(|(called_ms, ..)| *called_ms == app.calls[0].0));
    assert!((3_000..3_200).contains(&app.calls[0].0), "{:?}", app.calls);
    assert_eq!(app.withdrawn, [false; 4]);
    app.run(200);
    assert_eq!(app.recoveries.len(), 4);
    app.servers[1] = Server::Stopped {
        from_ms: 0,
        to_ms: u64::MAX,
    };
    app.run(200);
    assert_eq!(
        app.calls_of(1).len(),
        2,
        "what was called was not learned: {:?}",
        app.calls
    );
}

#[test]
fn most_stopped_are_called_too_and_half_of_them_withdrawn() {
    let mut servers = vec![
        Server::Stopped {
            from_ms: 2_000,
            to_ms: u64::MAX
        };
        4
    ];
    servers[3] = Server::Prompt;
    let mut app = App::new(servers, 200);
    app.run(4_000);
    assert_eq!(app.calls.len(), 3, "{:?}", app.calls);
    assert_eq!(app.withdrawn.iter().filter(|withdrawn| **withdrawn).count(), 2);
}

#[test]
fn nobody_is_called_alone_or_before_it_has_shown_what_it_can() {
    let stopped = |from_ms| Server::Stopped {
        from_ms,
        to_ms: u64::MAX,
    };
    let mut alone = App::new(vec![stopped(1_000)], 200);
    alone.run(10_000);
    let mut cold = App::new(vec![stopped(0), Server::Prompt, Server::Prompt], 200);
    cold.run(10_000);
    assert_eq!((alone.calls, cold.calls), (vec![], vec![]));
    assert_eq!(cold.norm.patience_ms(&cold.watches[0]), None);
    let mut off = App::new(vec![stopped(1_000), Server::Prompt], 200);
    off.norm = Norm::new(0);
    off.run(3_000);
    assert_eq!(off.calls, []);
}

#[test]
fn the_controllers_own_sleep_is_not_held_against_anybody() {
    let mut app = App::of(&Server::Prompt, 4, 500);
    for turn in 1..100 {
        let from_ms = turn * 700;
        app.blind_ms = from_ms..from_ms + 10 * (turn % 60);
        // A connection that came just before always waits at the next look.
        app.run(app.blind_ms.end.saturating_sub(app.now_ms + 1));
        app.queues.iter_mut().for_each(|queue| *queue += 1);
        app.run(from_ms + 700 - app.now_ms - 1);
    }
    assert_eq!(app.calls, []);
}

#[test]
fn a_hang_is_found_in_spite_of_slow_looks() {
    let mut app = App::of(&Server::Prompt, 4, 300);
    app.run(2_000);
    app.look_every_ms = 40;
    app.servers[0] = Server::Stopped {
        from_ms: 0,
        to_ms: u64::MAX,
    };
    app.run(1_000);
    assert_eq!(app.calls_of(0).len(), 1);
}

fn look(at_ms: u64, queue: u32, accepted: std::ops::RangeInclusive<u64>) -> Look {
    Look {
        at_ms,
        queue,
        accepted_at_least: *accepted.start(),
        accepted_at_most: *accepted.end(),
    }
}

#[test]
fn progress_must_exceed_what_may_have_been_before() {
    let mut norm = Norm::new(50);
    let mut watch = Watch::new();
    assert!(!watch.look(look(0, 1, 10..=12), &mut norm), "nothing to compare with");
    assert!(
        !watch.look(look(5, 1, 12..=14), &mut norm),
        "12 may have been so already"
    );
    assert!(watch.look(look(10, 1, 13..=13), &mut norm));
    assert!(!watch.look(look(15, 1, 13..=13), &mut norm));
    assert!(!watch.look(look(20, 1, 12..=13), &mut norm));
    assert!(watch.look(look(25, 1, 14..=14), &mut norm));
}

#[test]
fn one_bound_that_is_too_low_proves_nothing() {
    let mut norm = Norm::new(50);
    let mut watch = Watch::new();
    for at_ms in [0, 5, 10] {
        watch.look(look(at_ms, 4, 100..=100), &mut norm);
    }
    watch.look(look(15, 5, 99..=99), &mut norm);
    assert!(!watch.look(look(20, 5, 100..=100), &mut norm));
}

#[test]
fn a_spike_is_forgotten_after_two_looks() {
    let mut norm = Norm::new(50);
    let mut watch = Watch::new();
    watch.look(look(0, 4, 100..=200), &mut norm);
    for at_ms in [5, 10] {
        watch.look(look(at_ms, 4, 100..=100), &mut norm);
    }
    assert!(
        watch.look(look(15, 4, 101..=101), &mut norm),
        "one connection shows that it lives"
    );
}

#[test]
fn learned_is_the_second_longest_of_the_last_minute() {
    let mut norm = Norm::new(50);
    let watch = Watch {
        best_ms: Some(30),
        ..Watch::new()
    };
    norm.learn(1_000, 10_000);
    assert_eq!(norm.patience_ms(&watch), Some(50), "one freak stall");
    norm.learn(2_000, 200);
    norm.learn(31_000, 100);
    assert_eq!(norm.patience_ms(&watch), Some(300));
    norm.forget(65_000);
    assert_eq!(norm.patience_ms(&watch), Some(50));
}

proptest! {
    /// Whatever a hung worker's readings are, as long as they are true, no look proves progress and it stays hung.
    #[test]
    fn a_hung_worker_makes_no_progress(
        readings in proptest::collection::vec((0..40_u64, 0..9_u32, 0..5_u64, 0..5_u64), 1..200),
    ) {
        let mut norm = Norm::new(50);
        let mut watch = Watch::new();
        let mut at_ms = 0;
        for (gap_ms, queue, under, over) in readings {
            at_ms += gap_ms;
            let progress = watch.look(look(at_ms, queue, 100 - under..=100 + over), &mut norm);
            prop_assert!(!progress);
        }
    }

    /// Whatever happens: no worker is declared hung alone or before its speed is known, only progress ends the state, and no stall is
    /// longer than the elapsed time.
    #[test]
    fn calls_end_with_progress_and_only_with_it(
        workers in 1..6_usize,
        looks in proptest::collection::vec((0..200_u64, proptest::collection::vec((0..3_u32, 0..3_u64), 6)), 1..200),
    ) {
        let mut norm = Norm::new(50);
        let mut watches = vec![Watch::new(); workers];
        let mut accepted = vec![0_u64; workers];
        let mut at_ms = 0;
        for (gap_ms, seen) in looks {
            at_ms += gap_ms;
            for (worker, watch) in watches.iter_mut().enumerate() {
                let (queue, more) = seen[worker];
                accepted[worker] += more;
                let was_hung = watch.is_hung();
                let stall_ms = watch.stall_ms();
                let progress = watch.look(look(at_ms, queue, accepted[worker]..=accepted[worker]), &mut norm);
                prop_assert!(!progress || more > 0);
                prop_assert!(watch.stall_ms() <= stall_ms + gap_ms);
                prop_assert!(progress || watch.is_hung() == was_hung);
                prop_assert!(!(progress && watch.is_hung()));
            }
            let mut all: Vec<_> = watches.iter_mut().collect();
            norm.judge(at_ms, &mut all);
            for watch in watches.iter().filter(|watch| watch.is_hung()) {
                prop_assert!(workers > 1 && norm.patience_ms(watch).is_some());
            }
        }
    }
}
