//! The same server, steered and not, in interleaved pairs of short rounds.
//!
//! Each pair is a round against four servers that share their port by plain `SO_REUSEPORT` and a round against four under
//! `reuse-ctl run`; every other pair runs in the other order. Only the ratio within a pair counts, so that a machine that others use
//! too disturbs both of its sides alike. The control, plain against plain, shows what the method itself adds.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use reuse_tests::{App, Namespace, kernel, wait};

use crate::process::{cpu_seconds, status_number};
use crate::programs::{Programs, Statistics};
use crate::server::Subject;
use crate::traffic::{self, Round};

const WORKERS: usize = 4;
const PLAIN: SocketAddr = loopback(8080);
const CONTROL: SocketAddr = loopback(8081);
const STEERED: SocketAddr = loopback(8082);
const POLICIES: [&str; 4] = ["hash", "round-robin", "least-loaded", "sticky"];

/// How many rounds each side has before the first that counts.
const fn warm_up_rounds(subject: Subject) -> u32 {
    match subject {
        Subject::Bare => 8,
        // Node's compiler has seen the code often enough then, and the heap has its size.
        Subject::Node => 100,
    }
}

/// The round of which the programs' statistics are taken.
const COUNTED: Duration = Duration::from_secs(1);

/// What was measured under one policy.
#[derive(Debug)]
pub(crate) struct Rate {
    /// What was served by.
    pub(crate) subject: Subject,
    /// `control` is plain against plain.
    pub(crate) policy: &'static str,
    /// Connections per second, of each plain round.
    pub(crate) plain: Vec<f64>,
    /// Rate steered over rate plain, of each pair.
    pub(crate) ratio: Vec<f64>,
    /// CPU time per connection (client, servers, controller) steered over plain, of each pair.
    pub(crate) cpu_ratio: Vec<f64>,
    /// CPU time per connection in microseconds, of each plain round.
    pub(crate) plain_cpu_us: Vec<f64>,
    /// How often a server went to sleep and was woken per connection: in the plain rounds, and in the others.
    pub(crate) wakes: (Vec<f64>, Vec<f64>),
    /// What the programs used, and in how many connections; not for the control.
    pub(crate) programs: Option<(Programs, u64)>,
    /// Share of a core that the controller uses while its servers are busy, of each steered round; not for the control.
    pub(crate) controller_busy: Vec<f64>,
    /// The same while they are idle, of each plain round.
    pub(crate) controller_idle: Vec<f64>,
}

/// Measures every policy, in a network namespace of its own.
///
/// # Errors
/// When a connection fails, or the counters do not show that the program chose for every one.
pub(crate) fn measure(pairs: usize, length: Duration) -> anyhow::Result<Vec<Rate>> {
    let _namespace = Namespace::enter();
    let mut rates = Vec::new();
    for subject in Subject::ALL {
        // Both sides of a pair are of one age: a runtime that compiles as it goes gets faster for a while.
        let plain = Plain::start(subject, PLAIN)?;
        let control = Plain::start(subject, CONTROL)?;
        rates.push(compare("control", pairs, length, &plain, &control.side())?);
        drop((plain, control));
        for policy in POLICIES {
            let plain = Plain::start(subject, PLAIN)?;
            rates.push(steered(policy, pairs, length, &plain)?);
        }
    }
    Ok(rates)
}

fn steered(policy: &'static str, pairs: usize, length: Duration, plain: &Plain) -> anyhow::Result<Rate> {
    let workers = WORKERS.to_string();
    let subject = plain.subject;
    let app = App::run(&["--workers", &workers, "--policy", policy], &subject.command(STEERED)?);
    let before = app.status();
    let controller = before.pid;
    let side = Side {
        subject,
        address: STEERED,
        processes: before.pids().into_iter().flatten().collect(),
        controller: Some(controller),
    };
    ensure!(side.processes.len() == WORKERS, "workers: {:?}", side.processes);
    let mut rate = compare(policy, pairs, length, plain, &side)?;

    let enabled = Statistics::enable()?;
    let programs = Programs::of(controller)?;
    let round = traffic::run(STEERED, subject.exchange(), COUNTED)?;
    let used = Programs::of(controller)?.since(programs);
    drop(enabled);
    ensure!(
        used.select.runs >= round.connections,
        "the program ran {} times for {} connections",
        used.select.runs,
        round.connections
    );
    rate.programs = Some((used, round.connections));

    let status = app.status();
    ensure!(status.fallbacks == 0, "{} fallbacks under {policy}", status.fallbacks);
    let established: u64 = status.workers.iter().map(|worker| worker.established_total).sum();
    let chosen = status.verdicts().chosen;
    ensure!(
        chosen == established,
        "{policy}: {chosen} chosen, {established} established"
    );
    app.stop();
    Ok(rate)
}

/// Runs the pairs.
fn compare(policy: &'static str, pairs: usize, length: Duration, plain: &Plain, other: &Side) -> anyhow::Result<Rate> {
    eprintln!(
        "    connection rate, {}, {policy}: {pairs} pairs of {length:?}",
        plain.subject.name()
    );
    let mut rate = Rate {
        subject: plain.subject,
        policy,
        plain: Vec::new(),
        ratio: Vec::new(),
        cpu_ratio: Vec::new(),
        plain_cpu_us: Vec::new(),
        wakes: (Vec::new(), Vec::new()),
        programs: None,
        controller_busy: Vec::new(),
        controller_idle: Vec::new(),
    };
    let plain = plain.side();
    // Long enough for the controller to be done with the start, too.
    for _ in 0..warm_up_rounds(plain.subject) {
        plain.round(length, None)?;
        other.round(length, None)?;
    }
    for pair in 0..pairs {
        let (base, steered) = if pair % 2 == 0 {
            let base = plain.round(length, other.controller)?;
            (base, other.round(length, other.controller)?)
        } else {
            let steered = other.round(length, other.controller)?;
            (plain.round(length, other.controller)?, steered)
        };
        rate.plain.push(base.per_second);
        rate.ratio.push(steered.per_second / base.per_second);
        rate.cpu_ratio
            .push((steered.cpu_us + steered.controller_us) / base.cpu_us);
        rate.plain_cpu_us.push(base.cpu_us);
        rate.wakes.0.push(base.wakes);
        rate.wakes.1.push(steered.wakes);
        if other.controller.is_some() {
            rate.controller_busy.push(steered.controller_share);
            rate.controller_idle.push(base.controller_share);
        }
    }
    Ok(rate)
}

/// One side of a pair.
struct Side {
    subject: Subject,
    address: SocketAddr,
    /// The servers: their CPU time counts, besides this process's.
    processes: Vec<u32>,
    /// Its counts too.
    controller: Option<u32>,
}

/// What a round of one side gave.
struct Measured {
    per_second: f64,
    /// CPU time per connection of client and servers.
    cpu_us: f64,
    /// How often a server was woken, per connection.
    wakes: f64,
    /// CPU time per connection of the controller.
    controller_us: f64,
    /// Share of a core that the controller used.
    controller_share: f64,
}

impl Side {
    /// A round of this side; the controller is watched also while its servers are idle.
    fn round(&self, length: Duration, controller: Option<u32>) -> anyhow::Result<Measured> {
        let controller_seconds = || controller.map_or(Ok(0.0), cpu_seconds);
        let sleeps = self.sleeps()?;
        let before = (self.cpu_seconds()?, controller_seconds()?);
        let Round { connections, seconds } = traffic::run(self.address, self.subject.exchange(), length)?;
        let used = self.cpu_seconds()? - before.0;
        let controller_used = controller_seconds()? - before.1;
        let wakes = self.sleeps()? - sleeps;
        Ok(Measured {
            per_second: connections as f64 / seconds,
            cpu_us: used * 1e6 / connections as f64,
            wakes: wakes as f64 / connections as f64,
            controller_us: controller_used * 1e6 / connections as f64,
            controller_share: controller_used / seconds,
        })
    }

    /// How often the servers, of one thread each, have gone to sleep so far.
    fn sleeps(&self) -> anyhow::Result<u64> {
        let sleeps = |&pid: &u32| status_number(pid, "voluntary_ctxt_switches");
        self.processes.iter().map(sleeps).sum()
    }

    fn cpu_seconds(&self) -> anyhow::Result<f64> {
        let mut sum = cpu_seconds(std::process::id())?;
        for &pid in &self.processes {
            sum += cpu_seconds(pid)?;
        }
        Ok(sum)
    }
}

/// Servers that nobody steers.
struct Plain {
    subject: Subject,
    address: SocketAddr,
    servers: Vec<Child>,
}

impl Plain {
    fn start(subject: Subject, address: SocketAddr) -> anyhow::Result<Self> {
        let command = subject.command(address)?;
        let mut plain = Self {
            subject,
            address,
            servers: Vec::new(),
        };
        for _ in 0..WORKERS {
            let server = Command::new(&command[0])
                .args(&command[1..])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .spawn()
                .with_context(|| format!("start {}", command[0]))?;
            plain.servers.push(server);
        }
        wait::until("the plain servers listen", Duration::from_secs(20), || {
            kernel::listeners(address.port()).len() == WORKERS
        });
        Ok(plain)
    }

    fn side(&self) -> Side {
        Side {
            subject: self.subject,
            address: self.address,
            processes: self.servers.iter().map(Child::id).collect(),
            controller: None,
        }
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        for server in &mut self.servers {
            // Ended already: then the measurement has failed, and says so itself.
            drop(server.kill());
            drop(server.wait());
        }
    }
}

const fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}
