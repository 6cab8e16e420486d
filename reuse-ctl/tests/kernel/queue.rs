//! What the controller sees in the accept queues, as part of the load.

use std::net::TcpStream;

use reuse_common::{Policy, load::QUEUE_WEIGHT};

use crate::rig::{Rig, row, until};

#[tokio::test]
async fn least_loaded_counts_what_waits_and_forgets_it_with_the_row() {
    let mut rig = Rig::new(Policy::LeastLoaded);
    let mut group = rig.group("127.0.0.1:8080", 2);
    group.publish([0, 1]);
    let behind = 10;
    rig.app.set_queue(row(0), behind);
    assert_eq!(u32::from(rig.load_of(0).queue()), behind);
    let others: Vec<TcpStream> = (0..behind * QUEUE_WEIGHT).map(|_| group.connect()).collect();
    until("all are counted", || {
        rig.load_of(1).established() == behind * QUEUE_WEIGHT
    });
    assert_eq!(rig.load_of(0).established(), 0, "it is behind by ten connections");
    let even: Vec<TcpStream> = (0..10).map(|_| group.connect()).collect();
    until("all are counted", || rig.load_of(0).established() == 5);
    assert_eq!(rig.load_of(1).established(), behind * QUEUE_WEIGHT + 5);

    rig.app.set_queue(row(0), 1_000_000);
    assert_eq!(rig.load_of(0).queue(), u16::MAX);
    drop((others, even, group.accept_all()));
    rig.comes_to_rest();
    rig.register(0, 7);
    assert_eq!(rig.load_of(0).queue(), 0, "a new instance begins with an empty queue");
}
