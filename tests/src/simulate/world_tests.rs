use reuse_common::Policy;

use super::*;
use crate::agenda::MILLISECOND;
use crate::law::{Arrivals, Law};
use crate::queue_watch::QueueWatch;
use crate::setup::{Chooser, Flood, rate_for};

const MEAN: f64 = 0.001;

fn serial(service: Law, workers: u16, utilisation: f64, chooser: Chooser) -> Setup {
    let arrivals = Arrivals::Poisson(rate_for(workers, service, utilisation));
    let server = Server::Serial { service };
    let mut setup = Setup::new(workers, chooser, server, arrivals, 400_000);
    setup.backlog = u32::MAX;
    setup.seed = 7;
    setup
}

fn assert_mean_wait_ms(setup: &Setup, expected: f64) {
    let wait = run(setup).wait_mean;
    assert!(
        (wait / expected - 1.0).abs() < 0.06,
        "{wait} instead of {expected} for {setup:?}"
    );
}

/// Pollaczek and Khinchine: W = λ E[S²] / 2 (1 − ρ).
#[test]
fn one_worker_waits_as_theory_says() {
    for utilisation in [0.3, 0.7] {
        let queueing = utilisation / (1.0 - utilisation);
        let setup = serial(Law::Exponential(MEAN), 1, utilisation, Chooser::Plain);
        assert_mean_wait_ms(&setup, queueing);
        let setup = serial(Law::Constant(MEAN), 1, utilisation, Chooser::Plain);
        assert_mean_wait_ms(&setup, queueing / 2.0);
    }
    let mixed = Law::Mixed {
        usual: 0.0005,
        rare: 0.01,
        share: 0.05,
    };
    let second_moment = 0.95 * 0.0005 * 0.0005 + 0.05 * 0.01 * 0.01;
    let expected = 1000.0 * 0.6 / mixed.mean() * second_moment / 2.0 / 0.4;
    assert_mean_wait_ms(&serial(mixed, 1, 0.6, Chooser::Plain), expected);
}

/// A random choice splits a Poisson stream into Poisson streams.
#[test]
fn plain_hashing_is_as_bad_as_one_worker_alone() {
    let setup = serial(Law::Exponential(MEAN), 8, 0.7, Chooser::Plain);
    assert_mean_wait_ms(&setup, 0.7 / 0.3);
    let setup = serial(Law::Exponential(MEAN), 8, 0.7, Chooser::By(Policy::Hash));
    assert_mean_wait_ms(&setup, 0.7 / 0.3);
}

/// With an event loop and one request a connection, the order of service is the same.
#[test]
fn an_event_loop_waits_no_less() {
    let mut setup = serial(Law::Exponential(MEAN), 1, 0.7, Chooser::Plain);
    setup.server = Server::Loop {
        service: Law::Exponential(MEAN),
        requests: 1.0,
        think: Law::Constant(0.0),
    };
    assert_mean_wait_ms(&setup, 0.7 / 0.3);
}

/// With all that can happen at once.
fn eventful(chooser: Chooser) -> Setup {
    let service = Law::Mixed {
        usual: 0.002,
        rare: 0.05,
        share: 0.05,
    };
    let server = Server::Loop {
        service,
        requests: 3.0,
        think: Law::Exponential(0.2),
    };
    let arrivals = Arrivals::Bursty {
        rate: rate_for(8, service, 0.6) / 3.0,
        burst: 0.1,
        factor: 5.0,
    };
    let mut setup = Setup::new(8, chooser, server, arrivals, 30_000);
    setup.seed = 3;
    setup.backlog = 64;
    setup.population = Population::Zipf {
        clients: 5000,
        skew: 0.9,
    };
    setup.flood = Some(Flood {
        rate: 1000.0,
        cookies: true,
    });
    setup.watch = Some(QueueWatch::USUAL);
    setup.timeline = true;
    let second = 1000 * MILLISECOND;
    setup.script = vec![
        (second, Act::Freeze(2, 3 * second)),
        (5 * second, Act::Withdraw(1)),
        (6 * second, Act::Freeze(3, second / 2)),
        (7 * second, Act::Publish(1)),
        (8 * second, Act::Replace(0)),
        (9 * second, Act::Replace(0)),
    ];
    setup
}

#[test]
fn every_connection_ends_once() {
    for chooser in Chooser::ALL {
        let outcome = run(&eventful(chooser));
        assert_eq!(outcome.counts.arrived, 30_000);
        assert_eq!(
            outcome.counts.ended + outcome.counts.refused,
            outcome.counts.arrived,
            "{chooser:?}: {outcome:?}"
        );
        assert!(
            outcome.counts.flooded > 1000 && outcome.counts.calls > 0 && outcome.counts.rescued > 0,
            "{chooser:?}: {outcome:?}"
        );
    }
}

#[test]
fn the_same_setup_gives_the_same_outcome() {
    for chooser in Chooser::ALL {
        let outcome = run(&eventful(chooser));
        assert_eq!(outcome, run(&eventful(chooser)));
        let mut other = eventful(chooser);
        other.seed += 1;
        assert_ne!(outcome, run(&other));
    }
}

#[test]
fn a_freeze_delays_what_runs_and_what_comes_by_as_much() {
    let service = Law::Constant(0.001);
    let mut setup = serial(service, 1, 0.1, Chooser::Plain);
    setup.connections = 2000;
    setup.script = vec![(5000 * MILLISECOND, Act::Freeze(0, 700 * MILLISECOND))];
    let outcome = run(&setup);
    assert!((690.0..712.0).contains(&outcome.wait_max), "{}", outcome.wait_max);
}

#[test]
fn without_a_reservation_everybody_runs_to_the_same_worker() {
    let balance = |reserves| {
        let mut setup = Setup::new(
            8,
            Chooser::By(Policy::LeastLoaded),
            Server::Ample {
                lasts: Law::Exponential(0.2),
            },
            Arrivals::Poisson(4000.0),
            50_000,
        );
        setup.round_trip = Law::Constant(0.05);
        setup.tuning.reserves = reserves;
        run(&setup).balance
    };
    let (with, without) = (balance(true), balance(false));
    assert!(with < 1.1 && without > 1.5, "{with} {without}");
}
