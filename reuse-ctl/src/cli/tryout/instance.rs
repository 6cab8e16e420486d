//! Starts the server under its own controller, examines it, stops it, and examines what is left.

use super::{
    clients::{Target, WatchedConnections},
    processes::{self, Process},
    report::{Ending, Http, Left, Listener, ListenerKind, Report},
};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::{
    app::{
        names::paths_of,
        options::{ReadyOptions, RunOptions},
    },
    base::{
        Failure, SlotId, WorkerState,
        whole_ms::{unix_now_ms, whole_ms},
    },
    client::{Client, EventStream, own_controller::OwnController},
    process::{cgroup::AppCgroup, usage},
    wire::{Status, StopRequest},
};

/// Time allowed for the controller in addition to its worker, to start and to clean up.
const SLACK: Duration = Duration::from_secs(10);

/// Interval of looks at the processes while they end.
const LOOK: Duration = Duration::from_millis(2);

/// How long sending the signal may take after the controller was asked to stop, because the queue must be empty first. A signal that is
/// held back for longer counts as sent, so that the clients go on.
const SIGNAL_SENT: Duration = Duration::from_secs(2);

/// Data that clients read within this time after the server's end was on its way before.
const LAST_BYTES: Duration = Duration::from_millis(500);

/// How long the controller may take to say which program has the port of a server that could not bind it. The server is started again
/// meanwhile.
const WORD: Duration = Duration::from_secs(3);

/// Number of output lines shown of a server that never became ready.
const OUTPUT_LINES: usize = 20;

const PORT_HINT: &str =
    "end that first, or let the server listen on another port; `sudo ss -ltnp` shows which process it is";

/// The server to try.
#[derive(Debug)]
pub(crate) struct Trial<'a> {
    /// The app's options, as for `run`.
    pub options: &'a RunOptions,
    /// The arguments after `run --name NAME` for it.
    pub arguments: Vec<OsString>,
    /// The path to request.
    pub path: &'a str,
    /// A path whose answer takes a while.
    pub slow_path: Option<&'a str>,
}

/// Starts the server, examines it, and stops it. Nothing is left behind, except the app's logs if this process is killed.
///
/// # Errors
/// Fails if the server can't be served: the port is taken, it never becomes ready, or it has ended.
pub(crate) async fn examine(trial: &Trial<'_>) -> Result<Report, Failure> {
    let before = processes::tcp_listeners();
    if let Some(taken) = before
        .iter()
        .find(|address| trial.options.ports.contains(&address.port()))
    {
        return Err(port_is_taken(*taken));
    }
    let name = &trial.options.name;
    let logs = Logs(paths_of(name)?.log_dir().to_owned());
    let mut controller = OwnController::start("the trial's", name, trial.arguments.iter().cloned())?;
    let looked = tokio::select! {
        looked = look(trial, &mut controller) => looked,
        () = interrupted() => Err(Failure::failed("interrupted", "")),
    };
    let grace = if looked.is_ok() {
        trial.options.stop.drain_timeout
    } else {
        Duration::ZERO
    };
    let ended = controller.end(grace).await;
    drop(logs);
    let mut report = looked?;
    ended?;
    let after = processes::tcp_listeners();
    report.left.listeners = still_there(&report.listeners, &after);
    report.left.sockets = report
        .listeners
        .iter()
        .filter(|listener| listener.kind == ListenerKind::Unix && Path::new(&listener.address).exists())
        .map(|listener| listener.address.clone())
        .collect();
    Ok(report)
}

/// The folder of the trial's logs. Dropping this removes it.
struct Logs(std::path::PathBuf);

impl Drop for Logs {
    fn drop(&mut self) {
        // It may never have been created.
        drop(fs::remove_dir_all(&self.0));
    }
}

async fn interrupted() {
    let terminated = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => drop(signal.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminated => {}
    }
}

fn port_is_taken(address: SocketAddr) -> Failure {
    Failure::failed(format!("another process listens on {address} already"), PORT_HINT)
}

fn still_there(listeners: &[Listener], after: &[SocketAddr]) -> Vec<String> {
    let is_there = |listener: &&Listener| after.iter().any(|address| address.to_string() == listener.address);
    listeners
        .iter()
        .filter(is_there)
        .map(|listener| listener.address.clone())
        .collect()
}

async fn look(trial: &Trial<'_>, controller: &mut OwnController) -> Result<Report, Failure> {
    let ReadyOptions { timeout, .. } = trial.options.ready;
    let settled = |status: &Status| {
        status.workers.first().is_some_and(|worker| match worker.state {
            WorkerState::Active | WorkerState::BackingOff | WorkerState::Failed => true,
            WorkerState::Starting
            | WorkerState::Draining
            | WorkerState::Drained
            | WorkerState::Stopping
            | WorkerState::Exited => worker.restarts > 0,
        })
    };
    let (client, status) = controller
        .wait_until("the server is ready", timeout + SLACK, settled)
        .await?;
    let worker = status.workers.first().expect("it was looked at");
    let (WorkerState::Active, 0, Some(main)) = (worker.state, worker.restarts, worker.pid) else {
        let reason = worker.reason.as_deref().unwrap_or("ended before it was ready");
        let output = written(&trial.options.name);
        let taken = who_has_the_port(controller, &output).await;
        return Err(never_ready(reason, taken.as_deref(), output));
    };
    let ready_ms = processes::age_ms(main).unwrap_or(0);
    let (address, group) = first_address(&status, trial.options)?;
    let target = Target {
        address,
        path: trial.path,
        slow_path: trial.slow_path,
    };
    let http = target.first_answer().await;
    let running = instance_processes(&trial.options.name);
    let (listeners, holders) = processes::listeners(&running, trial.options.ports.first().map(|_| group.port()));
    let wrappers = processes::wrappers(&running, main, &holders);
    // Behind a shell the server is another process, and the signal reaches that too.
    let told: BTreeSet<u32> = std::iter::once(main).chain(holders).collect();
    let signal = trial.options.stop.signal;
    let caught = told.iter().any(|pid| usage::catches_signal(*pid, signal));

    let (tell, signalled) = watch::channel(None);
    let open = match http {
        Http::Answered { keeps_alive, .. } => Some(target.open(keeps_alive).await),
        Http::Silent => None,
    };
    let watched = open.map(|open| open.watch(&signalled));
    let ended = end(trial, &client, main, &told, &tell).await?;
    let clients = match watched {
        Some(watched) => fates(watched, ended.signal).await,
        None => Vec::new(),
    };
    let words = trial
        .options
        .command
        .iter()
        .map(|word| word.to_string_lossy().into_owned());
    Ok(Report {
        command: words.collect(),
        ready_ms,
        listeners,
        wrappers,
        http,
        ending: Ending {
            signal: signal.to_string(),
            caught,
            took_ms: whole_ms(ended.took),
            killed: ended.killed,
            how: ended.how,
        },
        clients,
        left: Left {
            processes: ended.left,
            ..Left::default()
        },
    })
}

async fn fates(watched: WatchedConnections, signal: Instant) -> Vec<super::report::Client> {
    watched.fates(signal, Instant::now() + LAST_BYTES).await
}

/// The address by which clients on this machine reach the server, and the one on which it listens.
fn first_address(status: &Status, options: &RunOptions) -> Result<(SocketAddr, SocketAddr), Failure> {
    let addresses = status
        .groups
        .iter()
        .filter_map(|group| group.addr.parse::<SocketAddr>().ok());
    let Some(group) = lowest_port(addresses, &options.ports) else {
        return Err(Failure::failed(
            "the server listens nowhere",
            "a program that serves no port needs no trial: `run --ready started`",
        ));
    };
    let ip = match group.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    Ok((SocketAddr::new(ip, group.port()), group))
}

/// The address with the lowest port; among the named ports, if any are named.
fn lowest_port(addresses: impl Iterator<Item = SocketAddr>, named: &[u16]) -> Option<SocketAddr> {
    let wanted = addresses.filter(|address| named.is_empty() || named.contains(&address.port()));
    wanted.min_by_key(|address| (address.port(), *address))
}

/// What the controller says about the program that has the port. It may only say so at a later start: about the first one it may learn too
/// late which address the server wanted to bind.
async fn who_has_the_port(controller: &OwnController, output: &[String]) -> Option<String> {
    let was_refused = output.iter().any(|line| is_refusal(line));
    let deadline = Instant::now() + WORD;
    loop {
        let words = controller.words();
        let taken = words.iter().find_map(|line| in_use(line));
        if taken.is_some() || !was_refused || Instant::now() > deadline {
            return taken.map(str::to_owned);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Whether a line shows a refused bind: EPERM means that another program listens on the port.
fn is_refusal(line: &str) -> bool {
    line.contains("EPERM") || line.to_ascii_lowercase().contains("operation not permitted")
}

/// The failure of a server that never became ready. `taken`: the program that has the port, if that is known to be the reason.
fn never_ready(reason: &str, taken: Option<&str>, output: Vec<String>) -> Failure {
    if let Some(taken) = taken {
        // The server's own "operation not permitted" would be misleading.
        return Failure::failed(taken, PORT_HINT);
    }
    let is_taken =
        |line: &&String| line.contains("EADDRINUSE") || line.to_ascii_lowercase().contains("address already in use");
    let mut failure = match output.iter().find(is_taken) {
        Some(line) => Failure::failed(
            format!("another process listens on the server's port already: {}", line.trim()),
            PORT_HINT,
        ),
        None => Failure::failed(
            format!("the server never got ready: it {reason}"),
            "run the command by itself to see more; `--ready-timeout` gives it longer",
        ),
    };
    failure.output = output;
    failure
}

/// The part `127.0.0.1:8080 is in use by process 7 (node)` of a line about a worker that has ended.
fn in_use(line: &str) -> Option<&str> {
    let problem = line
        .split_once(" exited with ")
        .or_else(|| line.split_once(" was killed by "))?
        .1;
    let problem = problem.split_once(" (")?.1.strip_suffix(')')?;
    problem.contains(" is in use by ").then_some(problem)
}

/// The last lines of the server's output.
fn written(app: &str) -> Vec<String> {
    let Ok(paths) = paths_of(app) else {
        return Vec::new();
    };
    let files = [paths.log_file(SlotId(0)), paths.err_log_file(SlotId(0))];
    let texts = files.map(|file| fs::read(file).unwrap_or_default());
    let mut lines: Vec<String> = texts
        .iter()
        .flat_map(|text| {
            String::from_utf8_lossy(text)
                .lines()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .collect();
    lines.drain(..lines.len().saturating_sub(OUTPUT_LINES));
    lines
}

fn instance_processes(app: &str) -> Vec<Process> {
    let pids = AppCgroup::existing(app)
        .ok()
        .flatten()
        .and_then(|cgroup| cgroup.pids().ok());
    processes::processes(&pids.unwrap_or_default())
}

/// How the instance ended.
struct Ended {
    signal: Instant,
    /// The time until the last process that got the signal was gone.
    took: Duration,
    /// Whether the controller had to kill it.
    killed: bool,
    /// How the main process ended.
    how: String,
    /// What was there when the controller had done its part.
    left: Vec<String>,
}

/// Has the controller stop the app, and watches its processes end. `told` are the main process and those that serve.
async fn end(
    trial: &Trial<'_>,
    client: &Client,
    main: u32,
    told: &BTreeSet<u32>,
    tell: &watch::Sender<Option<Instant>>,
) -> Result<Ended, Failure> {
    let asked =
        |error: crate::client::ClientError| Failure::failed(format!("the trial's controller: {error}"), "try again");
    let events = client.events().await.map_err(asked)?;
    let (said, heard) = watch::channel(Heard::default());
    let listening = tokio::spawn(listen(events, main, said));
    let stop = &trial.options.stop;
    let request = StopRequest {
        timeout_ms: Some(whole_ms(stop.drain_timeout)),
    };
    let began = Instant::now();
    let limit = began + SIGNAL_SENT + stop.drain_timeout + stop.timeout + SLACK;
    let asking = client.clone();
    let stopping = tokio::spawn(async move { asking.command(hyper::Method::POST, "/v1/stop", &request).await });
    let mut signal = None;
    let mut over = None;
    // The controller answers when nothing of the instance is left, or when it has given up.
    while !stopping.is_finished() {
        if signal.is_none() {
            let late = began.elapsed() > SIGNAL_SENT;
            signal = heard.borrow().signal.or(late.then_some(began));
            if signal.is_some() {
                tell.send_replace(signal);
            }
        }
        let running = instance_processes(&trial.options.name);
        if over.is_none() && !running.iter().any(|process| told.contains(&process.pid)) {
            over = Some(Instant::now());
        }
        if Instant::now() > limit {
            stopping.abort();
            return Err(Failure::failed(
                "the server did not end",
                "`ps` shows how it is; state D waits for a device",
            ));
        }
        tokio::time::sleep(LOOK).await;
    }
    let over = over.unwrap_or_else(Instant::now);
    let left = instance_processes(&trial.options.name);
    // The controller closes its event stream when it ends.
    drop(tokio::time::timeout(SLACK, listening).await);
    let heard = heard.borrow().clone();
    let signal = heard.signal.unwrap_or(began);
    tell.send_replace(Some(signal));
    Ok(Ended {
        signal,
        took: over.saturating_duration_since(signal),
        killed: heard.killed,
        how: heard.exit.unwrap_or_else(|| "ended".into()),
        left: left.into_iter().map(|process| process.name).collect(),
    })
}

/// What the events say about the instance.
#[derive(Debug, Clone, Default)]
struct Heard {
    signal: Option<Instant>,
    killed: bool,
    exit: Option<String>,
}

async fn listen(mut events: EventStream, main: u32, said: watch::Sender<Heard>) {
    while let Some(Ok(event)) = events.next().await {
        let age = Duration::from_millis(unix_now_ms().saturating_sub(event.at_ms));
        let at = Instant::now().checked_sub(age).unwrap_or_else(Instant::now);
        said.send_modify(|heard| match event.event.as_str() {
            "stopping" if event.message.ends_with("is told to stop") => heard.signal = Some(at),
            "warning" if event.message.ends_with("it is killed") => heard.killed = true,
            "exited" => {
                let about = format!("(pid {main}) ");
                heard.exit = event.message.split_once(&about).map(|(_, how)| how.to_owned());
            }
            _ => {}
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_use_the_lowest_port_that_is_not_left_out() {
        let all = ["0.0.0.0:9090", "127.0.0.1:8080", "[::]:8080"].map(|address| address.parse().expect("an address"));
        let picked = |named: &[u16]| lowest_port(all.into_iter(), named).map(|address: SocketAddr| address.to_string());
        assert_eq!(picked(&[]).as_deref(), Some("127.0.0.1:8080"));
        assert_eq!(picked(&[9090]).as_deref(), Some("0.0.0.0:9090"));
        assert_eq!(picked(&[1]), None);
    }

    #[test]
    fn who_has_the_port_is_read_from_the_controllers_words() {
        let line =
            "reuse-ctl  worker 0 (pid 7) exited with code 1 (127.0.0.1:8080 is in use by process 9 (bun server.js))";
        assert_eq!(
            in_use(line),
            Some("127.0.0.1:8080 is in use by process 9 (bun server.js)")
        );
        let killed = line.replace("exited with code 1", "was killed by SIGKILL");
        assert_eq!(in_use(&killed), in_use(line));
        assert_eq!(in_use("reuse-ctl  worker 0 (pid 7) exited with code 1"), None);
        let failure = never_ready("exited with code 1", in_use(line), vec!["EPERM".into()]);
        assert!(failure.error.contains("process 9"), "{}", failure.error);
    }
}
