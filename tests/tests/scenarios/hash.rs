//! A hash that moves nobody but those who must move.

use std::net::SocketAddr;

use reuse_tests::http::Connection;
use reuse_tests::namespace::ipv4_clients;
use reuse_tests::reconcile::reconcile;
use reuse_tests::{App, Namespace, SERVER, commands};

#[test]
fn withdrawing_one_of_eight_moves_no_key_of_the_other_seven() {
    let _namespace = Namespace::enter();
    let app = App::run(&["--workers", "8", "--policy", "hash"], &commands::rust(&[]));
    // A key is the whole 4-tuple, so every client uses the same address and port each time.
    let keys: Vec<SocketAddr> = ipv4_clients(400)
        .into_iter()
        .zip(10_000..)
        .map(|(address, port)| SocketAddr::new(address.into(), port))
        .collect();

    let before = places(&keys);
    for slot in 0..8 {
        let count = before.iter().filter(|place| **place == slot).count();
        // 400 keys on 8 workers: 50 ± 4 × 6.6.
        assert!((24..=76).contains(&count), "worker {slot} has {count} of 400 keys");
    }
    assert_eq!(places(&keys), before, "the same key goes to the same worker");

    app.ctl(&["drain", "5"]).expect_code(0);
    let during = places(&keys);
    for ((key, before), during) in keys.iter().zip(&before).zip(&during) {
        assert_ne!(*during, 5, "{key} came to a withdrawn worker");
        assert!(
            *before == 5 || before == during,
            "{key} went to worker {before}, and to {during} because worker 5 was withdrawn"
        );
    }

    app.ctl(&["undrain", "5"]).expect_code(0);
    assert_eq!(places(&keys), before, "after undrain every key is back");
    app.ctl(&["restart", "5"]).expect_code(0);
    assert_eq!(places(&keys), before, "a new instance inherits the keys of its slot");

    reconcile(&app, 5 * 400);
    app.stop();
}

fn places(keys: &[SocketAddr]) -> Vec<u16> {
    keys.iter()
        .map(|key| {
            let mut connection =
                Connection::open(SERVER, Some(*key)).unwrap_or_else(|failure| panic!("{key}: {failure}"));
            let slot = connection
                .get(false)
                .unwrap_or_else(|failure| panic!("{key}: {failure}"))
                .slot;
            connection.reset();
            slot.expect("the server names its slot")
        })
        .collect()
}
