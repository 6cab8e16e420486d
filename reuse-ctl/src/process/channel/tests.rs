//! The controller's end of a channel against a plain socket.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream as Plain,
    sync::{Arc, Mutex as Lock},
};

use tokio::sync::mpsc;

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug, PartialEq, Eq)]
enum Heard {
    Line(Vec<u8>),
    TooLong,
    Again(u64),
    HungUp,
}

#[derive(Debug)]
struct Ear {
    batch: Lock<Vec<Heard>>,
    heard: mpsc::UnboundedSender<Heard>,
}

impl Listener for Ear {
    fn hear(&self, line: Line<'_>) {
        self.batch.lock().expect("no panic").push(match line {
            Line::Whole(line) => Heard::Line(line.to_vec()),
            Line::TooLong => Heard::TooLong,
        });
    }

    async fn settle(&self) {
        for heard in self.batch.lock().expect("no panic").drain(..) {
            self.heard.send(heard).expect("the test listens");
        }
    }

    async fn hears_again(&self, lost: u64) {
        self.heard.send(Heard::Again(lost)).expect("the test listens");
    }

    async fn hung_up(&self) {
        self.heard.send(Heard::HungUp).expect("the test listens");
    }
}

fn channel() -> (Channel, Plain, mpsc::UnboundedReceiver<Heard>) {
    let (heard, hears) = mpsc::unbounded_channel();
    let ear = Ear {
        batch: Lock::default(),
        heard,
    };
    let (channel, theirs) = Channel::open(Turn::default(), ear).expect("a socket pair");
    (channel, theirs.into(), hears)
}

async fn next(hears: &mut mpsc::UnboundedReceiver<Heard>) -> Option<Heard> {
    tokio::time::timeout(PATIENCE, hears.recv()).await.expect("in time")
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_go_both_ways_in_order() {
    let (channel, mut worker, mut hears) = channel();
    worker.write_all(b"\"ready\"\n{\"a\"").expect("room");
    assert_eq!(next(&mut hears).await, Some(Heard::Line(b"\"ready\"".to_vec())));
    worker.write_all(b":1}\n").expect("room");
    assert_eq!(next(&mut hears).await, Some(Heard::Line(b"{\"a\":1}".to_vec())));
    for number in 0..1000 {
        assert_eq!(channel.outbox().offer(format!("{number}\n").into()), Offer::Queued);
    }
    let expected: String = (0..1000).map(|number| format!("{number}\n")).collect();
    let mut said = vec![0; expected.len()];
    worker.read_exact(&mut said).expect("all of it");
    assert_eq!(String::from_utf8(said), Ok(expected));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_words_of_a_worker_are_heard() {
    let (channel, mut worker, mut hears) = channel();
    worker.write_all(b"1\n2\n").expect("room");
    drop(worker);
    drop(channel);
    assert_eq!(next(&mut hears).await, Some(Heard::Line(b"1".to_vec())));
    assert_eq!(next(&mut hears).await, Some(Heard::Line(b"2".to_vec())));
    assert_eq!(next(&mut hears).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_closes_its_end_can_be_told_nothing() {
    let (channel, worker, mut hears) = channel();
    drop(worker);
    assert_eq!(next(&mut hears).await, Some(Heard::HungUp));
    assert_eq!(next(&mut hears).await, None, "the task has ended");
    assert_eq!(channel.give_up(), None, "nothing was said to it");
    assert_eq!(channel.outbox().offer(Bytes::from_static(b"1\n")), Offer::Closed);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_nothing_loses_what_does_not_fit_and_hears_the_rest() {
    let (channel, mut worker, mut hears) = channel();
    let line = Bytes::from([vec![b'1'; 1024 * 1024], vec![b'\n']].concat());
    let (mut queued, mut lost) = (0, 0);
    for _ in 0..64 {
        match channel.outbox().offer(line.clone()) {
            Offer::Queued => queued += 1,
            Offer::Lost { is_first } => {
                assert_eq!(is_first, lost == 0);
                lost += 1;
            }
            Offer::Closed => panic!("it is open"),
        }
    }
    assert!((30..=40).contains(&queued), "{queued}");
    let mut reader = worker.try_clone().expect("a descriptor");
    let read = Arc::new(Lock::new(0));
    let total = Arc::clone(&read);
    std::thread::spawn(move || {
        let mut piece = vec![0; 1024 * 1024];
        while let Ok(more @ 1..) = reader.read(&mut piece) {
            *total.lock().expect("no panic") += more;
        }
    });
    assert_eq!(next(&mut hears).await, Some(Heard::Again(lost)));
    worker.write_all(b"\"ready\"\n").expect("room");
    assert_eq!(next(&mut hears).await, Some(Heard::Line(b"\"ready\"".to_vec())));
    assert_eq!(channel.outbox().offer(line.clone()), Offer::Queued);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_is_too_long_costs_itself_alone() {
    let (_channel, mut worker, mut hears) = channel();
    std::thread::spawn(move || {
        let piece = vec![b'x'; 1024 * 1024];
        for _ in 0..17 {
            worker.write_all(&piece).expect("it is read");
        }
        worker.write_all(b"\n2\n").expect("it is read");
    });
    assert_eq!(next(&mut hears).await, Some(Heard::TooLong));
    assert_eq!(next(&mut hears).await, Some(Heard::Line(b"2".to_vec())));
}

/// Waits until this many bytes can be read, without reading them.
fn wait_for_bytes(worker: &Plain, bytes: usize) {
    let started = Instant::now();
    let mut all = vec![0; bytes];
    while nix::sys::socket::recv(
        std::os::fd::AsRawFd::as_raw_fd(worker),
        &mut all,
        nix::sys::socket::MsgFlags::MSG_PEEK,
    ) != Ok(bytes)
    {
        assert!(started.elapsed() < PATIENCE, "{bytes} bytes come");
        std::thread::yield_now();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_worker_had_not_read_when_it_ended_is_counted() {
    for (read, expected) in [(0, Some((3, false))), (2, Some((1, true))), (3, None)] {
        let (channel, mut worker, _hears) = channel();
        let say = |line: &'static [u8]| assert_eq!(channel.outbox().offer(Bytes::from_static(line)), Offer::Queued);
        if read == 0 {
            say(b"1\n");
            say(b"2\n");
            say(b"3\n");
            wait_for_bytes(&worker, 6);
        } else {
            // Each is read before the next one is sent.
            for line in [&b"1\n"[..], b"2\n", b"3\n"] {
                say(line);
                wait_for_bytes(&worker, 2);
                if line[0] - b'0' <= read {
                    worker.read_exact(&mut [0; 2]).expect("it is there");
                }
            }
        }
        drop(worker);
        let expected = expected.map(|(messages, is_exact)| Unread { messages, is_exact });
        assert_eq!(channel.give_up(), expected, "{read} read");
        assert_eq!(channel.give_up(), None, "it is told once");
    }
}

/// On one thread, so that the task has done everything it can whenever the test continues.
#[tokio::test]
async fn the_workers_end_may_be_closed_after_the_controllers() {
    let (ours, worker) = Plain::pair().expect("a socket pair");
    ours.set_nonblocking(true).expect("a socket");
    let line = Arc::new(OpenLine::new(UnixStream::from_std(ours).expect("a runtime")));
    let (heard, mut hears) = mpsc::unbounded_channel();
    let ear = Ear {
        batch: Lock::default(),
        heard,
    };
    let (held, dropped) = oneshot::channel();
    let task = tokio::spawn(attend(Arc::clone(&line), Turn::default(), ear, dropped));
    line.outbox.close();
    drop(held);
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert!(!task.is_finished(), "it waits for the last words");
    drop(worker);
    tokio::time::timeout(PATIENCE, task)
        .await
        .expect("in time")
        .expect("it does not panic");
    assert_eq!(
        hears.recv().await,
        None,
        "nobody is told: the controller's end was closed first"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_the_controllers_own_is_missed_by_nobody() {
    for (messages, expected) in [(0, None), (1, Some(1))] {
        let (channel, worker, _hears) = channel();
        for _ in 0..messages {
            assert_eq!(channel.outbox().offer(Bytes::from_static(b"1\n")), Offer::Queued);
        }
        assert_eq!(channel.say_last(Bytes::from_static(b"2\n")), Offer::Queued);
        wait_for_bytes(&worker, 2);
        drop(worker);
        assert_eq!(channel.give_up().map(|unread| unread.messages), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_never_fitted_is_counted_too() {
    let (channel, worker, _hears) = channel();
    let line = Bytes::from([vec![b'1'; 1024 * 1024], vec![b'\n']].concat());
    for _ in 0..64 {
        channel.outbox().offer(line.clone());
    }
    drop(worker);
    let unread = channel.give_up().expect("it has read nothing");
    assert_eq!(unread.messages, 64);
}
