//! `try`: what it says of real servers, and that nothing is left of them.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reuse_tests::app::controller_command;
use reuse_tests::heavy::Heavy;
use reuse_tests::load::{Load, Mode};
use reuse_tests::run::Output;
use reuse_tests::scratch::Scratch;
use reuse_tests::{Namespace, PORT, SERVER, binaries, commands, leftovers, run, wait};
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

/// How long a whole trial may take.
const LIMIT: Duration = Duration::from_secs(90);

/// How long a program may take to start.
const START: Duration = Duration::from_secs(20);

/// A trial as a person starts it, whose process id is written to a file: its app is named after that.
struct Trial {
    command: Command,
    scratch: Scratch,
}

impl Trial {
    fn new(options: &[&str], command: &[String]) -> Self {
        let scratch = Scratch::new();
        let program = controller_command();
        let mut shell = Command::new("/bin/sh");
        shell
            .args(["-c", "echo $$ > \"$1\"; shift; exec \"$@\"", "sh"])
            .arg(scratch.path().join("pid"))
            .arg(program.get_program())
            .arg("try")
            .args(options)
            .arg("--")
            .args(command)
            .env_remove("REUSE_APP");
        Self {
            command: shell,
            scratch,
        }
    }

    fn pid(&self) -> Option<i32> {
        let text = fs::read_to_string(self.scratch.path().join("pid")).ok()?;
        text.trim().parse().ok()
    }

    /// Runs it to its end, and looks that nothing is left.
    fn finish(&mut self) -> Output {
        let output = run::to_end(&mut self.command, LIMIT);
        self.assert_nothing_left();
        output
    }

    fn assert_nothing_left(&self) {
        let app = format!("try-{}", self.pid().expect("it was started"));
        leftovers::assert_nothing_left(&app);
        assert!(!Path::new("/var/log/reuse-ctl").join(app).exists(), "its logs are left");
    }
}

/// What `--json` says of a server that works.
fn report(options: &[&str], command: &[String]) -> Value {
    let options = [&["--json"], options].concat();
    let output = Trial::new(&options, command).finish().expect_code(0);
    leftovers::assert_port_free(PORT);
    let json: Value = serde_json::from_str(&output.stdout).expect("JSON");
    assert_eq!(json["ok"], true);
    json
}

/// What became of this connection.
fn fate<'a>(json: &'a Value, what: &str) -> &'a str {
    let clients = json["report"]["clients"].as_array().expect("a list");
    let client = clients.iter().find(|client| client["what"] == what);
    client.map_or("", |client| client["fate"]["is"].as_str().expect("a word"))
}

fn options(json: &Value) -> Vec<&Value> {
    let all = json["recommendations"].as_array().expect("a list").iter();
    all.map(|recommendation| &recommendation["option"])
        .filter(|option| **option != "--stop-when at-once")
        .collect()
}

fn node_slow(options: &[&str]) -> Vec<String> {
    let mut command = vec![binaries::node(), binaries::script("node-slow.js"), PORT.to_string()];
    command.extend(options.iter().map(|option| (*option).to_owned()));
    command
}

#[test]
fn a_plain_node_server_cuts_requests_and_needs_nothing_but_the_default() {
    let _namespace = Namespace::enter();
    let json = report(&["--slow-path", "/slow"], &node_slow(&[]));
    assert_eq!(json["cuts_requests"], true, "{json}");
    for what in ["in_flight", "half_read"] {
        assert!(["closed", "reset"].contains(&fate(&json, what)), "{what}: {json}");
    }
    assert_eq!(options(&json), Vec::<&Value>::new());
    assert_eq!(json["report"]["listeners"][0]["address"], SERVER.to_string());
    assert_eq!(json["report"]["listeners"][0]["kind"], "shared");
    assert_eq!(json["report"]["wrappers"], json!([]));
}

#[test]
fn a_node_server_that_closes_answers_everything() {
    let _namespace = Namespace::enter();
    let json = report(&["--slow-path", "/slow"], &node_slow(&["graceful"]));
    assert_eq!(json["cuts_requests"], false, "{json}");
    assert_eq!(
        (fate(&json, "in_flight"), fate(&json, "half_read")),
        ("answered", "answered")
    );
    assert_eq!(fate(&json, "idle"), "closed");
    assert_eq!(json["report"]["ending"]["how"], "exited with code 0");
    assert_eq!(options(&json), Vec::<&Value>::new());
}

#[test]
fn a_websocket_is_closed_with_its_code() {
    let _namespace = Namespace::enter();
    let json = report(&[], &commands::node_websocket());
    let clients = json["report"]["clients"].as_array().expect("a list");
    let socket = clients
        .iter()
        .find(|client| client["what"] == "web_socket")
        .expect("it is upgraded");
    assert_eq!(
        (&socket["fate"]["is"], &socket["fate"]["code"]),
        (&json!("closed_with"), &json!(1001))
    );
}

#[test]
fn nginx_is_better_told_by_another_signal() {
    let _namespace = Namespace::enter();
    let folder = Scratch::new();
    let json = report(&[], &commands::nginx_one(folder.path()));
    assert_eq!(json["cuts_requests"], true, "{json}");
    assert_eq!(options(&json), ["--stop-signal SIGQUIT"]);
    let json = report(&["--stop-signal", "QUIT"], &commands::nginx_one(folder.path()));
    assert_eq!(json["cuts_requests"], false, "{json}");
    assert_eq!(fate(&json, "half_read"), "answered");
    assert_eq!(options(&json), Vec::<&Value>::new());
}

#[test]
fn what_stands_between_is_named() {
    let _namespace = Namespace::enter();
    let folder = Scratch::new();
    let start = format!(
        "{} {} {PORT} graceful",
        binaries::node(),
        binaries::script("node-slow.js")
    );
    let package = json!({ "name": "x", "private": true, "scripts": { "start": start } });
    fs::write(folder.path().join("package.json"), package.to_string()).expect("written");
    let mut trial = Trial::new(&["--json", "--user", "root"], &["npm".to_owned(), "start".to_owned()]);
    trial.command.current_dir(folder.path());
    let output = trial.finish().expect_code(0);
    let json: Value = serde_json::from_str(&output.stdout).expect("JSON");
    let wrappers = json["report"]["wrappers"].as_array().expect("a list");
    assert!(
        wrappers
            .first()
            .is_some_and(|first| first.as_str().is_some_and(|name| name.starts_with("npm"))),
        "{json}"
    );
}

/// The shell has no handler for the signal and is gone at once, while the server goes on to answer what it has.
#[test]
fn a_server_behind_a_shell_is_judged_by_itself() {
    let _namespace = Namespace::enter();
    let line = format!("{}; true", node_slow(&["graceful"]).join(" "));
    let shell = ["/bin/sh", "-c", &line].map(str::to_owned);
    let json = report(&["--slow-path", "/slow"], &shell);
    assert_eq!(json["report"]["wrappers"].as_array().map(Vec::len), Some(1), "{json}");
    assert_eq!(json["cuts_requests"], false, "{json}");
    assert_eq!(fate(&json, "in_flight"), "answered", "{json}");
    let ending = &json["report"]["ending"];
    assert_eq!(
        (&ending["caught"], &ending["killed"]),
        (&json!(true), &json!(false)),
        "{json}"
    );
    // The slow request took that long: a second, of which less than half had passed.
    assert!(ending["took_ms"].as_u64().is_some_and(|took| took >= 500), "{json}");
    assert_eq!(json["report"]["left"]["processes"], json!([]), "{json}");
    assert_eq!(options(&json), Vec::<&Value>::new(), "{json}");
}

#[test]
fn a_person_reads_it_line_by_line() {
    let _namespace = Namespace::enter();
    let output = Trial::new(&["--slow-path", "/slow"], &node_slow(&[]))
        .finish()
        .expect_code(0);
    for line in [
        "✓ listener           127.0.0.1:8080",
        "! request in flight  ",
        "✓ left behind        nothing",
        "SIGTERM cuts off the requests that this server works on.",
        "It works under reuse-ctl, with one worker for each processor:",
        "  sudo reuse-ctl run --workers max -- ",
    ] {
        assert!(
            output.stdout.lines().any(|own| own.starts_with(line)),
            "{line:?} is missing in:\n{}",
            output.stdout
        );
    }
}

#[test]
fn a_server_that_never_listens_is_ended_in_time() {
    let _namespace = Namespace::enter();
    let sleeps = ["sleep", "1000"].map(str::to_owned);
    Trial::new(&["--ready-timeout", "2s"], &sleeps)
        .finish()
        .expect_code(1)
        .expect_complaint(&["never got ready"]);
    let fails = ["sh", "-c", "echo it is broken >&2; exit 3"].map(str::to_owned);
    let output = Trial::new(&[], &fails).finish().expect_code(1);
    assert!(
        output.stderr.contains("exited with code 3") && output.stderr.contains("it is broken"),
        "{}",
        output.stderr
    );
}

#[test]
fn a_port_that_is_taken_is_refused() {
    let _namespace = Namespace::enter();
    let _taken = TcpListener::bind(SERVER).expect("free before");
    let port = PORT.to_string();
    Trial::new(&["--port", &port], &node_slow(&[]))
        .finish()
        .expect_code(1)
        .expect_complaint(&["another process listens on 127.0.0.1:8080 already"]);
    let output = Trial::new(&["--json"], &node_slow(&[])).finish().expect_code(1);
    let json: Value = serde_json::from_str(&output.stdout).expect("JSON");
    assert!(
        json["error"]
            .as_str()
            .is_some_and(|error| error.contains("is in use by process")),
        "{json}"
    );
}

/// A server that somebody else runs, with SO_REUSEPORT: the kernel would let a trial of the same user listen beside it.
struct Live {
    listener: Socket,
    load: Load,
}

impl Live {
    fn start() -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        listener.set_reuse_port(true).expect("SO_REUSEPORT");
        listener.bind(&SERVER.into()).expect("the address is free");
        listener.listen(1024).expect("listen");
        let own: TcpListener = listener.try_clone().expect("a duplicate").into();
        thread::spawn(move || {
            // As long as the listener is open.
            for mut stream in own.incoming().map_while(Result::ok) {
                thread::spawn(move || answer(&mut stream));
            }
        });
        let pause = Duration::from_millis(5);
        let load = Load::start_with_pause(SERVER, 16, Mode::NewConnections, LIMIT, pause);
        load.wait_for(200, START);
        Self { listener, load }
    }

    /// It got every connection and answered it, and no program decides about its connections.
    #[track_caller]
    fn assert_undisturbed(self) {
        self.load.wait_for(200, START);
        assert_eq!(
            detach_program(&self.listener),
            Err(Errno::ENOENT),
            "a program is attached"
        );
        let report = self.load.stop();
        report.assert_nothing_failed();
        let own = report.by_pid.get(&std::process::id()).copied();
        assert_eq!(own, Some(report.answered), "{:?}", report.by_pid);
        self.listener.shutdown(Shutdown::Both).expect("end of its thread");
    }
}

fn answer(stream: &mut TcpStream) {
    let body = format!("- {}\n", std::process::id());
    let mut request = [0; 4096];
    // One request, which comes at once; a client that has gone needs no answer.
    if stream.read(&mut request).is_ok_and(|length| length > 0) {
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        );
        drop(stream.write_all((head + &body).as_bytes()));
    }
}

/// Takes the program of the listener's group away, if there is one.
fn detach_program(listener: &Socket) -> Result<(), Errno> {
    let none = 0_i32;
    // SAFETY: the option's value is a live int of the length that is given.
    let done = unsafe {
        libc::setsockopt(
            listener.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_DETACH_REUSEPORT_BPF,
            (&raw const none).cast(),
            4,
        )
    };
    Errno::result(done).map(drop)
}

#[test]
fn a_live_server_that_shares_its_port_is_not_disturbed() {
    let _turn = Heavy::turn();
    let _namespace = Namespace::enter();
    for command in [node_slow(&[]), commands::rust(&["--reuse-port"])] {
        let live = Live::start();
        let said = format!("{SERVER} is in use by process {} ", std::process::id());
        let output = Trial::new(&[], &command).finish().expect_code(1);
        live.assert_undisturbed();
        output.expect_complaint(&[&said]);
    }
}

#[test]
fn ctrl_c_leaves_nothing_behind() {
    let _namespace = Namespace::enter();
    let mut trial = Trial::new(&[], &["sleep".to_owned(), "1000".to_owned()]);
    let mut child = trial.command.spawn().expect("it starts");
    let socket = wait::poll(START, || {
        let app = format!("try-{}", trial.pid()?);
        leftovers::run_folder(&app).join("control.sock").exists().then_some(())
    });
    assert!(socket.is_some(), "its controller never got so far");
    kill(Pid::from_raw(trial.pid().expect("it was started")), Signal::SIGINT).expect("it runs");
    let ended = wait::poll(START, || child.try_wait().expect("a child of ours"));
    assert_eq!(ended.and_then(|status| status.code()), Some(1));
    trial.assert_nothing_left();
}

#[test]
fn usage_is_told_apart() {
    let output = run::to_end(controller_command().args(["try"]), LIMIT).expect_code(2);
    assert!(output.stderr.contains("reuse-ctl"), "{}", output.stderr);
    let wrong = ["try", "--path", "x", "--", "true"];
    run::to_end(controller_command().args(wrong), LIMIT)
        .expect_code(2)
        .expect_complaint(&["has no slash"]);
}
