//! The instruments themselves, on servers that nobody steers: what the other tests conclude from is seen to work here.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reuse_tests::http::{Connection, get};
use reuse_tests::load::{Load, Mode};
use reuse_tests::websocket::{Goodbye, WebSocket};
use reuse_tests::{Namespace, PORT, SERVER, commands, kernel, wait};

const SOON: Duration = Duration::from_secs(10);

/// A server without any controller; killed on drop.
struct Server(Child);

impl Server {
    fn start(command: &[String]) -> Self {
        let child = Command::new(&command[0])
            .args(&command[1..])
            .stdout(Stdio::null())
            .spawn()
            .expect("start the server");
        wait::until("the server listens", SOON, || !kernel::listeners(PORT).is_empty());
        Self(child)
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).expect("a process id")
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).expect("signal a child of ours");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn every_server_answers_with_its_process() {
    let _namespace = Namespace::enter();
    let all = [
        commands::rust(&[]),
        commands::bun_plain(),
        commands::bun_reuse_port(&[]),
        commands::node_plain(),
        commands::node_dual_stack(),
        commands::node_graceful(),
        commands::node_websocket(),
        commands::python_asyncio(&[]),
        commands::mptcp_listener(),
    ];
    for command in all {
        let server = Server::start(&command);
        let answer = get(SERVER, None).unwrap_or_else(|failure| panic!("{command:?}: {failure}"));
        assert_eq!(answer.pid, Some(server.0.id()), "{command:?}");
        drop(server);
        wait::until("the port is free", SOON, || kernel::listeners(PORT).is_empty());
    }
}

#[test]
fn a_websocket_tells_a_close_from_an_abrupt_end() {
    for command in [commands::node_websocket(), commands::bun_reuse_port(&[])] {
        for (signal, goodbye) in [
            (Signal::SIGTERM, Goodbye::Close(1001)),
            (Signal::SIGKILL, Goodbye::Abrupt),
        ] {
            let _namespace = Namespace::enter();
            let server = Server::start(&command);
            let mut socket = WebSocket::open(SERVER, None).expect("a WebSocket");
            socket.echo("hello").expect("an echo");
            server.signal(signal);
            assert_eq!(socket.goodbye(SOON), goodbye, "{command:?} {signal}");
        }
    }
}

#[test]
fn a_stopped_server_has_a_queue_and_its_accepted_connections() {
    let _namespace = Namespace::enter();
    let server = Server::start(&commands::rust(&[]));
    let mut accepted = Connection::open(SERVER, None).expect("connect");
    accepted.get(false).expect("an answer");
    server.signal(Signal::SIGSTOP);
    wait::until("the server is stopped", SOON, || kernel::is_stopped(server.pid()));
    let _queued: Vec<_> = (0..3)
        .map(|_| Connection::open(SERVER, None).expect("connect"))
        .collect();
    assert_eq!(
        (kernel::queued(server.pid(), PORT), kernel::accepted(server.pid(), PORT)),
        (3, 1)
    );
    assert_eq!(
        kernel::listening_processes(PORT).into_iter().collect::<Vec<_>>(),
        [server.pid()]
    );
}

#[test]
fn the_load_sees_a_server_die() {
    let _namespace = Namespace::enter();
    for mode in [Mode::NewConnections, Mode::KeepAlive] {
        let server = Server::start(&commands::rust(&[]));
        let load = Load::start(SERVER, 4, mode, SOON);
        load.wait_for(100, SOON);
        drop(server);
        load.wait_for(8, SOON);
        let report = load.stop();
        assert!(report.answered >= 100 && report.failures() >= 4, "{report:?}");
    }
}

#[test]
fn keep_alive_clients_use_few_connections() {
    let _namespace = Namespace::enter();
    let _server = Server::start(&commands::rust(&[]));
    let load = Load::start(SERVER, 4, Mode::KeepAlive, SOON);
    load.wait_for(400, SOON);
    let report = load.stop();
    report.assert_nothing_failed();
    assert_eq!((report.connections, report.retried), (4, 0));
}
