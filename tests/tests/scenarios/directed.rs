//! One request to one worker behind the shared port, and nobody else's.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use reuse_tests::app::controller_command;
use reuse_tests::http::Connection;
use reuse_tests::leftovers::pin_folder;
use reuse_tests::reconcile::reconcile;
use reuse_tests::scratch::Scratch;
use reuse_tests::{App, Namespace, PORT, SERVER, commands, run, wait};
use socket2::{Domain, Protocol, Socket, Type};

const SOON: Duration = Duration::from_secs(10);

/// A port can't be used again with the same peer for a minute after its connection has ended.
const PORT_IS_FREE_AGAIN: Duration = Duration::from_secs(75);

#[test]
fn it_reaches_exactly_its_worker_a_drained_one_too() {
    let _namespace = Namespace::enter();
    let app = App::run(
        &["--workers", "4", "--policy", "round-robin"],
        &commands::rust(&["--label", "hello"]),
    );
    app.ctl(&["drain", "2"]).expect_code(0);
    let status = app.status();
    for _ in 0..5 {
        for slot in 0..4 {
            let output = app.ctl(&["get", &slot.to_string(), "/"]).expect_code(0);
            assert_eq!(output.stdout, format!("{slot} {} hello\n", status.pid_of(slot)));
            assert_eq!(output.stderr, "");
        }
    }
    let after = reconcile(&app, 0);
    assert_eq!(after.verdicts().directed, 20);
    assert_eq!(after.states(), status.states());
    app.stop();
}

#[test]
fn an_error_is_printed_and_fails() {
    let _namespace = Namespace::enter();
    let scratch = Scratch::new();
    let app = App::run(&["--workers", "2"], &commands::python_http_server(scratch.path()));
    let output = app.ctl(&["get", "1", "/nowhere"]).expect_code(1);
    assert!(output.stdout.contains("File not found"), "{}", output.stdout);
    output.expect_complaint(&["worker 1 answered 404"]);
    app.stop();
}

#[test]
fn the_body_comes_as_it_is() {
    let _namespace = Namespace::enter();
    let scratch = Scratch::new();
    // More than one buffer, and no text.
    let bytes: Vec<u8> = (0..1_000_000_u32).map(|n| (n * 7 / 3) as u8).collect();
    fs::write(scratch.path().join("blob"), &bytes).expect("write a file");
    let app = App::run(&["--workers", "2"], &commands::python_http_server(scratch.path()));
    let copy = scratch.path().join("copy");
    let inner = controller_command();
    let mut redirected = Command::new("sh");
    redirected
        .args(["-c", "exec \"$@\" > \"$COPY\"", "sh"])
        .env("COPY", &copy);
    redirected
        .arg(inner.get_program())
        .args(["get", "0", "/blob", "--app", app.name()]);
    run::to_end(&mut redirected, SOON).expect_code(0);
    assert!(fs::read(&copy).expect("the copy") == bytes, "the copy differs");
    app.stop();
}

#[test]
fn a_worker_that_does_not_answer_is_given_up() {
    let _namespace = Namespace::enter();
    let app = App::run(&["--workers", "1"], &commands::rust(&["--hang"]));
    let output = app.ctl(&["get", "0", "/", "--timeout", "500ms"]).expect_code(4);
    assert!(output.took < SOON, "{:?}", output.took);
    output.expect_complaint(&["worker 0"]);
    app.ctl(&["stop", "--timeout", "0s"]);
}

#[test]
fn a_stranger_can_not_write_who_is_directed_where() {
    let _namespace = Namespace::enter();
    let app = App::run(&["--workers", "2"], &commands::rust(&[]));
    let map = pin_folder(app.name()).join("DIRECTED");
    open_pinned(&map).expect("root opens it: it is there, and this is how");
    let error = as_a_stranger(|| open_pinned(&map)).expect_err("a stranger does not");
    assert!(
        matches!(error.raw_os_error(), Some(libc::EACCES | libc::EPERM)),
        "{error}"
    );
    app.stop();
}

#[test]
fn a_stranger_can_not_have_the_controllers_port_and_nobody_is_directed_afterwards() {
    let _namespace = Namespace::enter();
    let app = App::run(
        &["--workers", "4", "--policy", "least-loaded"],
        &commands::rust(&["--slow-ms", "1500"]),
    );
    app.ctl(&["drain", "2"]).expect_code(0);
    let get = app.ctl_start(&["get", "2", "/"]);
    let port = wait::until_some("the directed connection is there", SOON, || {
        clients_of(PORT).first().copied()
    });
    let own = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
    let anywhere = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port);
    for at in [own, anywhere] {
        for options in [&[][..], &[libc::SO_REUSEADDR], &[libc::SO_REUSEPORT]] {
            let error = as_a_stranger(|| bound(at, options)).expect_err("the port is the controller's");
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{at} {options:?}");
        }
    }
    // The same port at another address is another client.
    let elsewhere = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)), port);
    let slot = as_a_stranger(|| slot_from(elsewhere)).expect("an answer");
    assert_ne!(slot, 2, "a drained worker was chosen for {elsewhere}");
    let output = get.join().expect_code(0);
    assert!(output.stdout.starts_with("2 "), "{}", output.stdout);

    let directed = app.status().verdicts().directed;
    let slot = wait::until_some("the port can be used again", PORT_IS_FREE_AGAIN, || {
        as_a_stranger(|| slot_from(own))
    });
    assert_ne!(slot, 2, "a drained worker was chosen for a port that had been directed");
    assert_eq!(app.status().verdicts().directed, directed);
    app.stop();
}

/// Which worker answers a connection from `from`; `None` if it can't be made.
fn slot_from(from: SocketAddr) -> Option<u16> {
    let mut connection = Connection::open(SERVER, Some(from)).ok()?;
    connection.get(true).expect("an answer").slot
}

fn bound(at: SocketAddr, options: &[libc::c_int]) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    for option in options {
        match *option {
            libc::SO_REUSEADDR => socket.set_reuse_address(true)?,
            _ => socket.set_reuse_port(true)?,
        }
    }
    socket.bind(&at.into())?;
    Ok(socket)
}

/// The local ports of the established connections to `port`, in the calling thread's network namespace.
fn clients_of(port: u16) -> Vec<u16> {
    const ESTABLISHED: &str = "01";
    let table = fs::read_to_string("/proc/thread-self/net/tcp").expect("the kernel's sockets");
    let of = |address: &str| u16::from_str_radix(address.rsplit_once(':')?.1, 16).ok();
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<_> = line.split_whitespace().collect();
            let is_client = of(fields.get(2)?)? == port && *fields.get(3)? == ESTABLISHED;
            is_client.then(|| of(fields[1])).flatten()
        })
        .collect()
}

/// What `act` finds when it is done with the rights of the user nobody, who can do nothing here.
fn as_a_stranger<T: Send>(act: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let stranger = scope.spawn(|| {
            become_nobody();
            act()
        });
        stranger.join().expect("the stranger does not panic")
    })
}

/// Only the calling thread: the library's functions would change all threads of the process.
fn become_nobody() {
    const NOBODY: libc::c_long = 65534;
    for call in [libc::SYS_setresgid, libc::SYS_setresuid] {
        // SAFETY: these system calls take numbers only, and change the credentials of the calling thread, which ends soon.
        let result = unsafe { libc::syscall(call, NOBODY, NOBODY, NOBODY) };
        assert_eq!(result, 0, "{}", io::Error::last_os_error());
    }
}

/// `bpf(BPF_OBJ_GET)`.
fn open_pinned(path: &Path) -> io::Result<std::os::fd::OwnedFd> {
    use std::os::fd::FromRawFd as _;
    use std::os::unix::ffi::OsStrExt as _;
    const BPF_OBJ_GET: libc::c_long = 7;
    #[repr(C)]
    struct Attributes {
        path: u64,
        descriptor: u32,
        flags: u32,
    }
    let path = std::ffi::CString::new(path.as_os_str().as_bytes()).expect("no NUL in a path");
    let attributes = Attributes {
        path: path.as_ptr().addr() as u64,
        descriptor: 0,
        flags: 0,
    };
    // SAFETY: the attributes are laid out as `union bpf_attr` has them for this command, their size is passed along, and they and
    // the path outlive the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_OBJ_GET,
            &raw const attributes,
            size_of::<Attributes>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let descriptor = i32::try_from(result).expect("a descriptor");
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { std::os::fd::OwnedFd::from_raw_fd(descriptor) })
}
