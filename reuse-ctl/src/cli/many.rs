//! `run -f` with several apps: starts a controller for each, in the background or as child processes whose output is shown together.

use std::io::{self, BufRead as _, BufReader, IsTerminal as _, PipeReader, Read as _, Write};
use std::os::unix::process::CommandExt as _;
use std::process::ExitStatus;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Serialize;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinSet;

use super::{output, run::Call};
use crate::{
    base::{ErrorKind, Failure, failure::OUTPUT_MARK},
    cli::{context::Context, handover},
    config::NamedSpec,
    process::terminal_signals::{has_terminal, is_ignored},
};

/// Signals that are passed on to all controllers, which handle them.
const FORWARDED: [Signal; 6] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGUSR1,
    Signal::SIGTTIN,
    Signal::SIGTTOU,
];

/// How long the last lines may take after all controllers have ended.
const LAST_LINES: Duration = Duration::from_secs(1);

/// A longer line, in bytes, is shown in pieces.
const MAX_LINE: u64 = 64 * 1024;

/// Colours that can be distinguished on dark and light backgrounds, and differ from those of workers.
const COLOURS: [u8; 6] = [95, 94, 96, 93, 92, 91];

pub(super) fn run(context: &Context, apps: &[NamedSpec], call: Call) -> Result<(), Failure> {
    crate::cli::context::require_root("run")?;
    if call.detach {
        super::block_on(in_background(context, apps, call.verbosity))?
    } else {
        super::block_on(here(apps, call.verbosity))?
    }
}

/// Starts the apps one after the other. If one fails, the others are started anyway.
async fn in_background(context: &Context, apps: &[NamedSpec], verbosity: u8) -> Result<(), Failure> {
    let mut outcomes = Vec::new();
    let mut worst: Option<ErrorKind> = None;
    for NamedSpec { name, spec } in apps {
        let (outcome, line) = match handover::start_in_background(spec, verbosity).await {
            Ok(started) => (outcome(name, Some(started.pid), None), started.to_line()),
            Err(failure) => {
                worst = worst
                    .into_iter()
                    .chain([failure.kind])
                    .max_by_key(|kind| kind.exit_code());
                let mut line = format!("{name} does not run: {}\n  → {}", failure.error, failure.hint);
                for output in &failure.output {
                    line.push_str(&format!("\n{OUTPUT_MARK}{output}"));
                }
                (outcome(name, None, Some(failure)), line)
            }
        };
        if !context.json {
            output::print(&format!("{line}\n"))?;
        }
        outcomes.push(outcome);
    }
    let Some(kind) = worst else {
        return if context.json {
            output::print_json(&output::Okay::new(Apps { apps: outcomes }))
        } else {
            Ok(())
        };
    };
    let failed: Vec<&str> = outcomes
        .iter()
        .filter(|app| app.error.is_some())
        .map(|app| app.app.as_str())
        .collect();
    let error = format!(
        "{} of {} apps did not start: {}",
        failed.len(),
        outcomes.len(),
        failed.join(", ")
    );
    let mut failure = Failure::failed(error, "the others run: see `reuse-ctl ls`");
    failure.kind = kind;
    Err(failure.with_detail(Apps { apps: outcomes }))
}

/// The outcomes of several apps.
#[derive(Serialize)]
struct Apps {
    /// In the order in which they were started.
    apps: Vec<AppOutcome>,
}

/// The outcome of one of several apps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct AppOutcome {
    /// Its name.
    app: String,
    /// The pid of its controller, if it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    /// Why it doesn't run.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// What to do about the error.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

fn outcome(name: &str, pid: Option<u32>, failure: Option<Failure>) -> AppOutcome {
    let (error, hint) = failure.map(|failure| (failure.error, failure.hint.to_string())).unzip();
    AppOutcome {
        app: name.to_owned(),
        pid,
        error,
        hint,
    }
}

/// Runs the apps as child processes until all have ended.
async fn here(apps: &[NamedSpec], verbosity: u8) -> Result<(), Failure> {
    // Before any process is started that a signal would have to stop.
    let mut asked = signals().map_err(|error| Failure::failed(format!("sigaction: {error}"), ""))?;
    let (forward, _) = broadcast::channel(16);
    let (reading, read) = channel::<()>();
    let width = apps.iter().map(|app| app.name.len()).max().unwrap_or(0);
    let mut running = JoinSet::new();
    let mut failed = Vec::new();
    for (number, app) in apps.iter().enumerate() {
        let label = Label {
            name: &app.name,
            width,
            number,
        };
        match start(app, &label, verbosity, &reading) {
            Ok(child) => {
                let (name, signals) = (app.name.clone(), forward.subscribe());
                running.spawn(async move { (name, until_ended(child, signals).await) });
            }
            Err(error) => failed.push(format!("{} was not started: {error}", app.name)),
        }
    }
    drop(reading);
    loop {
        tokio::select! {
            ended = running.join_next() => match ended {
                Some(Ok((name, Ok(status)))) if !status.success() => failed.push(format!("{name}: {status}")),
                Some(Ok((name, Err(error)))) => failed.push(format!("{name}: wait: {error}")),
                Some(Ok(_)) => {}
                Some(Err(error)) => std::panic::resume_unwind(error.into_panic()),
                None => break,
            },
            // Sending fails if the last controller has just ended.
            Some(signal) = asked.recv() => drop(forward.send(signal)),
        }
    }
    // Waits for the last lines, but not for a reader that takes none.
    let (Ok(()) | Err(RecvTimeoutError::Disconnected | RecvTimeoutError::Timeout)) = read.recv_timeout(LAST_LINES);
    if failed.is_empty() {
        return Ok(());
    }
    let error = format!("{} of {} apps failed: {}", failed.len(), apps.len(), failed.join("; "));
    Err(Failure::failed(error, "their messages above tell why"))
}

/// Receives the signals that are passed on.
fn signals() -> io::Result<mpsc::Receiver<Signal>> {
    let (sender, receiver) = mpsc::channel(16);
    let in_terminal = has_terminal();
    for forwarded in FORWARDED {
        // As in a single controller: `nohup` stays in force, and signals that the terminal sends to jobs stop them as usual.
        let is_left_alone = match forwarded {
            Signal::SIGHUP => is_ignored(forwarded as i32),
            Signal::SIGTTIN | Signal::SIGTTOU => in_terminal,
            _ => false,
        };
        if is_left_alone {
            continue;
        }
        let mut stream = signal(SignalKind::from_raw(forwarded as i32))?;
        let sender = sender.clone();
        // If the terminal is closed, the user of this program is gone; otherwise SIGHUP is a request.
        let meant = if forwarded == Signal::SIGHUP && in_terminal {
            Signal::SIGTERM
        } else {
            forwarded
        };
        tokio::spawn(async move { while stream.recv().await.is_some() && sender.send(meant).await.is_ok() {} });
    }
    Ok(receiver)
}

/// The label in front of an app's lines.
struct Label<'a> {
    name: &'a str,
    width: usize,
    number: usize,
}

impl Label<'_> {
    fn text(&self, is_terminal: bool) -> String {
        let Self { name, width, number } = *self;
        let colour = is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        if colour {
            format!("\x1b[{}m{name:width$} |\x1b[0m ", COLOURS[number % COLOURS.len()])
        } else {
            format!("{name:width$} | ")
        }
    }
}

/// Starts a controller whose output goes to pipes of this process. It has its own process group; otherwise Ctrl-C would reach it twice,
/// from the terminal and from this process.
fn start(app: &NamedSpec, label: &Label<'_>, verbosity: u8, reading: &Sender<()>) -> io::Result<Child> {
    let (stdout, to_stdout) = io::pipe()?;
    let (stderr, to_stderr) = io::pipe()?;
    let mut command = handover::controller(&app.spec, verbosity, false)?;
    command.stdout(to_stdout).stderr(to_stderr).process_group(0);
    // One of several apps can't speak for all to a service manager.
    for variable in ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"] {
        command.env_remove(variable);
    }
    // SAFETY: prctl is a bare system call; nothing of the parent's state is touched between fork and exec.
    unsafe {
        // Stopped together with this process, even if that is killed.
        command.pre_exec(|| prctl::set_pdeathsig(Signal::SIGTERM).map_err(io::Error::from));
    }
    let child = Command::from(command).spawn()?;
    show(
        stdout,
        label.text(io::stdout().is_terminal()),
        io::stdout,
        reading.clone(),
    );
    show(
        stderr,
        label.text(io::stderr().is_terminal()),
        io::stderr,
        reading.clone(),
    );
    Ok(child)
}

/// Copies lines in a thread of its own, so that a blocked terminal (Ctrl-S) doesn't prevent signals from being passed on. The controllers
/// don't wait for the terminal either: they drop lines, and say how many when it accepts output again.
fn show<W: Write>(from: PipeReader, label: String, to: impl Fn() -> W + Send + 'static, reading: Sender<()>) {
    std::thread::spawn(move || {
        let mut lines = BufReader::new(from);
        let mut line = Vec::new();
        loop {
            line.clear();
            line.extend_from_slice(label.as_bytes());
            match lines.by_ref().take(MAX_LINE).read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
            if line.last() != Some(&b'\n') {
                line.push(b'\n');
            }
            // If the terminal is gone, there is nobody to tell, but the pipe must still be emptied.
            drop(to().write_all(&line));
        }
        drop(reading);
    });
}

async fn until_ended(mut child: Child, mut signals: broadcast::Receiver<Signal>) -> io::Result<ExitStatus> {
    loop {
        tokio::select! {
            ended = child.wait() => return ended,
            signal = signals.recv() => {
                let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
                if let (Ok(signal), Some(pid)) = (signal, pid) {
                    // The child has not been waited for, so the pid is its own; if it has ended, that is reported above.
                    let (Ok(()) | Err(_)) = kill(Pid::from_raw(pid), signal);
                }
            }
        }
    }
}
