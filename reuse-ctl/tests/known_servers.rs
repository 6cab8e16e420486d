//! The table of known servers, tried with the real programs: is a request answered, and half a request, when the signal comes?
//!
//! nginx and gunicorn must be there, as the set-up of the tests installs them; the others are tried where they are. Needs root, for a network
//! namespace.

#![expect(
    clippy::disallowed_methods,
    reason = "a request is in flight after some time, and nothing else tells when"
)]

use std::ffi::OsString;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::CloneFlags;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use reuse_ctl::process::known_servers::{Answer, KnownServer, find};

/// How long a slow request takes, and how long a server may take to start or to answer.
const SLOW: Duration = Duration::from_millis(1500);
const PATIENCE: Duration = Duration::from_secs(20);

/// How to run a server of the table in `folder`, on `port`.
struct Recipe {
    name: &'static str,
    program: &'static str,
    required: bool,
    /// Some versions of it finish what the row says is dropped.
    may_do_better: bool,
    arguments: fn(&Path, u16) -> Vec<String>,
}

const RECIPES: [Recipe; 10] = [
    Recipe {
        name: "nginx",
        program: "nginx",
        required: true,
        may_do_better: false,
        arguments: |folder, port| {
            let text = format!(
                "daemon off; pid nginx.pid; error_log stderr warn; worker_processes 2; events {{}}
                http {{ access_log off; client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path f; uwsgi_temp_path u;
                scgi_temp_path s; server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://127.0.0.1:{UPSTREAM}; }} }} }}"
            );
            fs::write(folder.join("nginx.conf"), text).expect("written");
            let folder = folder.to_str().expect("a plain path");
            words(&format!("-p {folder} -c {folder}/nginx.conf"))
        },
    },
    Recipe {
        name: "gunicorn",
        program: "gunicorn",
        required: true,
        may_do_better: false,
        arguments: |_, port| words(&format!("-k gthread --threads 4 -b 127.0.0.1:{port} wsgi:app")),
    },
    Recipe {
        name: "gunicorn, no class named",
        program: "gunicorn",
        required: true,
        may_do_better: false,
        arguments: |_, port| words(&format!("-b 127.0.0.1:{port} wsgi:app")),
    },
    Recipe {
        name: "HAProxy",
        program: "haproxy",
        required: false,
        may_do_better: false,
        arguments: |folder, port| {
            let text = format!(
                "defaults\n mode http\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n\
                 listen x\n bind 127.0.0.1:{port}\n server s 127.0.0.1:{UPSTREAM}\n"
            );
            fs::write(folder.join("haproxy.cfg"), text).expect("written");
            words("-W -f haproxy.cfg")
        },
    },
    Recipe {
        name: "unicorn",
        program: "unicorn",
        required: false,
        may_do_better: false,
        arguments: |_, port| words(&format!("-l 127.0.0.1:{port} ../config.ru")),
    },
    Recipe {
        name: "puma",
        program: "puma",
        required: false,
        may_do_better: false,
        arguments: |_, port| words(&format!("-b tcp://127.0.0.1:{port} ../config.ru")),
    },
    Recipe {
        name: "hypercorn",
        program: "hypercorn",
        required: false,
        may_do_better: false,
        arguments: |_, port| words(&format!("-b 127.0.0.1:{port} asgi:app")),
    },
    Recipe {
        name: "hypercorn with several workers",
        program: "hypercorn",
        required: false,
        may_do_better: true,
        arguments: |_, port| words(&format!("-w 2 -b 127.0.0.1:{port} asgi:app")),
    },
    Recipe {
        name: "daphne",
        program: "daphne",
        required: false,
        may_do_better: false,
        arguments: |_, port| words(&format!("-p {port} asgi:app")),
    },
    Recipe {
        name: "PHP's own server",
        program: "php",
        required: false,
        may_do_better: false,
        arguments: |_, port| words(&format!("-S 127.0.0.1:{port} ../slow.php")),
    },
];

/// What nginx and HAProxy pass requests on to.
const UPSTREAM: u16 = 9000;

const WSGI: &str = "
import time
def app(environ, start_response):
    if environ['PATH_INFO'] == '/slow': time.sleep(1.5)
    start_response('200 OK', [('Content-Length', '5')])
    return [b'done\\n']
";

const ASGI: &str = "
import asyncio
async def app(scope, receive, send):
    if scope['type'] == 'lifespan':
        while True:
            message = await receive()
            await send({'type': message['type'] + '.complete'})
            if message['type'] == 'lifespan.shutdown': return
    if scope['path'] == '/slow': await asyncio.sleep(1.5)
    await send({'type': 'http.response.start', 'status': 200, 'headers': [(b'content-length', b'5')]})
    await send({'type': 'http.response.body', 'body': b'done\\n'})
";

const RACK: &str = "
run lambda { |env|
  sleep 1.5 if env['PATH_INFO'] == '/slow'
  [200, { 'content-type' => 'text/plain', 'content-length' => '5' }, [\"done\\n\"]]
}
";

const PHP: &str = "<?php if ($_SERVER['REQUEST_URI'] === '/slow') { $end = microtime(true) + 1.5; \
    while (microtime(true) < $end) usleep(10000); } header('Content-Length: 5'); echo \"done\\n\";";

#[test]
fn every_signal_does_what_the_table_says() {
    nix::sched::unshare(CloneFlags::CLONE_NEWNET).expect("root");
    let up = Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status()
        .expect("ip runs");
    assert!(up.success());
    let upstream = TcpListener::bind(("127.0.0.1", UPSTREAM)).expect("an empty namespace");
    thread::spawn(move || serve_slowly(&upstream));

    let folder = Folder::new();
    for (file, text) in [
        ("wsgi.py", WSGI),
        ("asgi.py", ASGI),
        ("config.ru", RACK),
        ("slow.php", PHP),
    ] {
        fs::write(folder.0.join(file), text).expect("written");
    }
    let mut wrong = Vec::new();
    let at = &folder.0;
    thread::scope(|scope| {
        let trials: Vec<_> = RECIPES
            .iter()
            .zip(8100..)
            .map(|(recipe, port)| scope.spawn(move || recipe.try_all(at, port)))
            .collect();
        wrong.extend(trials.into_iter().flat_map(|trial| trial.join().expect("no panic")));
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

impl Recipe {
    /// What is not as the table says.
    fn try_all(&self, folder: &Path, port: u16) -> Vec<String> {
        let Some(program) = on_path(self.program) else {
            assert!(
                !self.required,
                "{} is not installed: cargo xtask test does that",
                self.program
            );
            eprintln!("not tried again, as it is not installed: {}", self.name);
            return Vec::new();
        };
        let folder = folder.join(port.to_string());
        fs::create_dir_all(&folder).expect("made");
        let mut command = vec![OsString::from(program)];
        command.extend((self.arguments)(&folder, port).into_iter().map(OsString::from));
        let server = find(&command).expect("it is in the table");
        let mut wrong = Vec::new();
        for (signal, answer) in server.signals {
            let mut expect = |what: &str, seen: bool, expected: bool| {
                eprintln!("{} {signal}: {what}: answered: {seen}", server.name);
                if seen != expected && !(seen && self.may_do_better) {
                    wrong.push(format!("{} {signal}: {what}: answered is {seen}", server.name));
                }
            };
            let (whole, half) = match answer {
                Answer::Finishes { .. } => (true, Some(true)),
                // Some answer half a request on a new connection; none of them promises it.
                Answer::FinishesRead { .. } => (true, None),
                Answer::Cuts => (false, None),
                Answer::Unknown => unreachable!("no row says so"),
            };
            let seen = in_flight(server, &command, &folder, port, *signal);
            expect("a request in flight", seen, whole);
            if let Some(half) = half {
                let seen = half_a_request(server, &command, &folder, port, *signal);
                expect("half a request", seen, half);
            }
        }
        wrong
    }
}

fn in_flight(server: &KnownServer, command: &[OsString], folder: &Path, port: u16, signal: Signal) -> bool {
    let running = Running::start(server, command, folder, port);
    let mut connection = connect(port);
    connection
        .write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n")
        .expect("sent");
    // The only way to know that a server works on a request without its help is to give it time to begin.
    thread::sleep(SLOW / 3);
    running.signal(signal);
    is_answered(&mut connection)
}

fn half_a_request(server: &KnownServer, command: &[OsString], folder: &Path, port: u16, signal: Signal) -> bool {
    let running = Running::start(server, command, folder, port);
    let mut connection = connect(port);
    connection.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n").expect("sent");
    thread::sleep(SLOW / 5);
    running.signal(signal);
    thread::sleep(SLOW / 5);
    connection.write_all(b"\r\n").is_ok() && is_answered(&mut connection)
}

/// A server; it and all that it started are killed when it is dropped.
struct Running(Child);

impl Running {
    fn start(server: &KnownServer, command: &[OsString], folder: &Path, port: u16) -> Self {
        let child = Command::new(&command[0])
            .args(&command[1..])
            .current_dir(folder)
            .env("PYTHONPATH", folder.parent().expect("it has one"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("it starts");
        let running = Self(child);
        let deadline = Instant::now() + PATIENCE;
        while !answers(port) {
            assert!(Instant::now() < deadline, "{} does not answer", server.name);
            thread::sleep(Duration::from_millis(50));
        }
        running
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.0.id()).expect("a pid"))
    }

    fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("it runs");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended.
        killpg(self.pid(), Signal::SIGKILL).ok();
        drop(self.0.wait());
    }
}

struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("reuse-ctl-known-servers-{}", std::process::id()));
        fs::create_dir_all(&path).expect("made");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

fn connect(port: u16) -> TcpStream {
    let connection = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    connection.set_read_timeout(Some(PATIENCE)).expect("not zero");
    connection
}

fn answers(port: u16) -> bool {
    let Ok(mut connection) = TcpStream::connect(("127.0.0.1", port)) else {
        return false;
    };
    drop(connection.set_read_timeout(Some(PATIENCE)));
    let asked = connection.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    asked.is_ok() && is_answered(&mut connection)
}

/// Whether the whole answer came.
fn is_answered(connection: &mut TcpStream) -> bool {
    let (mut text, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        match connection.read(&mut buffer) {
            // A call with a time limit is interrupted by any signal, handled or not.
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Ok(0) | Err(_) => return false,
            Ok(length) => text.extend_from_slice(&buffer[..length]),
        }
        if text.windows(5).any(|window| window == b"done\n") {
            return text.starts_with(b"HTTP/1.1 200");
        }
    }
}

/// HTTP, one thread for each connection.
fn serve_slowly(listener: &TcpListener) {
    for mut connection in listener.incoming().flatten() {
        thread::spawn(move || {
            let (mut text, mut buffer) = (Vec::new(), [0; 4096]);
            while let Ok(length @ 1..) = connection.read(&mut buffer) {
                text.extend_from_slice(&buffer[..length]);
                if text.ends_with(b"\r\n\r\n") {
                    if text.starts_with(b"GET /slow") {
                        thread::sleep(SLOW);
                    }
                    text.clear();
                    if connection
                        .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\ndone\n")
                        .is_err()
                    {
                        return;
                    }
                }
            }
        });
    }
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}
