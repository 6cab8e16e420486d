//! `demo`: runs four workers of a small server under load, plays everything that can happen to a worker, and accounts for every connection.
//! Needs nothing but root.

mod accepted;
mod acts;
mod http;
mod load;
mod screen;
pub(super) mod server;
mod tally;

use std::ffi::OsString;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use crate::{
    base::{Failure, WorkerState},
    cli::{args, context::Context, output},
    client::own_controller::OwnController,
    wire::Status,
};
use acts::{Act, Stage};
use load::{Load, Plan, SharedTally, lock};
use screen::History;
use tally::ActSums;

/// The hidden verb that runs the demo's server.
pub(crate) const SERVER_VERB: &str = "__demo-server";

/// The load: 40 clients with short pauses, so that the demo shows steering and not the speed of the machine.
const PLAN: Plan = Plan {
    fresh: 32,
    keeping: 8,
    requests_per_connection: 100,
    rest: Duration::from_millis(6),
};
/// Number of workers.
const WORKERS: u16 = 4;
/// Time that workers have to become ready, on a slow machine.
const READY: Duration = Duration::from_secs(30);
/// The grace period of the workers at the end.
const GRACE: Duration = Duration::from_secs(5);
/// Outgoing connections use ports from 32768 on, so that none of these is taken.
const PORTS: std::ops::Range<u16> = 20_000..32_000;
const DRAW: Duration = Duration::from_millis(100);

/// Plays the whole demo.
pub(crate) async fn run(context: &Context, arguments: &args::Demo) -> Result<(), Failure> {
    crate::cli::context::require_root("demo")?;
    let port = free_port()?;
    if !context.json {
        let workers = WORKERS;
        output::print(&format!(
            "{workers} workers of a small server on 127.0.0.1:{port}; {} clients with a new connection for each request, {} that keep theirs\n\n",
            PLAN.fresh, PLAN.keeping
        ))?;
    }
    let mut controller = start(port)?;
    let show = Show::new(context);
    let tally = SharedTally::default();
    let played = tokio::select! {
        played = play(&mut controller, port, &tally, &show, Duration::from_secs(arguments.seconds)) => played,
        _ = tokio::signal::ctrl_c() => Ok(()),
    };
    show.clear();
    let ended = tokio::select! {
        ended = controller.end(GRACE) => ended,
        () = second_interrupt() => Err(Failure::failed("interrupted while the demo's workers ended", "they go on ending")),
    };
    let verdict = conclude(context, &tally, show.last_status());
    played.and(ended).and(verdict)
}

/// Starts the demo's server on `port`.
fn start(port: u16) -> Result<OwnController, Failure> {
    let name = format!("demo-{}", std::process::id());
    let (workers, port) = (WORKERS.to_string(), port.to_string());
    let options = ["--workers", &workers, "--policy", "least-loaded", "--port", &port, "--"];
    let command = ["/proc/self/exe", SERVER_VERB, &port];
    OwnController::start(
        "the demo's",
        &name,
        options.into_iter().chain(command).map(OsString::from),
    )
}

/// A port that no program uses.
fn free_port() -> Result<u16, Failure> {
    (0..100)
        .map(|_| fastrand::u16(PORTS))
        .find(|port| TcpListener::bind((Ipv4Addr::UNSPECIFIED, *port)).is_ok())
        .ok_or_else(|| Failure::failed("no free port below 32768 was found", "see `ss -ltn`"))
}

fn all_active(status: &Status) -> bool {
    status.workers.len() == usize::from(WORKERS)
        && status.workers.iter().all(|worker| worker.state == WorkerState::Active)
}

async fn play(
    controller: &mut OwnController,
    port: u16,
    tally: &SharedTally,
    show: &Show,
    whole: Duration,
) -> Result<(), Failure> {
    let (client, _) = controller
        .wait_until("the demo's workers are active", READY, all_active)
        .await?;
    let stage = Stage {
        client,
        port,
        tally: SharedTally::clone(tally),
    };
    let server = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    lock(tally).begin(&Act::Steady.name());
    let load = Load::start(server, PLAN, tally);
    let result = tokio::select! {
        result = all_acts(&stage, show, whole) => result,
        () = show.draw(&stage) => unreachable!("it draws for ever"),
    };
    load.finish().await;
    if let Ok(status) = stage.status().await {
        show.view().status = Some(status);
    }
    result
}

async fn all_acts(stage: &Stage, show: &Show, whole: Duration) -> Result<(), Failure> {
    for (number, act) in Act::ALL.into_iter().enumerate() {
        let headline = format!("act {} of {}: {}", number + 1, Act::ALL.len(), act.name());
        show.view().headline.clone_from(&headline);
        if number > 0 {
            lock(&stage.tally).begin(&act.name());
        }
        let end = Instant::now() + act.duration(whole);
        let what = stage.play(act).await?;
        tokio::time::sleep_until(end).await;
        let sums = lock(&stage.tally).acts().last().cloned().unwrap_or_default();
        show.line(&format!(
            "{headline}: {what}; {} requests, {} lost",
            sums.requests, sums.lost
        ));
    }
    Ok(())
}

/// Shows the tables, and fails if any request was lost.
fn conclude(context: &Context, tally: &SharedTally, status: Option<Status>) -> Result<(), Failure> {
    let tally = lock(tally);
    let total = tally.total();
    if total.requests == 0 {
        return Ok(());
    }
    if total.lost > 0 {
        if !context.json {
            output::print(&screen::report(status.as_ref(), &tally, "", context.terminal.paint))?;
        }
        let reason = tally.reasons().first().cloned().unwrap_or_default();
        return Err(Failure::failed(
            format!(
                "{} of {} requests were lost, the first: {reason}",
                total.lost, total.requests
            ),
            "`reuse-ctl doctor` shows what this kernel lacks",
        ));
    }
    let is_sticky = tally.acts().last().is_some_and(|act| act.act == Act::Sticky.name());
    let (clients, moves) = if is_sticky { tally.clients_and_moves() } else { (0, 0) };
    if context.json {
        #[derive(Serialize)]
        struct Report<'a> {
            acts: &'a [ActSums],
            requests: u64,
            retried: u64,
            died: u64,
            caught: u64,
            lost: u64,
            sticky_clients: usize,
            sticky_moves: u64,
            status: Option<Status>,
        }
        let ActSums {
            requests,
            retried,
            died,
            caught,
            lost,
            ..
        } = total;
        let acts = tally.acts();
        let report = Report {
            acts,
            requests,
            retried,
            died,
            caught,
            lost,
            sticky_clients: clients,
            sticky_moves: moves,
            status,
        };
        return output::print_json(&output::Okay::new(report));
    }
    let followed = if is_sticky {
        format!("sticky: {clients} clients changed their worker {moves} times")
    } else {
        String::new()
    };
    output::print(&screen::report(
        status.as_ref(),
        &tally,
        &followed,
        context.terminal.paint,
    ))
}

async fn second_interrupt() {
    drop(tokio::signal::ctrl_c().await);
}

/// The picture on a terminal; otherwise only the lines of the acts.
struct Show {
    is_drawn: bool,
    is_silent: bool,
    paint: crate::cli::terminal::Paint,
    start: Instant,
    view: Mutex<View>,
}

#[derive(Debug, Default)]
struct View {
    headline: String,
    status: Option<Status>,
    /// Number of lines of the picture on the screen.
    drawn: usize,
}

impl Show {
    fn new(context: &Context) -> Self {
        Self {
            is_drawn: context.terminal.stdout_is_tty && !context.json,
            is_silent: context.json,
            paint: context.terminal.paint,
            start: Instant::now(),
            view: Mutex::default(),
        }
    }

    fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock().expect("drawing does not panic")
    }

    fn last_status(&self) -> Option<Status> {
        self.view().status.clone()
    }

    /// Draws the picture repeatedly.
    async fn draw(&self, stage: &Stage) {
        let mut history = History::default();
        loop {
            if let Ok(status) = stage.status().await {
                self.view().status = Some(status);
            }
            if self.is_drawn {
                let tally = lock(&stage.tally);
                let recent = history.grown(Instant::now(), tally.answered());
                let mut view = self.view();
                let elapsed = self.start.elapsed();
                let picture = screen::picture(
                    &view.headline,
                    elapsed,
                    view.status.as_ref(),
                    &recent,
                    &tally,
                    self.paint,
                );
                write(&format!("{}{picture}", up(view.drawn)));
                view.drawn = picture.lines().count();
            }
            tokio::time::sleep(DRAW).await;
        }
    }

    /// Writes a line above the picture.
    fn line(&self, text: &str) {
        if !self.is_silent {
            self.clear();
            write(&format!("{text}\n"));
        }
    }

    fn clear(&self) {
        write(&up(std::mem::take(&mut self.view().drawn)));
    }
}

/// Moves the cursor to the beginning of the last `lines` lines, and clears them.
fn up(lines: usize) -> String {
    if lines == 0 {
        String::new()
    } else {
        format!("\x1b[{lines}A\r\x1b[J")
    }
}

fn write(text: &str) {
    let mut stdout = std::io::stdout().lock();
    // Failing to draw is no reason to stop; errors of the final report are handled.
    drop(stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()));
}

/// The hidden verb. `PORT` is its only argument; the worker's number comes from the environment.
pub(crate) fn serve(arguments: &[OsString]) -> Result<(), Failure> {
    let hint = "it is started by `reuse-ctl demo`";
    let failed = |error: std::io::Error| Failure::failed(format!("demo server: {error}"), hint);
    let port = arguments
        .first()
        .and_then(|port| port.to_str())
        .and_then(|port| port.parse().ok());
    let port = port.ok_or_else(|| Failure::usage("the demo's server needs a port", hint))?;
    let worker = std::env::var("REUSE_WORKER_ID")
        .ok()
        .and_then(|id| id.parse().ok())
        .unwrap_or(0);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(failed)?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let listener = server::listen(port).map_err(failed)?;
        server::serve(listener, worker, async {
            terminate.recv().await;
        })
        .await
        .map_err(failed)
    })
}
