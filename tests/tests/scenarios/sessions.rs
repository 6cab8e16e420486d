//! Servers that give each connection a process of its own: a reload lets sessions live up to the drain timeout, and says what it cut.

use std::time::{Duration, Instant};

use reuse_tests::binaries::{on_path, python, script};
use reuse_tests::events::Events;
use reuse_tests::session::{Echo, Session};
use reuse_tests::{Launch, Namespace, PORT, wait};

/// Of the app.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(6);

/// The settle time, the boot, and the server's end, on a busy machine.
const BESIDES: Duration = Duration::from_secs(8);

#[test]
fn sessions_of_sshd() {
    let _namespace = Namespace::enter();
    let (echo, command) = Echo::sshd();
    sessions_live_up_to_the_drain_timeout(&echo, &command);
}

#[test]
fn sessions_of_socat() {
    let _namespace = Namespace::enter();
    let listen = format!("TCP-LISTEN:{PORT},bind=127.0.0.1,fork,reuseaddr");
    let command = [on_path("socat"), listen, "EXEC:cat".to_owned()];
    sessions_live_up_to_the_drain_timeout(&Echo::Lines, &command);
}

#[test]
fn sessions_of_a_server_that_forks() {
    let _namespace = Namespace::enter();
    let command = [python(), script("endings/forking.py")];
    sessions_live_up_to_the_drain_timeout(&Echo::Lines, &command);
}

/// Nobody tells the sessions to end where `--kill-mode` says so: there is nothing to wait for once their time is over.
#[test]
fn a_session_that_gets_no_signal_is_killed_when_its_time_is_over() {
    let _namespace = Namespace::enter();
    let options = [
        "--kill-mode",
        "process",
        "--drain-timeout",
        "2s",
        "--stop-timeout",
        "60s",
    ];
    let app = Launch::new(&options).run(&[python(), script("endings/forking.py")]);
    let mut session = Echo::Lines.session();
    session.echo("it is there").expect("an echo");
    let output = app.ctl(&["reload"]).expect_code(0);
    assert!(output.took < Duration::from_secs(30), "{:?}", output.took);
    assert!(output.text().contains("1 connection of worker 0"), "{}", output.text());
    session.echo("is it there").expect_err("its process was killed");
    app.stop();
}

#[track_caller]
fn sessions_live_up_to_the_drain_timeout(echo: &Echo, command: &[String]) {
    let app = Launch::new(&["--drain-timeout", "6s"]).run(command);
    let events = Events::of(&app);

    // Sessions that end by themselves: nothing is cut, and the reload ends with the last.
    let mut sessions = [echo.session(), echo.session()];
    let old = app.status().pids();
    let reload = app.ctl_start(&["reload"]);
    app.wait_status("a new instance serves", BESIDES, |status| status.pids() != old);
    let begun = Instant::now();
    go_on(&mut sessions, begun + Duration::from_secs(2));
    sessions.into_iter().for_each(Session::end);
    let output = reload.join().expect_code(0);
    assert!(
        output.took < DRAIN_TIMEOUT,
        "the last session has ended: {:?}",
        output.took
    );
    assert!(!output.text().contains(" cut"), "{}", output.text());
    assert_eq!(app.status().worker(0).cut_total, 0, "nothing was cut");

    // One that goes on beyond the drain timeout, beside one that ends.
    let mut stays = echo.session();
    let ends = echo.session();
    let old = app.status().pids();
    let begun = Instant::now();
    let reload = app.ctl_start(&["reload"]);
    app.wait_status("a new instance serves", BESIDES, |status| status.pids() != old);
    let mut later = echo.session();
    ends.end();
    let cut = wait::poll(DRAIN_TIMEOUT + BESIDES, || {
        stays.echo("still here").is_err().then(Instant::now)
    });
    let lived = cut.expect("the session is cut in the end") - begun;
    assert!(lived >= DRAIN_TIMEOUT, "the session was cut after {lived:?}");
    let output = reload.join().expect_code(0);
    let text = output.text();
    assert!(
        text.contains("1 connection of worker 0") && text.contains(" cut"),
        "the verb says what was cut: {text}"
    );
    assert_eq!(app.status().worker(0).cut_total, 1, "the status counts it");
    assert!(
        events
            .all()
            .iter()
            .any(|event| event.worker == Some(0) && event.message.contains(" cut")),
        "an event tells it: {:#?}",
        events.all()
    );
    later.echo("new").expect("a session of the new instance goes on");
    later.end();
    app.stop();
}

/// All sessions say lines until then.
#[track_caller]
fn go_on(sessions: &mut [Session], until: Instant) {
    while Instant::now() < until {
        for session in &mut *sessions {
            let said = session.echo("still here");
            said.unwrap_or_else(|error| panic!("a session was cut before the drain timeout: {error}"));
        }
    }
}
