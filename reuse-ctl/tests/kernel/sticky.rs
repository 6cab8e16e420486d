//! Clients that keep their worker.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use reuse_common::{Policy, verdict::Verdict};

use crate::rig::{Group, Rig, ip, reset};

/// The slot of every client, by one connection of each.
fn slots(rig: &Rig, group: &Group, clients: &[IpAddr]) -> BTreeMap<IpAddr, u16> {
    let slots = clients
        .iter()
        .map(|&client| {
            let (slot, stream) = rig.chosen(|| group.connect_from(client));
            reset(&stream);
            (client, slot)
        })
        .collect();
    group.accept_all();
    slots
}

fn v4_clients(count: u8) -> Vec<IpAddr> {
    (0..count).map(|host| Ipv4Addr::new(127, 0, 7, host).into()).collect()
}

/// Each in a /64 of its own, but for the last one, which shares the first one's. This machine has all addresses of the prefix.
fn v6_clients(count: u16) -> Vec<IpAddr> {
    ip("-6 route add local 2001:db8::/32 dev lo");
    (0..count)
        .map(|network| Ipv6Addr::new(0x2001, 0xdb8, 0, network, 0, 0, 0, 1))
        .chain([Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 9, 9, 9, 9)])
        .map(IpAddr::from)
        .collect()
}

fn spread(slots: &BTreeMap<IpAddr, u16>) -> usize {
    let mut workers: Vec<u16> = slots.values().copied().collect();
    workers.sort_unstable();
    workers.dedup();
    workers.len()
}

/// Keeps everyone, moves only the clients of a worker that goes, and moves those once.
fn sticks(rig: &Rig, group: &mut Group, clients: &[IpAddr]) {
    group.publish(0..4);
    let first = slots(rig, group, clients);
    assert_eq!(spread(&first), 4, "{first:?}");
    assert_eq!(slots(rig, group, clients), first);

    group.publish([0, 1, 3]);
    let without = slots(rig, group, clients);
    for (client, slot) in &first {
        if *slot == 2 {
            assert_ne!(without[client], 2);
        } else {
            assert_eq!(without[client], *slot, "{client}");
        }
    }
    group.publish(0..4);
    assert_eq!(slots(rig, group, clients), without, "who has moved stays where he went");
    let expected = 4 * u64::try_from(clients.len()).expect("few");
    assert_eq!(
        (group.verdict(Verdict::Chosen), group.verdict(Verdict::Fallback)),
        (expected, 0)
    );
    rig.comes_to_rest();
}

#[tokio::test]
async fn ipv4_clients_stick() {
    let mut rig = Rig::new(Policy::Sticky);
    let mut group = rig.group("127.0.0.1:8080", 4);
    sticks(&rig, &mut group, &v4_clients(100));
    assert_eq!(rig.app.client_count(), 100);
}

#[tokio::test]
async fn ipv6_clients_stick_by_their_network() {
    let mut rig = Rig::new(Policy::Sticky);
    let mut group = rig.group("[::]:8080", 4);
    let clients = v6_clients(60);
    sticks(&rig, &mut group, &clients);
    assert_eq!(rig.app.client_count(), 60, "two of 61 share a /64");
    let slots = slots(&rig, &group, &clients);
    assert_eq!(slots[&clients[0]], slots[&clients[60]]);
}

/// Node's default: one `::` listener for both families.
#[tokio::test]
async fn ipv4_clients_of_a_dual_stack_listener_are_the_same_clients_as_on_ipv4() {
    let mut rig = Rig::new(Policy::Sticky);
    let mut dual = rig.group("[::]:8080", 4);
    let clients = v4_clients(100);
    sticks(&rig, &mut dual, &clients);
    assert_eq!(rig.app.client_count(), 100);

    let mut plain = rig.group("127.0.0.1:8081", 4);
    plain.publish(0..4);
    assert_eq!(slots(&rig, &plain, &clients), slots(&rig, &dual, &clients));
    assert_eq!(rig.app.client_count(), 100);
}
