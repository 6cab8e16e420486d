//! The controller asks to be told of the next connection.

use std::{net::TcpStream, thread, time::Duration};

use reuse_common::{
    Policy,
    ids::Row,
    notice::{Notice, NoticeKind},
};

use crate::rig::{PATIENCE, Rig, connect, reset, row, until};

/// What is told until the closing of a listener is told of, which is made for this: the ring keeps the order.
async fn told(rig: &mut Rig) -> Vec<Notice> {
    let mut notices = Vec::new();
    drop(rig.group("127.0.0.1:9090", 0));
    let is_close = |notice: &Notice| notice.kind == NoticeKind::Close as u32 && notice.port == 9090;
    while !notices.iter().any(is_close) {
        let more = tokio::time::timeout(PATIENCE, rig.notices.next()).await;
        notices.extend(more.expect("the closing is told").expect("readable"));
    }
    notices.retain(|notice| notice.kind == NoticeKind::Traffic as u32);
    notices
}

#[tokio::test]
async fn it_is_told_once_for_each_asking() {
    let mut rig = Rig::new(Policy::RoundRobin);
    let mut group = rig.group("127.0.0.1:8080", 2);
    group.publish([0, 1]);
    let connect_to = |rig: &Rig, connections: u64| -> Vec<TcpStream> {
        let before: u64 = rig.each(|load| load.established_total()).iter().sum();
        let open = (0..connections).map(|_| connect(group.target())).collect();
        until("all are counted", || {
            rig.each(|load| load.established_total()).iter().sum::<u64>() == before + connections
        });
        open
    };
    let mut open = connect_to(&rig, 3);
    assert_eq!(told(&mut rig).await, [], "nobody has asked");

    for _ in 0..2 {
        rig.app.ask_for_wake();
        assert_eq!(told(&mut rig).await, [], "not before there is a connection");
        let first = rig.each(|load| load.established_total());
        open.extend(connect_to(&rig, 1));
        let rows = [row(0), row(1)];
        let second = rig.each(|load| load.established_total());
        let chosen = (0..2).find(|&slot| second[slot] > first[slot]).expect("one was chosen");
        open.extend(connect_to(&rig, 5));
        let told = told(&mut rig).await;
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(told[0].row, rows[chosen].to_map());
    }
    drop(open);
}

/// The waiting controller wakes by it, and also for a connection that is parked.
#[tokio::test]
async fn it_wakes_who_waits() {
    let mut rig = Rig::new(Policy::LeastLoaded);
    let group = rig.group("127.0.0.1:8080", 1);
    told(&mut rig).await;
    rig.app.ask_for_wake();
    let quiet = tokio::time::timeout(Duration::from_millis(50), rig.notices.next()).await;
    assert!(quiet.is_err(), "{quiet:?}");
    let target = group.target();
    let client = thread::spawn(move || reset(&connect(target)));
    let notices = tokio::time::timeout(PATIENCE, rig.notices.next()).await;
    let notices = notices.expect("woken").expect("readable");
    client.join().expect("no panic");
    let [notice] = notices[..] else { panic!("{notices:?}") };
    assert_eq!(
        (NoticeKind::from_number(notice.kind), notice.row),
        (Some(NoticeKind::Traffic), Row::BACKSTOP.to_map())
    );
    drop(group.accept_all());
    rig.comes_to_rest();
}
