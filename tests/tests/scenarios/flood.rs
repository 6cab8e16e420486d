//! SYNs from addresses that nobody has evict no client.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};

use reuse_tests::flood::syn_flood;
use reuse_tests::heavy::Heavy;
use reuse_tests::http::get;
use reuse_tests::namespace::ipv4_clients;
use reuse_tests::{App, Namespace, PORT, SERVER, commands};

const SYNS: u32 = 50_000;

#[test]
fn a_flood_of_syns_evicts_no_recorded_client() {
    let _turn = Heavy::turn();
    let namespace = Namespace::enter();
    namespace.swallow_answers_to_ten();
    // Far fewer places than the flood has addresses.
    let app = App::run(
        &["--workers", "4", "--policy", "sticky", "--sticky-capacity", "2000"],
        &commands::rust(&[]),
    );
    places();
    // Who was on worker 2 is now somewhere that only the table remembers: without it, they would go back.
    app.ctl(&["drain", "2"]).expect_code(0);
    let moved = places();
    app.ctl(&["undrain", "2"]).expect_code(0);
    assert_eq!(places(), moved);
    assert!(!moved.values().any(|slot| *slot == 2));

    let before = app.status().verdicts();
    syn_flood(SocketAddrV4::new(Ipv4Addr::LOCALHOST, PORT), SYNS);
    let after = app.status();
    assert!(
        after.verdicts().chosen - before.chosen >= u64::from(SYNS) / 2,
        "the flood arrived: {before:?}, then {:?}",
        after.verdicts()
    );

    assert_eq!(places(), moved, "every client is still recorded");
    let status = app.status();
    assert_eq!((status.fallbacks, status.unsteered), (0, 0));
    let established: u64 = status.workers.iter().map(|worker| worker.established_total).sum();
    assert_eq!(established, 4 * 200, "only real clients were established");
    app.stop();
}

#[track_caller]
fn places() -> BTreeMap<IpAddr, u16> {
    ipv4_clients(200)
        .into_iter()
        .map(|client| {
            (
                IpAddr::from(client),
                get(SERVER, Some(client.into()))
                    .unwrap_or_else(|failure| panic!("{client}: {failure}"))
                    .slot
                    .expect("the server names its slot"),
            )
        })
        .collect()
}
