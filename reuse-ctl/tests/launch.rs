//! The launch shim on the real kernel: what a worker is, has and may do. Needs root and cgroup v2.

use std::collections::HashMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sched::CloneFlags;
use nix::sys::signal::Signal;
use reuse_ctl::base::{self, Exit, InstanceId, SlotId};
use reuse_ctl::group::diag::{Diag, Listener};
use reuse_ctl::group::discover;
use reuse_ctl::process::cgroup::{AppCgroup, InstanceCgroup};
use reuse_ctl::process::identity::Identity;
use reuse_ctl::process::launch::{LAUNCH_VERB, LaunchSpec, Launcher, Output, Running, SpawnError, Step, exit_of};
use reuse_ctl::process::logs;

const NOBODY: u32 = 65534;
const PATIENCE: Duration = Duration::from_secs(10);

/// An app with one instance; nothing of it is left afterwards.
struct Stage {
    app: AppCgroup,
    instance: InstanceCgroup,
    folder: PathBuf,
}

impl Stage {
    fn new(name: &str) -> Self {
        let app = AppCgroup::create(&format!("launch-{}-{name}", std::process::id())).expect("root and cgroup v2");
        let instance = app.instance(SlotId(0), InstanceId(1)).expect("made");
        let folder = std::env::temp_dir().join(format!("reuse-ctl-launch-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).expect("made");
        Self { app, instance, folder }
    }

    fn spec(&self, program: &str, args: &[&str]) -> LaunchSpec {
        LaunchSpec {
            app: "shop".into(),
            slot: 0,
            program: program.into(),
            args: std::iter::once(program)
                .chain(args.iter().copied())
                .map(Into::into)
                .collect(),
            cwd: "/".into(),
            path_prefix: Vec::new(),
            cgroup: self.instance.path().to_owned(),
            output: Output::Files {
                out: self.log(),
                err: self.err_log(),
            },
            identity: Identity::decide(Some("nobody"), |_| None).expect("every Linux has nobody"),
            listen: Vec::new(),
            descriptors: Some(177),
            variables: Vec::new(),
        }
    }

    fn python(&self, script: &str) -> LaunchSpec {
        self.spec("/usr/bin/python3", &["-uc", script])
    }

    fn log(&self) -> PathBuf {
        self.folder.join("logs/worker-0.log")
    }

    fn err_log(&self) -> PathBuf {
        self.folder.join("logs/worker-0.err.log")
    }

    async fn line(&self) -> String {
        let mut follower = logs::Follower::new(self.log(), 0);
        let lines = tokio::time::timeout(PATIENCE, follower.next())
            .await
            .expect("the worker says something");
        lines.expect("readable").swap_remove(0)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.app.kill().expect("killed");
        let deadline = Instant::now() + PATIENCE;
        while !self.instance.is_empty().expect("readable") && Instant::now() < deadline {
            #[expect(clippy::disallowed_methods, reason = "it looks at a condition until a deadline")]
            std::thread::sleep(Duration::from_millis(1));
        }
        self.app.remove().expect("removed");
        fs::remove_dir_all(&self.folder).expect("removed");
    }
}

fn launcher() -> Launcher {
    Launcher {
        program: env!("CARGO_BIN_EXE_reuse-ctl").into(),
        args: vec![LAUNCH_VERB.into()],
    }
}

/// A channel of whose other end nothing is wanted.
fn channel() -> OwnedFd {
    UnixStream::pair().expect("a socket pair").1.into()
}

async fn spawn(spec: &LaunchSpec) -> Running {
    launcher()
        .spawn(spec, channel())
        .await
        .unwrap_or_else(|error| panic!("{error}; {}", error.hint()))
}

async fn failure(spec: &LaunchSpec) -> (Step, String) {
    match launcher().spawn(spec, channel()).await {
        Err(SpawnError::Launch(failure)) => (failure.step, failure.to_string()),
        other => panic!("expected a failed step, not {other:?}"),
    }
}

fn status(pid: u32) -> HashMap<String, String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("alive");
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.into(), value.trim().into()))
        .collect()
}

/// A network namespace with only a loopback, for this thread.
fn enter_own_network() {
    nix::sched::unshare(CloneFlags::CLONE_NEWNET).expect("root");
    let status = std::process::Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status()
        .expect("ip runs");
    assert!(status.success());
}

#[tokio::test]
async fn a_worker_is_unprivileged_and_alone() {
    let stage = Stage::new("user");
    let running = spawn(&stage.python("print('up')\nimport time\ntime.sleep(600)")).await;
    assert_eq!(stage.line().await, "up");
    assert_eq!(stage.instance.pids().expect("readable"), [running.pid]);
    let status = status(running.pid);
    let ids = format!("{NOBODY}\t{NOBODY}\t{NOBODY}\t{NOBODY}");
    assert_eq!((&status["Uid"], &status["Gid"]), (&ids, &ids));
    assert_eq!(status["Groups"], NOBODY.to_string());
    let only_bind_service = format!("{:016x}", 1 << 10);
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(status[set], only_bind_service, "{set}");
    }
    assert_eq!(status["NoNewPrivs"], "0");
    // Python itself ignores SIGPIPE and SIGXFSZ, and catches SIGINT.
    assert_eq!(
        (status["SigBlk"].as_str(), status["SigCgt"].as_str()),
        ("0000000000000000", "0000000000000002")
    );
    let pid = i32::try_from(running.pid).expect("small");
    assert_eq!(
        nix::unistd::getpgid(Some(nix::unistd::Pid::from_raw(pid)))
            .expect("alive")
            .as_raw(),
        pid
    );

    let mut descriptors: Vec<(i32, String)> = fs::read_dir(format!("/proc/{pid}/fd"))
        .expect("alive")
        .flatten()
        .map(|entry| {
            let number = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok())
                .expect("a number");
            (number, fs::read_link(entry.path()).expect("open").display().to_string())
        })
        .collect();
    descriptors.sort();
    let (log, err_log) = (stage.log().display().to_string(), stage.err_log().display().to_string());
    let (number, channel) = descriptors.pop().expect("the channel");
    assert!(number == 100 && channel.starts_with("socket:"), "{number} {channel}");
    assert_eq!(descriptors, [(0, "/dev/null".into()), (1, log), (2, err_log)]);
    assert_eq!(fs::metadata(stage.log()).expect("there").uid(), NOBODY);
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).expect("alive");
    let open_files = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .expect("there");
    assert_eq!(open_files.split_whitespace().nth(3), Some("177"), "{open_files}");

    assert!(running.signal(Signal::SIGTERM).expect("ours"));
    let Running { mut child, handle, .. } = running;
    assert_eq!(
        exit_of(child.wait().await.expect("ours")),
        killed_by(libc::SIGTERM, "SIGTERM")
    );
    assert!(!handle.signal(Signal::SIGTERM).expect("no error when it is gone"));
}

#[tokio::test]
async fn signals_that_the_caller_ignores_are_reset() {
    let stage = Stage::new("signals");
    // As every Rust program, this one ignores SIGPIPE, and so does the shim at first; the shell shows what it was given.
    let running = spawn(&stage.spec("/bin/sh", &["-c", "grep SigIgn /proc/$$/status; sleep 600"])).await;
    let line = stage.line().await;
    let ignored = u64::from_str_radix(line.trim_start_matches("SigIgn:").trim(), 16).expect("a mask");
    // 32 and 33 belong to the C library, which lets nobody touch them.
    assert_eq!(ignored & !(0b11 << 31), 0, "{line}");
    drop(running);
}

#[tokio::test]
async fn nobody_binds_port_80_itself_and_by_inheritance() {
    let stage = Stage::new("port80");
    enter_own_network();
    let script = "import os,socket,time\n\
        inherited=socket.socket(fileno=3)\n\
        own=socket.socket()\nown.setsockopt(socket.SOL_SOCKET,socket.SO_REUSEPORT,1)\nown.bind(('0.0.0.0',80))\nown.listen(5)\n\
        E=os.environ\n\
        print(E['LISTEN_FDS'],int(E['LISTEN_PID'])==os.getpid(),E['LISTEN_FDNAMES'],*inherited.getsockname()[:2])\n\
        second=socket.socket(fileno=4)\nc,_=second.accept()\nc.sendall(b'hello')\nc.close()\ntime.sleep(600)";
    let listen: Vec<SocketAddr> = vec![
        "0.0.0.0:80".parse().expect("address"),
        "[::]:443".parse().expect("address"),
    ];
    let running = spawn(&LaunchSpec {
        listen,
        ..stage.python(script)
    })
    .await;
    assert_eq!(stage.line().await, "2 True tcp-80:tcp-443 0.0.0.0 80");

    let mut said = String::new();
    let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, 443)).expect("the [::] listener is dual-stack");
    client.read_to_string(&mut said).expect("answers");
    assert_eq!(said, "hello");

    let listeners = Diag::new().expect("inet_diag").listeners().expect("a dump");
    assert_eq!(listeners.len(), 3, "two on port 80, one on 443: {listeners:?}");
    for listener in &listeners {
        assert_eq!(
            (listener.uid, listener.cgroup),
            (NOBODY, Some(stage.instance.id())),
            "{listener:?}"
        );
    }
    let dual = listeners
        .iter()
        .find(|listener| listener.addr.port() == 443)
        .expect("there");
    assert_eq!((dual.v6only, dual.backlog), (Some(false), 4096));
    drop(running);
}

#[tokio::test]
async fn the_channel_is_where_the_environment_says_behind_all_listeners() {
    let stage = Stage::new("channel");
    enter_own_network();
    let script = "import os,socket\n\
        channel=socket.socket(fileno=int(os.environ['NODE_CHANNEL_FD']))\n\
        channel.sendall(channel.recv(100)+b' '+os.environ['NODE_CHANNEL_FD'].encode()+b' '+str(os.get_blocking(channel.fileno())).encode())";
    for (listeners, number) in [(0_u16, 100), (1, 100), (98, 102)] {
        let listen = (0..listeners)
            .map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, 8000 + port)))
            .collect();
        let (mut ours, theirs) = UnixStream::pair().expect("a socket pair");
        let spec = LaunchSpec {
            listen,
            ..stage.python(script)
        };
        let running = launcher().spawn(&spec, theirs.into()).await.expect("started");
        ours.write_all(b"hello").expect("room");
        let mut said = String::new();
        ours.read_to_string(&mut said).expect("text, and the end");
        assert_eq!(said, format!("hello {number} True"));
        let Running { mut child, .. } = running;
        assert_eq!(exit_of(child.wait().await.expect("ours")), Exit::Code(0));
    }
}

#[tokio::test]
async fn the_queue_of_an_inherited_listener_is_seen_and_the_listener_found_in_a_grandchild() {
    let stage = Stage::new("grandchild");
    enter_own_network();
    // The main process closes its copy, so that only the grandchild has it.
    let script = "sleep 600 & exec 3<&-; echo ready; wait";
    let listen = vec!["127.0.0.1:8080".parse().expect("address")];
    let running = spawn(&LaunchSpec {
        listen,
        ..stage.spec("/bin/sh", &["-c", script])
    })
    .await;
    assert_eq!(stage.line().await, "ready");
    let clients: Vec<TcpStream> = (0..3)
        .map(|_| TcpStream::connect((Ipv4Addr::LOCALHOST, 8080)).expect("connected"))
        .collect();

    let mut diag = Diag::new().expect("inet_diag");
    let found: Vec<Listener> = diag.listeners_on(8080).expect("a dump");
    assert_eq!(
        found
            .iter()
            .map(|listener| (listener.queue, listener.backlog))
            .collect::<Vec<_>>(),
        [(3, 4096)]
    );
    let pids = stage.instance.pids().expect("readable");
    assert_eq!(pids.len(), 2);
    let duplicate = discover::duplicate_listener(&pids, found[0].cookie, Some(found[0].inode));
    let duplicate = duplicate.expect("root may").expect("the grandchild has it");
    assert_eq!(discover::listener_queue(duplicate.as_fd()).expect("TCP_INFO"), 3);
    drop(duplicate);
    let (owner, _) = discover::owner_of_inode(found[0].inode).expect("someone");
    assert!(owner != running.pid && pids.contains(&owner));

    let Running { mut child, .. } = running;
    stage.instance.kill().expect("killed");
    assert_eq!(
        exit_of(child.wait().await.expect("ours")),
        killed_by(libc::SIGKILL, "SIGKILL")
    );
    stage.instance.wait_empty(PATIENCE).await.expect("the grandchild too");
    assert_eq!(diag.listeners_on(8080).expect("a dump"), []);
    drop(clients);
}

#[tokio::test]
async fn what_fails_is_said_through_the_pipe_and_leaves_nothing() {
    let stage = Stage::new("failures");
    enter_own_network();
    let missing = stage.spec("/none/such", &[]);
    assert_eq!(
        failure(&missing).await,
        (Step::Exec, "running /none/such: No such file or directory".into())
    );

    let script = stage.folder.join("script");
    let mut file = fs::File::create(&script).expect("made");
    file.write_all(b"#!/no/interpreter\n").expect("written");
    drop(file);
    let script = script.to_str().expect("ascii");
    assert_eq!(
        failure(&stage.spec(script, &[])).await,
        (Step::Exec, format!("running {script}: Permission denied"))
    );
    fs::set_permissions(script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("ours");
    assert_eq!(
        failure(&stage.spec(script, &[])).await,
        (Step::Exec, format!("running {script}: No such file or directory"))
    );

    let no_cwd = LaunchSpec {
        cwd: "/none".into(),
        ..stage.spec("/bin/true", &[])
    };
    assert_eq!(failure(&no_cwd).await.0, Step::Directory);
    let no_cgroup = LaunchSpec {
        cgroup: "/none".into(),
        ..stage.spec("/bin/true", &[])
    };
    assert!(matches!(
        launcher().spawn(&no_cgroup, channel()).await,
        Err(SpawnError::Shim { .. })
    ));
    let no_log = LaunchSpec {
        output: Output::Files {
            out: stage.log(),
            err: "/proc/none/log".into(),
        },
        ..stage.spec("/bin/true", &[])
    };
    assert_eq!(failure(&no_log).await.0, Step::Log);

    // Root's listener on the port: another uid may not share it.
    let taken = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 8081)).expect("bound");
    let listen = vec![taken.local_addr().expect("bound")];
    let (step, words) = failure(&LaunchSpec {
        listen,
        ..stage.spec("/bin/true", &[])
    })
    .await;
    assert_eq!(
        (step, words.as_str()),
        (Step::Listen, "listening on 127.0.0.1:8081: Address already in use")
    );

    assert!(stage.instance.is_empty().expect("readable"));
    let no_shim = Launcher {
        program: "/none".into(),
        args: Vec::new(),
    }
    .spawn(&stage.spec("/bin/true", &[]), channel())
    .await;
    assert!(matches!(no_shim, Err(SpawnError::Shim { .. })), "{no_shim:?}");
}

#[tokio::test]
async fn the_environment_is_the_workers() {
    let stage = Stage::new("environment");
    let script = "import os,json\nprint(json.dumps(dict(os.environ)))";
    let running = spawn(&LaunchSpec {
        path_prefix: vec!["/opt/bun/bin".into()],
        ..stage.python(script)
    })
    .await;
    let environment: HashMap<String, String> = serde_json::from_str(&stage.line().await).expect("JSON");
    for (name, expected) in [
        ("REUSE_APP", "shop"),
        ("REUSE_WORKER_ID", "0"),
        ("NODE_APP_INSTANCE", "0"),
        ("USER", "nobody"),
        ("LOGNAME", "nobody"),
        ("GODEBUG", "multipathtcp=0"),
    ] {
        assert_eq!(environment.get(name).map(String::as_str), Some(expected), "{name}");
    }
    assert!(environment["PATH"].starts_with("/opt/bun/bin:"));
    for stripped in ["REUSE_CTL_LAUNCH", "LISTEN_FDS", "LISTEN_PID"] {
        assert!(!environment.contains_key(stripped), "{stripped}");
    }
    let Running { mut child, .. } = running;
    assert_eq!(exit_of(child.wait().await.expect("ours")), Exit::Code(0));
}

const fn killed_by(number: i32, name: &'static str) -> Exit {
    Exit::Signal(base::Signal {
        number,
        name: Some(name),
    })
}
