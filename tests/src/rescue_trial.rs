//! What a kind of server makes of having its listener taken away and given back, thousands of times, while it polls it.
//!
//! Two members in one group, the server under trial and a [`receiver`](Server) that takes what is moved; the kernel moves by itself
//! (`tcp_migrate_req`). The server is not hung at all: it is woken by the very `shutdown` and looks at its listener at the worst moment.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use socket2::{Domain, Protocol, Socket, Type};

use crate::binaries::test_server;
use crate::http::{Failure, get};
use crate::load::{Load, Mode};
use crate::rescue::{Cgroup, Listener, Pause};
use crate::scratch::Scratch;
use crate::{PORT, SERVER, wait};

const START_LIMIT: Duration = Duration::from_secs(20);

/// After so many deaths there is nothing more to learn.
const MOST_DEATHS: usize = 40;

/// The processor use of a server without a request, above which it is called spinning.
const SPINNING: f64 = 0.5;

/// A kind of server.
#[derive(Debug, Clone)]
pub struct Kind {
    /// For the table.
    pub name: &'static str,
    /// Listens on [`SERVER`] with `SO_REUSEPORT`, answers `SLOT PID`.
    pub command: Vec<String>,
    /// Whether it takes the listener at descriptor 3.
    pub inherits: bool,
}

/// Whether the server runs during a rescue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// It runs, and a millisecond passes between the two system calls: it surely looks.
    Seen,
    /// It runs, and may look.
    Running,
    /// Its cgroup is frozen for that moment.
    Frozen,
}

/// How busy the server is, and how often it is rescued.
struct Phase {
    percent: u32,
    clients: u16,
    pause: Duration,
    /// Whether it is taken out of the choice a millisecond or two before. If not, a handshake that is completed in the very microseconds
    /// of the rescue is cut: the kernel has chosen the listener and then finds it closed.
    withdrawn: bool,
}

/// Between two rescues: anything up to so many microseconds.
const GAP_US: u64 = 800;

/// Between the withdrawal and the rescue: so many microseconds, up to twice that. Handshakes on the loopback are over by then.
const WITHDRAWN_US: u64 = 1_500;

/// Saturated: it is at work nearly always. Busy: it goes to sleep and wakes for each request. Idle: it sleeps in its poll, and only
/// the rescue itself wakes it.
const PHASES: [Phase; 4] = [
    Phase {
        percent: 40,
        clients: 12,
        pause: Duration::ZERO,
        withdrawn: false,
    },
    Phase {
        percent: 20,
        clients: 12,
        pause: Duration::ZERO,
        withdrawn: true,
    },
    Phase {
        percent: 20,
        clients: 12,
        pause: Duration::from_millis(4),
        withdrawn: true,
    },
    Phase {
        percent: 20,
        clients: 0,
        pause: Duration::ZERO,
        withdrawn: false,
    },
];

/// What became of it.
#[derive(Debug, Default)]
pub struct TrialOutcome {
    /// How many pairs of `shutdown` and `listen`.
    pub rescues: u32,
    /// How its main process ended, each time that it did; it was started again.
    pub deaths: Vec<String>,
    /// How many processes of it, other than the main one, have ended.
    pub children_lost: u32,
    /// Whether it used the processor without anything to do, afterwards: in parts of one core.
    pub idle_use: f64,
    /// Why it did not answer, afterwards and alone.
    pub serves: Option<Failure>,
    /// Whether it has its listener still.
    pub same_listener: bool,
    /// Requests answered, by whomever, while it was rescued after a withdrawal.
    pub answered: u64,
    /// Requests that were not, by reason.
    pub failed: BTreeMap<Failure, u64>,
    /// Requests that failed while it was rescued without one.
    pub cut: u64,
    /// What it wrote, digits replaced, with how often.
    pub log: BTreeMap<String, u64>,
    /// The median and the longest of the pauses.
    pub pauses: [Pause; 2],
}

impl TrialOutcome {
    /// Whether it noticed nothing at all, nor did its clients.
    pub fn is_unaware(&self) -> bool {
        self.goes_on() && self.log.is_empty() && self.failed.is_empty()
    }

    /// Whether it is as good as before.
    pub fn goes_on(&self) -> bool {
        self.deaths.is_empty()
            && self.children_lost == 0
            && self.idle_use < SPINNING
            && self.serves.is_none()
            && self.same_listener
    }
}

impl fmt::Display for TrialOutcome {
    /// Cells of a Markdown table: rescues, verdict, failed requests of all and those cut without a withdrawal, what it wrote, pauses.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} | ", self.rescues)?;
        if self.goes_on() {
            f.write_str("goes on")?;
        }
        let mut kinds: BTreeMap<&str, u32> = BTreeMap::new();
        for death in &self.deaths {
            *kinds.entry(death).or_default() += 1;
        }
        for (death, count) in kinds {
            write!(f, "**died {count} ×** ({death}) ")?;
        }
        if self.children_lost > 0 {
            write!(f, "**{} worker processes ended** ", self.children_lost)?;
        }
        if self.idle_use >= SPINNING {
            write!(
                f,
                "**spins** ({:.0} % of a core without a request) ",
                self.idle_use * 100.0
            )?;
        }
        if let Some(failure) = self.serves {
            write!(f, "**does not serve** ({failure}) ")?;
        }
        if !self.same_listener {
            f.write_str("**closed its listener** ")?;
        }
        let failures: Vec<_> = self
            .failed
            .iter()
            .map(|(failure, count)| format!("{count} {failure}"))
            .collect();
        let failures = if failures.is_empty() {
            "none".to_owned()
        } else {
            failures.join(", ")
        };
        write!(f, " | {failures} of {}; {} cut", self.answered, self.cut)?;
        let mut lines: Vec<_> = self.log.iter().collect();
        lines.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let lines: Vec<_> = lines
            .iter()
            .take(8)
            .map(|(line, count)| format!("{count} × `{line}`"))
            .collect();
        let [median, longest] = self.pauses;
        write!(
            f,
            " | {} | {:.0?} ({:.1?}) | {:.0?} ({:.1?}) | {:.0?} ({:.1?})",
            lines.join(", "),
            median.shutting,
            longest.shutting,
            median.listening,
            longest.listening,
            median.freezing,
            longest.freezing
        )
    }
}

/// Rescues `kind` so often, in the calling thread's network namespace, where nothing else may listen on [`PORT`].
///
/// # Panics
/// When it does not start, or a system call fails that the rescue consists of.
pub fn run(kind: &Kind, how: How, rescues: u32) -> TrialOutcome {
    fs::write("/proc/sys/net/ipv4/tcp_migrate_req", "1").expect("let the kernel move queues by itself");
    // Else the clients spend their time on looking for a free port among those of connections that are over.
    fs::write("/proc/sys/net/ipv4/tcp_max_tw_buckets", "1000").expect("forget connections that are over");
    let receiver = Server::start(&receiver());
    let mut server = Server::start(kind);
    let mut outcome = TrialOutcome::default();
    let mut pauses = Vec::new();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for phase in &PHASES {
        let load = (phase.clients > 0).then(|| {
            Load::start_with_pause(
                SERVER,
                phase.clients,
                Mode::NewConnections,
                Duration::from_secs(300),
                phase.pause,
            )
        });
        for number in 0..rescues * phase.percent / 100 {
            pause_for(random.below(GAP_US));
            if let Some(death) = server.death() {
                outcome.deaths.push(death);
                outcome.note_log(&server);
                server = Server::start(kind);
            }
            if outcome.deaths.len() >= MOST_DEATHS {
                break;
            }
            if number % 32 == 0 {
                outcome.children_lost += server.children_lost();
            }
            // Only after its first rescue is it the group's last member.
            let withdraw = phase.withdrawn && server.rescued;
            if withdraw {
                server.listener.withdraw(true).expect("withdraw");
                pause_for(WITHDRAWN_US + random.below(WITHDRAWN_US));
            }
            let pause = match how {
                How::Seen => server.listener.rescue(Duration::from_millis(1)),
                How::Running => server.listener.rescue(Duration::ZERO),
                How::Frozen => server.listener.rescue_frozen(&server.group),
            };
            pauses.push(pause.expect("rescue"));
            server.rescued = true;
            outcome.rescues += 1;
            if withdraw {
                server.listener.withdraw(false).expect("publish");
            }
        }
        if let Some(load) = load {
            let report = load.stop();
            if phase.withdrawn {
                outcome.answered += report.answered;
                for (failure, count) in report.failed {
                    *outcome.failed.entry(failure).or_default() += count;
                }
            } else {
                outcome.cut += report.failures();
            }
        }
    }
    receiver.end();
    outcome.look_again(&mut server);
    outcome.pauses = spread(pauses);
    outcome
}

fn pause_for(microseconds: u64) {
    #[expect(clippy::disallowed_methods, reason = "rescues come at random moments")]
    thread::sleep(Duration::from_micros(microseconds));
}

/// Takes what is moved.
fn receiver() -> Kind {
    let address = SERVER.to_string();
    let command = [&test_server(), "--reuse-port", "--listen", &address].map(str::to_owned);
    Kind {
        name: "receiver",
        command: command.to_vec(),
        inherits: false,
    }
}

impl TrialOutcome {
    /// Is the server, now alone and without a request, as it was?
    fn look_again(&mut self, server: &mut Server) {
        let before = server.group.processor_time();
        let span = Duration::from_secs(1);
        #[expect(clippy::disallowed_methods, reason = "the span that is measured, not a wait")]
        thread::sleep(span);
        self.idle_use = (server.group.processor_time() - before).as_secs_f64() / span.as_secs_f64();
        self.serves = (0..20).find_map(|_| get(SERVER, None).err());
        self.same_listener =
            Listener::of(&server.group.pids(), PORT).map(|listener| listener.inode()) == Some(server.listener.inode());
        self.deaths.extend(server.death());
        self.children_lost += server.children_lost();
        self.note_log(server);
    }

    fn note_log(&mut self, server: &Server) {
        for line in server.log().lines().filter(|line| !line.trim().is_empty()) {
            *self.log.entry(without_digits(line)).or_default() += 1;
        }
    }
}

/// A server in a cgroup of its own.
struct Server {
    child: Child,
    children: Vec<i32>,
    group: Cgroup,
    listener: Listener,
    rescued: bool,
    scratch: Scratch,
    /// How much of the log was written before it listened.
    preamble: usize,
}

impl Server {
    fn start(kind: &Kind) -> Self {
        let scratch = Scratch::new();
        let group = Cgroup::new();
        let log = File::create(log_path(&scratch)).expect("create the server's output file");
        let mut command = Command::new(&kind.command[0]);
        command
            .args(&kind.command[1..])
            .current_dir(scratch.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("duplicate a descriptor"))
            .stderr(log);
        // SAFETY: prctl is a bare system call; nothing of the parent's state is touched between fork and exec.
        unsafe {
            command.pre_exec(|| prctl::set_pdeathsig(Signal::SIGKILL).map_err(io::Error::from));
        }
        group.contain(&mut command);
        let inherited = kind.inherits.then(|| listen(SERVER));
        if let Some(listener) = &inherited {
            hand_over(&mut command, listener);
        }
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{:?}: {error}", kind.command));
        drop(inherited);
        let listener = wait::poll(START_LIMIT, || Listener::of(&group.pids(), PORT)).unwrap_or_else(|| {
            panic!(
                "{} does not listen; it wrote:\n{}",
                kind.name,
                fs::read_to_string(log_path(&scratch)).unwrap_or_default()
            )
        });
        let mut server = Self {
            child,
            children: Vec::new(),
            group,
            listener,
            rescued: false,
            scratch,
            preamble: 0,
        };
        server.wait_settled();
        server
    }

    /// Waits until it no longer starts processes or writes: a master listens before its workers are there.
    fn wait_settled(&mut self) {
        let mut last = (0, 0);
        let mut since = 0;
        wait::until("the server has settled", START_LIMIT, || {
            let now = (self.group.pids().len(), self.log_bytes());
            since = if now == last { since + 1 } else { 0 };
            last = now;
            since >= 40
        });
        self.preamble = last.1;
        self.children = self.other_pids();
    }

    fn other_pids(&self) -> Vec<i32> {
        let main = i32::try_from(self.child.id()).expect("a process id");
        let mut pids = self.group.pids();
        pids.retain(|pid| *pid != main);
        pids.sort_unstable();
        pids
    }

    /// How many of the processes that it has started have ended since the last look.
    fn children_lost(&mut self) -> u32 {
        let now = self.other_pids();
        let lost = self.children.iter().filter(|pid| !now.contains(pid)).count();
        self.children = now;
        u32::try_from(lost).expect("a few processes")
    }

    /// How it ended, if it did.
    fn death(&mut self) -> Option<String> {
        let status = self.child.try_wait().expect("wait for a child of ours")?;
        Some(describe(status))
    }

    fn log(&self) -> String {
        let bytes = fs::read(log_path(&self.scratch)).unwrap_or_default();
        String::from_utf8_lossy(&bytes[self.preamble.min(bytes.len())..]).into_owned()
    }

    fn log_bytes(&self) -> usize {
        fs::read(log_path(&self.scratch)).map_or(0, |bytes| bytes.len())
    }

    fn end(mut self) {
        kill(
            Pid::from_raw(i32::try_from(self.child.id()).expect("a process id")),
            Signal::SIGTERM,
        )
        .expect("signal a child of ours");
        wait::until("the receiver has ended", Duration::from_secs(20), || {
            self.death().is_some()
        });
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended; the cgroup kills what has not.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn log_path(scratch: &Scratch) -> PathBuf {
    scratch.path().join("output")
}

fn listen(address: SocketAddr) -> OwnedFd {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP)).expect("socket");
    socket.set_reuse_address(true).expect("SO_REUSEADDR");
    socket.set_reuse_port(true).expect("SO_REUSEPORT");
    socket.bind(&address.into()).expect("bind");
    socket.listen(1024).expect("listen");
    socket.into()
}

fn hand_over(command: &mut Command, listener: &OwnedFd) {
    let descriptor = listener.as_raw_fd();
    command.env("LISTEN_FDS", "1");
    // SAFETY: dup2 and fcntl are bare system calls on integers; the parent keeps the descriptor open until after the fork.
    unsafe {
        command.pre_exec(move || {
            let result = if descriptor == 3 {
                libc::fcntl(3, libc::F_SETFD, 0)
            } else {
                libc::dup2(descriptor, 3)
            };
            if result < 0 {
                Err(io::Error::last_os_error())
            } else {
                Ok(())
            }
        });
    }
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    }
}

fn without_digits(line: &str) -> String {
    let mut text = String::new();
    for character in line.trim().chars().take(160) {
        match character {
            '0'..='9' if text.ends_with('#') => {}
            '0'..='9' => text.push('#'),
            '|' => text.push('/'),
            other => text.push(other),
        }
    }
    text
}

fn spread(mut pauses: Vec<Pause>) -> [Pause; 2] {
    let mut at = |key: fn(&Pause) -> Duration| {
        pauses.sort_by_key(key);
        let median = pauses.get(pauses.len() / 2).map(key).unwrap_or_default();
        (median, pauses.last().map(key).unwrap_or_default())
    };
    let (freezing, shutting, listening) = (
        at(|pause| pause.freezing),
        at(|pause| pause.shutting),
        at(|pause| pause.listening),
    );
    [
        Pause {
            freezing: freezing.0,
            shutting: shutting.0,
            listening: listening.0,
        },
        Pause {
            freezing: freezing.1,
            shutting: shutting.1,
            listening: listening.1,
        },
    ]
}

/// A small random sequence that is the same in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}
