//! The product, run as a person runs it: `reuse-ctl run … -- server`, in the foreground, with its output in a file.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, setsid};

use crate::run::Output;
use crate::scratch::Scratch;
use crate::status::Status;
use crate::{binaries, control, leftovers, run, wait};

/// How long the workers of a test may take to be active: the machine may be busy.
const START_LIMIT: Duration = Duration::from_secs(40);

/// How long any one verb may take.
const VERB_LIMIT: Duration = Duration::from_secs(90);

/// What to run, and how.
#[derive(Debug)]
pub struct Launch {
    name: String,
    options: Vec<String>,
    environment: Vec<(String, String)>,
    directory: Option<PathBuf>,
    own_session: bool,
}

impl Launch {
    /// `reuse-ctl run` with these options, and a name that no other test has.
    pub fn new(options: &[&str]) -> Self {
        Self {
            name: fresh_name(),
            options: owned(options),
            environment: Vec::new(),
            directory: None,
            own_session: false,
        }
    }

    /// Sets a variable of the controller's environment.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Runs in that folder.
    pub fn directory(mut self, folder: &Path) -> Self {
        self.directory = Some(folder.to_owned());
        self
    }

    /// In a session of its own, without a terminal, as a service manager starts it.
    pub fn own_session(mut self) -> Self {
        self.own_session = true;
        self
    }

    /// Uses a given name instead.
    pub fn name(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// The command, for a test that starts it in a way of its own.
    pub fn command(&self, command: &[impl AsRef<OsStr>]) -> Command {
        let mut run = controller_command();
        run.arg("run")
            .args(["--name", &self.name])
            .args(&self.options)
            .arg("--")
            .args(command);
        run.envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Some(folder) = &self.directory {
            run.current_dir(folder);
        }
        run
    }

    /// Starts the controller and does not wait for anything.
    pub fn start(&self, command: &[impl AsRef<OsStr>]) -> App {
        self.start_with(command, |_| {})
    }

    /// The same, prepared further.
    pub fn start_with(&self, command: &[impl AsRef<OsStr>], prepare: impl FnOnce(&mut Command)) -> App {
        let scratch = Scratch::new();
        let log = File::create(scratch.path().join("output")).expect("create the controller's output file");
        let mut run = self.command(command);
        prepare(&mut run);
        run.stdin(Stdio::null())
            .stdout(log.try_clone().expect("duplicate a descriptor"))
            .stderr(log);
        let own_session = self.own_session;
        if !own_session {
            run.process_group(0);
        }
        // SAFETY: setsid and prctl are bare system calls; nothing of the parent's state is touched between fork and exec.
        unsafe {
            run.pre_exec(move || {
                if own_session {
                    setsid()?;
                }
                // A test run that is cut short must not leave apps behind.
                prctl::set_pdeathsig(Signal::SIGTERM).map_err(io::Error::from)
            });
        }
        let controller = run.spawn().unwrap_or_else(|error| panic!("{run:?}: {error}"));
        App {
            name: self.name.clone(),
            controller: Some(controller),
            ended: None,
            scratch,
        }
    }

    /// Starts the controller and waits until all of its `--workers` are active.
    #[track_caller]
    pub fn run(&self, command: &[impl AsRef<OsStr>]) -> App {
        let mut app = self.start(command);
        let workers = self.workers();
        app.wait_all_active(workers);
        app
    }

    /// Starts a controller that is expected to give up by itself.
    #[track_caller]
    pub fn to_end(&self, command: &[impl AsRef<OsStr>], limit: Duration) -> Output {
        run::to_end(&mut self.command(command), limit)
    }

    /// The app's name.
    pub fn app_name(&self) -> &str {
        &self.name
    }

    fn workers(&self) -> usize {
        let given = self
            .options
            .iter()
            .position(|option| option == "--workers")
            .and_then(|at| self.options.get(at + 1));
        given.and_then(|count| count.parse().ok()).unwrap_or(1)
    }
}

/// A running app.
#[derive(Debug)]
pub struct App {
    name: String,
    controller: Option<Child>,
    ended: Option<ExitStatus>,
    scratch: Scratch,
}

impl App {
    /// Runs `command` with these options of `run`, and waits until all workers are active.
    #[track_caller]
    pub fn run(options: &[&str], command: &[impl AsRef<OsStr>]) -> Self {
        Launch::new(options).run(command)
    }

    /// Takes charge of an app that was started with `--detach`.
    pub fn detached(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            controller: None,
            ended: None,
            scratch: Scratch::new(),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its control socket.
    pub fn socket(&self) -> PathBuf {
        leftovers::run_folder(&self.name).join("control.sock")
    }

    /// The controller's process.
    pub fn pid(&self) -> i32 {
        match &self.controller {
            Some(child) => i32::try_from(child.id()).expect("a process id"),
            None => i32::try_from(self.status().pid).expect("a process id"),
        }
    }

    /// What the controller has written so far.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.scratch.path().join("output")).unwrap_or_default()).into_owned()
    }

    /// The status, when somebody answers.
    pub fn try_status(&self) -> Option<Status> {
        let (code, body) = control::request(&self.socket(), "GET", "/v1/status", "")?;
        assert_eq!(code, 200, "GET /v1/status: {body}");
        Some(serde_json::from_str(&body).unwrap_or_else(|error| panic!("the status does not parse: {error}\n{body}")))
    }

    /// The status.
    ///
    /// # Panics
    /// When nobody answers on the control socket.
    #[track_caller]
    pub fn status(&self) -> Status {
        self.try_status()
            .unwrap_or_else(|| panic!("{} does not answer; it wrote:\n{}", self.name, self.output()))
    }

    /// `reuse-ctl VERB… --app NAME`.
    #[track_caller]
    pub fn ctl(&self, arguments: &[&str]) -> Output {
        run::to_end(&mut self.ctl_command(arguments), VERB_LIMIT)
    }

    /// `reuse-ctl canary --app NAME --weight WEIGHT -- COMMAND…`.
    #[track_caller]
    pub fn canary(&self, weight: &str, command: &[impl AsRef<OsStr>]) -> Output {
        let mut canary = self.ctl_command(&["canary"]);
        run::to_end(canary.args(["--weight", weight, "--"]).args(command), VERB_LIMIT)
    }

    /// As [`Self::ctl`], started and left running.
    pub fn ctl_start(&self, arguments: &[&str]) -> Verb {
        let mut command = self.ctl_command(arguments);
        Verb {
            thread: thread::spawn(move || run::to_end(&mut command, VERB_LIMIT)),
        }
    }

    /// Waits until the status is as `wanted` says.
    #[track_caller]
    pub fn wait_status(&self, what: &str, limit: Duration, wanted: impl Fn(&Status) -> bool) -> Status {
        let mut last = None;
        let found = wait::poll(limit, || {
            last = self.try_status();
            last.clone().filter(|status| wanted(status))
        });
        found.unwrap_or_else(|| {
            panic!(
                "waited {limit:?} in vain until {what}; last status: {last:#?}\nthe controller wrote:\n{}",
                self.output()
            )
        })
    }

    /// Waits until all of `count` workers are active, one instance each.
    #[track_caller]
    pub fn wait_all_active(&mut self, count: usize) -> Status {
        let found = wait::poll(START_LIMIT, || {
            if let Some(status) = self.exited() {
                panic!(
                    "the controller ended ({status}) before its workers were active; it wrote:\n{}",
                    self.output()
                );
            }
            self.try_status().filter(|status| status.all_active(count))
        });
        found.unwrap_or_else(|| {
            panic!(
                "not all of {count} workers are active after {START_LIMIT:?}: {:#?}\nthe controller wrote:\n{}",
                self.try_status(),
                self.output()
            )
        })
    }

    /// Sends the controller a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).expect("signal the controller");
    }

    /// Waits until the controller has ended, and says how.
    #[track_caller]
    pub fn wait_exit(&mut self, limit: Duration) -> ExitStatus {
        wait::poll(limit, || self.exited()).unwrap_or_else(|| {
            panic!(
                "the controller has not ended after {limit:?}; it wrote:\n{}",
                self.output()
            )
        })
    }

    /// `reuse-ctl stop`, which must succeed and leave nothing behind.
    #[track_caller]
    pub fn stop(mut self) {
        self.ctl(&["stop"]).expect_code(0);
        if self.controller.is_some() {
            let status = self.wait_exit(Duration::from_secs(30));
            assert_eq!(
                status.code(),
                Some(0),
                "the controller's exit after stop (signal {:?}); it wrote:\n{}",
                status.signal(),
                self.output()
            );
        }
        leftovers::assert_nothing_left(&self.name);
    }

    fn exited(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self
                .controller
                .as_mut()
                .and_then(|child| child.try_wait().expect("wait for a child of ours"));
        }
        self.ended
    }

    fn ctl_command(&self, arguments: &[&str]) -> Command {
        let mut command = controller_command();
        command.args(arguments).args(["--app", &self.name]);
        command
    }
}

impl Drop for App {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("---- the controller of {} wrote:\n{}----", self.name, self.output());
        }
        if self.exited().is_none()
            && let Some(child) = &mut self.controller
        {
            // The test is over; whether the app ends well was for `stop` to show.
            drop(child.kill());
            drop(child.wait());
        }
        leftovers::clear(&self.name);
    }
}

/// A verb that runs beside the test.
#[derive(Debug)]
pub struct Verb {
    thread: thread::JoinHandle<Output>,
}

impl Verb {
    /// Whether it has returned.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Its output, once it has returned.
    #[track_caller]
    pub fn join(self) -> Output {
        self.thread.join().expect("the verb returns within its bound")
    }
}

/// `reuse-ctl` without arguments, in an environment that is the same on every machine.
pub fn controller_command() -> Command {
    let mut command = Command::new(binaries::reuse_ctl());
    for name in [
        "SUDO_UID",
        "SUDO_GID",
        "SUDO_USER",
        "REUSE_APP",
        "NOTIFY_SOCKET",
        "LISTEN_FDS",
        "LISTEN_PID",
    ] {
        command.env_remove(name);
    }
    command
}

/// `t-<test>-<process>-<number>`.
fn fresh_name() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let thread = thread::current();
    let test = thread
        .name()
        .unwrap_or("test")
        .rsplit("::")
        .next()
        .unwrap_or("test")
        .replace('_', "-");
    let test: String = test.chars().take(30).collect();
    format!(
        "t-{test}-{}-{}",
        std::process::id(),
        NUMBER.fetch_add(1, Ordering::Relaxed)
    )
}

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}
