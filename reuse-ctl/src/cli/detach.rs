//! `run --detach`: starts a controller in its own session, and waits until its workers are active.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Child;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::output;
use crate::{
    app::{AppSpec, names::paths_of, options::RunOptions},
    base::{ErrorKind, Failure, OutputOf, SlotId, WorkerState, count, failure::OUTPUT_MARK},
    cli::{context::Context, handover},
    client::Client,
    process::logs::{self, Range, last_lines},
    wire::{Status, StopRequest, WorkerStatus},
};

const POLL: Duration = Duration::from_millis(50);
/// Time allowed in addition to the start of one worker, for the setup before it and a retry or two.
const SLACK: Duration = Duration::from_secs(30);
/// Time within which an app ends by itself if all of its workers have failed without ever having served. An app that has served stays.
const ENDS_BY_ITSELF: Duration = Duration::from_secs(1);
/// Number of lines shown of the controller's log, or of a worker's output, if it fails.
const TAIL_LINES: usize = 20;
/// Number of last lines in which the controller's own error is searched.
const LAST_LINES: usize = 1000;

/// An app that was started in the background and whose workers are all active.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Started {
    /// Its name.
    pub(crate) app: String,
    /// The pid of its controller.
    pub(crate) pid: u32,
    #[serde(skip)]
    pub(crate) workers: usize,
    /// The addresses that it serves, as shown to users.
    #[serde(skip)]
    pub(crate) addresses: Vec<String>,
}

impl Started {
    /// The result in one line for the user.
    pub(crate) fn to_line(&self) -> String {
        let workers = count(self.workers, "worker");
        let place = if self.addresses.is_empty() {
            ", listening nowhere".to_owned()
        } else {
            format!(" on {}", self.addresses.join(" "))
        };
        format!("{} runs: {workers}{place}", self.app)
    }
}

/// Starts one app in the background, and reports the result.
pub(super) fn run(context: &Context, spec: &AppSpec, verbosity: u8) -> Result<(), Failure> {
    let started = super::block_on(start(spec, verbosity))??;
    if context.json {
        return output::print_json(&output::Okay::new(started));
    }
    output::print(&format!("{}\n", started.to_line()))
}

/// Starts an app in the background and waits until all its workers are active.
///
/// # Errors
/// Fails if the app could not be started, a worker has failed, or a deadline has passed.
pub(crate) async fn start(spec: &AppSpec, verbosity: u8) -> Result<Started, Failure> {
    let options = spec.resolve()?;
    let log = ControllerLog::open(&options.name)?;
    let outputs = WorkerOutputs::begin(&options)?;
    let mut child = spawn(spec, verbosity, &log)?;
    let status = ready(&mut child, &log, &outputs, &options).await?;
    Ok(Started {
        app: status.app,
        pid: status.pid,
        workers: status.workers.len(),
        addresses: status.groups.into_iter().map(|group| group.addr).collect(),
    })
}

fn spawn(spec: &AppSpec, verbosity: u8, log: &ControllerLog) -> Result<Child, Failure> {
    let failed = |call: &str, error: io::Error| {
        Failure::failed(format!("{call}: {error}"), "run it without --detach to see more")
    };
    let mut command = handover::controller(spec, verbosity, true).map_err(|error| failed("memfd_create", error))?;
    command.stdout(log.file.try_clone().map_err(|error| failed("dup", error))?);
    command.stderr(log.file.try_clone().map_err(|error| failed("dup", error))?);
    // SAFETY: between fork and exec only setsid(2) is called, which is async-signal-safe and touches no memory.
    unsafe { command.pre_exec(|| nix::unistd::setsid().map(drop).map_err(io::Error::from)) };
    command
        .spawn()
        .map_err(|error| failed("start the controller in the background", error))
}

/// Waits until every worker is active.
async fn ready(
    child: &mut Child,
    log: &ControllerLog,
    outputs: &WorkerOutputs,
    options: &RunOptions,
) -> Result<Status, Failure> {
    let deadline = Instant::now() + options.ready.timeout + SLACK;
    let mut all_failed_at = None;
    loop {
        let exited = child
            .try_wait()
            .map_err(|error| Failure::failed(format!("wait: {error}"), "see `reuse-ctl ls`"))?;
        if let Some(exit) = exited {
            return Err(log.why_it_ended(exit.code()));
        }
        if let Some(status) = status_of(&options.name, child.id()).await {
            if !status.workers.is_empty() && status.workers.iter().all(|worker| worker.state == WorkerState::Active) {
                return Ok(status);
            }
            if let Some(problem) = &status.problem {
                // If no worker ever served, the controller cleans up and ends by itself; that is handled above.
                if all_failed_at.get_or_insert_with(Instant::now).elapsed() > ENDS_BY_ITSELF {
                    let failure = Failure::failed(problem, "");
                    let failure = outputs.add_to(failure, &status.workers);
                    return Err(never_up(child, options, failure).await);
                }
                tokio::time::sleep(POLL).await;
                continue;
            }
            all_failed_at = None;
            let is_settled = |worker: &WorkerStatus| matches!(worker.state, WorkerState::Active | WorkerState::Failed);
            let some_serve = status.workers.iter().any(|worker| worker.state == WorkerState::Active);
            if some_serve
                && status.workers.iter().all(is_settled)
                && let Some(worker) = status.workers.iter().find(|worker| worker.state == WorkerState::Failed)
            {
                let reason = worker.reason.as_deref().unwrap_or("it never got ready");
                let hint = format!(
                    "the app goes on with the others: `reuse-ctl --app {0} logs {1}`",
                    options.name, worker.id
                );
                return Err(Failure::failed(format!("worker {}: {reason}", worker.id), hint));
            }
        }
        if Instant::now() > deadline {
            return Err(Failure::timeout(
                format!("{} is not ready, and goes on trying in the background", options.name),
                format!(
                    "see `reuse-ctl --app {0} status`; `reuse-ctl --app {0} stop` ends it",
                    options.name
                ),
            ));
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Handles an app whose workers have all failed right after they became active: an app that could not be started must leave nothing behind.
async fn never_up(child: &mut Child, options: &RunOptions, mut failure: Failure) -> Failure {
    let stop = async {
        let client = Client::connect(&paths_of(&options.name).ok()?.control_socket())
            .await
            .ok()?;
        let now = StopRequest { timeout_ms: Some(0) };
        client.command(hyper::Method::POST, "/v1/stop", &now).await.ok()
    };
    failure.hint = format!(
        "see `reuse-ctl logs --app {0}`, or the files in /var/log/reuse-ctl/{0}",
        options.name
    )
    .into();
    let deadline = Instant::now() + SLACK;
    drop(stop.await);
    while matches!(child.try_wait(), Ok(None)) {
        if Instant::now() > deadline {
            failure.hint = format!("it is still there: `reuse-ctl stop --app {}`", options.name).into();
            return failure;
        }
        tokio::time::sleep(POLL).await;
    }
    failure
}

/// The app's status, if this controller answers and not another one with the same name.
async fn status_of(name: &str, controller: u32) -> Option<Status> {
    let client = Client::connect(&paths_of(name).ok()?.control_socket()).await.ok()?;
    client.status().await.ok().filter(|status| status.pid == controller)
}

/// The log of a detached controller. `start` is where this controller's part begins, whatever was rotated before or since.
struct ControllerLog {
    file: File,
    path: PathBuf,
    start: u64,
}

impl ControllerLog {
    fn open(name: &str) -> Result<Self, Failure> {
        let paths = paths_of(name)?;
        let path = paths.controller_log();
        let opened =
            fs::create_dir_all(paths.log_dir()).and_then(|()| OpenOptions::new().create(true).append(true).open(&path));
        let file = opened.map_err(|error| {
            Failure::failed(
                format!("open {}: {error}", path.display()),
                "make room, or correct the permissions of the folder",
            )
        })?;
        let start = logs::len(&path);
        Ok(Self { file, path, start })
    }

    fn why_it_ended(&self, code: Option<i32>) -> Failure {
        // The log may have been rotated meanwhile.
        let read = Range::behind(&self.path, self.start).and_then(|range| last_lines(&[range], LAST_LINES));
        let lines = read.unwrap_or_default();
        let mut failure = last_words(&lines, code);
        if failure.hint.is_empty() {
            failure.hint = format!("see {}", self.path.display()).into();
        }
        failure
    }
}

/// The workers' logs, and where the output of this start begins: earlier workers have written to the same files.
struct WorkerOutputs {
    /// By slot: standard output and standard error.
    logs: Vec<[(PathBuf, u64); 2]>,
}

impl WorkerOutputs {
    fn begin(options: &RunOptions) -> Result<Self, Failure> {
        let paths = paths_of(&options.name)?;
        let slots = (0..options.workers).map(SlotId);
        let logs = slots.map(|slot| {
            [paths.log_file(slot), paths.err_log_file(slot)].map(|log| {
                let start = logs::len(&log);
                (log, start)
            })
        });
        Ok(Self { logs: logs.collect() })
    }

    /// Adds the last lines of the worker whose failure is reported: the last one with a reason and any output, or else any with output.
    fn add_to(&self, mut failure: Failure, workers: &[WorkerStatus]) -> Failure {
        let (told, others): (Vec<_>, Vec<_>) = workers.iter().rev().partition(|worker| worker.reason.is_some());
        let lines = told.into_iter().chain(others).map(|worker| self.last_lines(worker.id));
        failure.output = lines.into_iter().find(|lines| !lines.is_empty()).unwrap_or_default();
        failure
    }

    fn last_lines(&self, slot: u16) -> Vec<String> {
        let logs = self.logs.get(usize::from(slot)).into_iter().flatten();
        let ranges = logs.flat_map(|(log, start)| Range::behind(log, *start));
        last_lines(&ranges.collect::<Vec<_>>(), TAIL_LINES).unwrap_or_default()
    }
}

/// The last output of the controller: its own error, hint and worker's lines if there are any, else its last lines.
fn last_words(lines: &[String], code: Option<i32>) -> Failure {
    let kind = match code {
        Some(2) => ErrorKind::Usage,
        Some(3) => ErrorKind::NotFound,
        Some(4) => ErrorKind::Timeout,
        _ => ErrorKind::Failed,
    };
    let own = lines.iter().rposition(|line| line.starts_with("reuse-ctl: "));
    let how = code.map_or_else(|| "killed by a signal".into(), |code| format!("exit code {code}"));
    let Some(own) = own else {
        let mut failure = Failure::failed(
            format!("the controller ended ({how}) before the workers were active"),
            "",
        );
        failure.kind = kind;
        failure.output = lines[lines.len().saturating_sub(TAIL_LINES)..].to_vec();
        failure.output_of = Some(OutputOf::Controller);
        return failure;
    };
    let (error, rest) = lines[own..].split_first().expect("it was found there");
    let mut failure = Failure::failed(error.trim_start_matches("reuse-ctl: "), "");
    failure.kind = kind;
    if let Some(hint) = rest.iter().find_map(|line| line.strip_prefix("  → ")) {
        failure.hint = hint.into();
    }
    // Earlier lines were about other instances; the error says what matters of them.
    let of_worker = rest.iter().filter_map(|line| line.strip_prefix(OUTPUT_MARK));
    failure.output = of_worker.map(str::to_owned).collect();
    failure
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_controllers_own_words_are_passed_on() {
        let lines = [
            "reuse-ctl  worker 0 (pid 7) was not ready",
            "reuse-ctl: port 80 is taken",
            "  → stop 4711 (nginx)",
            "  the worker's last output:",
            "    | reuse-ctl: boom",
            "    | bang",
        ];
        let lines = lines.map(str::to_owned);
        let failure = last_words(&lines, Some(1));
        assert_eq!(
            (failure.error.as_str(), failure.hint.as_str()),
            ("port 80 is taken", "stop 4711 (nginx)")
        );
        assert_eq!(failure.output, ["reuse-ctl: boom", "bang"], "each thing is said once");
        let usage = ["reuse-ctl: unknown user x", "  → say another"].map(str::to_owned);
        assert!(last_words(&usage, Some(2)).output.is_empty());
        let cut_off = last_words(&["reuse-ctl  starting".into()], None);
        assert_eq!(cut_off.output, ["reuse-ctl  starting"]);
        assert_eq!(cut_off.output_of, Some(OutputOf::Controller));
        let failure = last_words(&[], None);
        assert_eq!(
            failure.error,
            "the controller ended (killed by a signal) before the workers were active"
        );
        assert_eq!(last_words(&["x".into()], Some(2)).kind, ErrorKind::Usage);
    }
}
