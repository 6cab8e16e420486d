//! A client keeps its worker.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use reuse_tests::http::get;
use reuse_tests::namespace::ipv4_clients;
use reuse_tests::reconcile::reconcile;
use reuse_tests::{App, Namespace, PORT, SERVER, commands};

const STICKY: [&str; 4] = ["--workers", "4", "--policy", "sticky"];

/// Which slot each client is on.
type Places = BTreeMap<IpAddr, u16>;

#[test]
fn two_hundred_connections_of_one_client_go_to_one_worker() {
    let _namespace = Namespace::enter();
    let app = App::run(&STICKY, &commands::rust(&[]));
    let slots: BTreeSet<_> = (0..200).map(|_| get(SERVER, None).expect("an answer").slot).collect();
    assert_eq!(slots.len(), 1, "{slots:?}");
    reconcile(&app, 200);
    app.stop();
}

#[test]
fn two_hundred_clients_stay_through_drain_undrain_and_reload() {
    let _namespace = Namespace::enter();
    let app = App::run(&STICKY, &commands::rust(&[]));
    stay_through_drain_undrain_and_reload(app, SERVER, v4());
}

#[test]
fn two_hundred_ipv4_clients_of_a_dual_stack_listener_stay() {
    let _namespace = Namespace::enter();
    let app = App::run(&STICKY, &commands::node_dual_stack());
    stay_through_drain_undrain_and_reload(app, SERVER, v4());
}

#[test]
fn two_hundred_ipv6_clients_stay() {
    let namespace = Namespace::enter();
    let clients = namespace.ipv6_clients(200);
    let app = App::run(&STICKY, &commands::node_dual_stack());
    let to = SocketAddr::new(clients[0].into(), PORT);
    stay_through_drain_undrain_and_reload(app, to, clients.into_iter().map(IpAddr::from).collect());
}

#[test]
fn clients_of_one_ipv6_network_are_one_client() {
    let namespace = Namespace::enter();
    let clients = namespace.ipv6_clients(20);
    let app = App::run(
        &[&STICKY[..], &["--sticky-prefix6", "32"]].concat(),
        &commands::node_dual_stack(),
    );
    let to = SocketAddr::new(clients[0].into(), PORT);
    let slots: BTreeSet<_> = clients
        .into_iter()
        .map(|client| get(to, Some(client.into())).expect("an answer").slot)
        .collect();
    assert_eq!(slots.len(), 1, "one /32 is one client: {slots:?}");
    app.stop();
}

#[track_caller]
fn stay_through_drain_undrain_and_reload(app: App, to: SocketAddr, clients: Vec<IpAddr>) {
    let mut visits = Visits { to, clients, count: 0 };
    let first = visits.all();
    assert_spread(&first);
    assert_eq!(visits.all(), first, "everybody comes again to the same worker");

    app.ctl(&["drain", "2"]).expect_code(0);
    let drained = visits.all();
    for (client, slot) in &drained {
        assert_ne!(*slot, 2, "{client} came to a drained worker");
        let before = first[client];
        assert!(
            before == 2 || before == *slot,
            "{client} was on worker {before}, and moved to {slot} because of a drain of worker 2"
        );
    }
    assert_eq!(visits.all(), drained, "who moved, moved once");

    app.ctl(&["undrain", "2"]).expect_code(0);
    assert_eq!(visits.all(), drained, "nobody moves back");

    let pids = app.status().pids();
    app.ctl(&["reload"]).expect_code(0);
    let status = app.status();
    assert!(status.all_active(4), "{status:#?}");
    assert!(
        status.pids().iter().zip(&pids).all(|(new, old)| new != old),
        "every process is a new one: {pids:?}, then {:?}",
        status.pids()
    );
    assert_eq!(visits.all(), drained, "a reload changes nobody's slot");

    reconcile(&app, visits.count);
    app.stop();
}

/// With 200 clients and 4 workers the standard deviation is 6: four of them either way.
#[track_caller]
fn assert_spread(places: &Places) {
    for slot in 0..4 {
        let count = places.values().filter(|place| **place == slot).count();
        assert!(
            (25..=75).contains(&count),
            "worker {slot} has {count} of {} clients",
            places.len()
        );
    }
}

struct Visits {
    to: SocketAddr,
    clients: Vec<IpAddr>,
    count: u64,
}

impl Visits {
    /// Every client comes once.
    #[track_caller]
    fn all(&mut self) -> Places {
        self.count += self.clients.len() as u64;
        self.clients
            .iter()
            .map(|client| {
                (
                    *client,
                    get(self.to, Some(*client))
                        .unwrap_or_else(|failure| panic!("{client}: {failure}"))
                        .slot
                        .expect("the server names its slot"),
                )
            })
            .collect()
    }
}

fn v4() -> Vec<IpAddr> {
    ipv4_clients(200).into_iter().map(IpAddr::from).collect()
}
