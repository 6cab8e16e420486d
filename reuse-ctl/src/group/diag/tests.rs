//! Run on the real kernel, with sockets of this process.

use super::*;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, Instant};

use crate::group::discover::{AcceptQueue, accept_queue, cookie_of};
use crate::process::cgroup::AppCgroup;

fn of(diag: &mut Diag, cookie: u64) -> Option<Listener> {
    diag.listeners()
        .expect("a dump")
        .into_iter()
        .find(|listener| listener.cookie == cookie)
}

#[test]
fn queue_and_backlog_are_seen_from_outside_and_from_the_socket() {
    let mut diag = Diag::new().expect("inet_diag");
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("socket");
    let any: SocketAddr = "127.0.0.1:0".parse().expect("address");
    socket.bind(&any.into()).expect("bound");
    socket.listen(7).expect("listens");
    let server = TcpListener::from(socket);
    let addr = server.local_addr().expect("bound");
    let clients: Vec<TcpStream> = (0..3).map(|_| TcpStream::connect(addr).expect("connected")).collect();

    let cookie = cookie_of(server.as_fd()).expect("a cookie");
    let seen = of(&mut diag, cookie).expect("in the list");
    assert_eq!(
        (seen.addr, seen.queue, seen.backlog, seen.uid, seen.v6only),
        (addr, 3, 7, 0, None)
    );
    let inode = std::fs::metadata(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&server)));
    assert_eq!(u64::from(seen.inode), inode.expect("open").ino());
    assert_eq!(
        accept_queue(server.as_fd()).expect("TCP_INFO"),
        AcceptQueue { length: 3, backlog: 7 }
    );

    drop(server.accept().expect("one waits"));
    assert_eq!(of(&mut diag, cookie).expect("in the list").queue, 2);
    assert_eq!(diag.listeners_on(addr.port()).expect("a dump").len(), 1);
    drop(clients);
    drop(server);
    assert_eq!(of(&mut diag, cookie), None);
}

#[test]
fn dual_stack_and_v6only_are_told_apart() {
    let mut diag = Diag::new().expect("inet_diag");
    for only in [true, false] {
        let socket = socket2::Socket::new(socket2::Domain::IPV6, socket2::Type::STREAM, None).expect("socket");
        socket.set_only_v6(only).expect("set");
        let any: SocketAddr = "[::]:0".parse().expect("address");
        socket.bind(&any.into()).expect("bound");
        socket.listen(1).expect("listens");
        let seen = of(&mut diag, cookie_of(socket.as_fd()).expect("a cookie")).expect("in the list");
        assert_eq!(seen.v6only, Some(only));
        assert!(seen.addr.is_ipv6() && seen.addr.ip().is_unspecified());
    }
}

#[test]
fn the_cgroup_says_whose_it_is() {
    let mut diag = Diag::new().expect("inet_diag");
    let app = AppCgroup::create(&format!("test-{}-diag", std::process::id())).expect("root");
    let instance = app
        .instance(crate::base::SlotId(0), crate::base::InstanceId(0))
        .expect("made");
    let script = format!(
        "echo 0 > {}/cgroup.procs; exec /usr/bin/python3 -uc '\n\
         import socket,time\ns=socket.create_server((\"127.0.0.1\",0))\nprint(s.getsockname()[1])\ntime.sleep(600)'",
        instance.path().display()
    );
    let mut child = std::process::Command::new("/bin/sh")
        .args(["-c", &script])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("sh runs");
    let mut port = String::new();
    let stdout = child.stdout.take().expect("piped");
    io::BufRead::read_line(&mut io::BufReader::new(stdout), &mut port).expect("says its port");
    let seen = diag.listeners_on(port.trim().parse().expect("a port")).expect("a dump");
    child.kill().expect("ours");
    child.wait().expect("ours");
    let id = instance.id();
    app.remove().expect("removed");
    assert_eq!(
        seen.iter().map(|listener| listener.cgroup).collect::<Vec<_>>(),
        [Some(id)]
    );
}

#[test]
fn an_mptcp_listener_is_left_out() {
    let mut diag = Diag::new().expect("inet_diag");
    let mptcp = socket2::Protocol::from(libc::IPPROTO_MPTCP);
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, Some(mptcp)).expect("MPTCP");
    let any: SocketAddr = "127.0.0.1:0".parse().expect("address");
    socket.bind(&any.into()).expect("bound");
    socket.listen(1).expect("listens");
    let port = socket.local_addr().expect("bound").as_socket().expect("inet").port();
    let raw = diag.queues(Family::V4, port).expect("a dump");
    assert_eq!(raw.len(), 1, "the kernel shows its inner TCP socket");
    assert_eq!(diag.listeners_on(port).expect("a dump"), []);
}

/// Makes connections stay in SYN_RECV until their first byte.
fn defer_accept(server: &TcpListener) {
    let seconds: libc::c_int = 30;
    // SAFETY: an open socket, and an int with its size.
    let code = unsafe {
        libc::setsockopt(
            std::os::fd::AsRawFd::as_raw_fd(server),
            libc::IPPROTO_TCP,
            libc::TCP_DEFER_ACCEPT,
            (&raw const seconds).cast(),
            libc::socklen_t::try_from(size_of_val(&seconds)).expect("small"),
        )
    };
    assert_eq!(code, 0);
}

#[test]
fn handshakes_are_counted_by_local_address() {
    let mut diag = Diag::new().expect("inet_diag");
    let server = TcpListener::bind("[::]:0").expect("bound");
    let port = server.local_addr().expect("bound").port();
    defer_accept(&server);
    let hosts = ["127.0.0.1", "127.0.0.1", "::1"];
    let clients: Vec<TcpStream> = hosts
        .iter()
        .map(|host| TcpStream::connect((*host, port)).expect("connected"))
        .collect();
    let expected = |host: &str, count: u32| (SocketAddr::new(host.parse().expect("address"), port), count);
    let counts = diag.handshakes(port).expect("a dump");
    assert_eq!(counts, HashMap::from([expected("127.0.0.1", 2), expected("::1", 1)]));
    io::Write::write_all(&mut &clients[2], b"x").expect("sent");
    drop(server.accept().expect("established by its first byte"));
    assert_eq!(
        diag.handshakes(port).expect("a dump"),
        HashMap::from([expected("127.0.0.1", 2)])
    );
}

/// Enough listeners for several messages of 32 KiB.
#[test]
fn long_answers_come_in_parts() {
    let mut diag = Diag::new().expect("inet_diag");
    let servers: Vec<TcpListener> = (0..600)
        .map(|_| TcpListener::bind("127.0.0.1:0").expect("bound"))
        .collect();
    let began = Instant::now();
    let seen = diag.listeners().expect("a dump");
    let took = began.elapsed();
    for server in &servers {
        let cookie = cookie_of(server.as_fd()).expect("a cookie");
        assert_eq!(seen.iter().filter(|listener| listener.cookie == cookie).count(), 1);
    }
    assert!(took < Duration::from_millis(200), "{took:?}");
}

/// A connection from the SYN to its end, seen from outside.
#[test]
fn the_servers_end_is_seen_to_queue_and_to_be_accepted() {
    let mut diag = Diag::new().expect("inet_diag");
    for listen in ["127.0.0.1:0", "[::1]:0"] {
        let server = TcpListener::bind(listen).expect("bound");
        let addr = server.local_addr().expect("bound");
        defer_accept(&server);
        let client = TcpStream::connect(addr).expect("connected");
        let local = client.local_addr().expect("bound");
        let mut side = || diag.server_side(addr, local).expect("an answer");
        assert_eq!(side(), ServerSide::Handshake);
        io::Write::write_all(&mut &client, b"x").expect("sent");
        assert_eq!(side(), ServerSide::Queued);
        let (accepted, _) = server.accept().expect("one waits");
        assert_eq!(side(), ServerSide::Accepted);
        drop(accepted);
        assert_eq!(side(), ServerSide::Gone);
    }
}

#[test]
fn queues_are_seen_without_the_rest() {
    let mut diag = Diag::new().expect("inet_diag");
    for listen in ["127.0.0.1:0", "[::]:0"] {
        let server = TcpListener::bind(listen).expect("bound");
        let addr = server.local_addr().expect("bound");
        let client = TcpStream::connect((if addr.is_ipv4() { "127.0.0.1" } else { "::1" }, addr.port()));
        let cookie = cookie_of(server.as_fd()).expect("a cookie");
        let [seen] = diag.queues(Family::of(addr), addr.port()).expect("a dump")[..] else {
            panic!("one listener on {addr}");
        };
        assert_eq!(seen, Queue { cookie, addr, queue: 1 });
        drop(client);
    }
}
