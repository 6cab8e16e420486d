//! The real PM2, which the product is compared with.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::binaries::{node24, pm2};
use crate::run::{self, Output};
use crate::scratch::Scratch;
use crate::wait;

/// How long one of PM2's commands may take.
pub const COMMAND_LIMIT: Duration = Duration::from_secs(30);

/// The name of an app that is alone.
pub const NAME: &str = "web";

/// A PM2 with a home and a daemon of its own, which ends with this value.
#[derive(Debug)]
pub struct Pm2 {
    home: Scratch,
}

impl Pm2 {
    /// Without an app.
    #[expect(clippy::new_without_default, reason = "making a folder is not a default value")]
    pub fn new() -> Self {
        Self { home: Scratch::new() }
    }

    /// With one app, [`NAME`].
    pub fn start(app: &serde_json::Value) -> Self {
        let own = Self::new();
        own.add(NAME, app);
        own
    }

    /// Starts an app, and waits until PM2 says that it has.
    ///
    /// # Panics
    /// When it does not.
    pub fn add(&self, name: &str, app: &serde_json::Value) {
        let mut app = app.clone();
        app["name"] = name.into();
        let text = serde_json::json!({ "apps": [app] }).to_string();
        let file = self.home.write(&format!("{name}.json"), &text);
        self.call(&["start", file.to_str().expect("a plain path")])
            .expect_code(0);
    }

    /// One of its commands, run to its end.
    pub fn call(&self, arguments: &[&str]) -> Output {
        run::to_end(&mut self.command(arguments), COMMAND_LIMIT)
    }

    /// One of its commands, to be run.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(node24());
        command
            .arg(pm2("bin/pm2"))
            .args(arguments)
            .env("PM2_HOME", self.home.path())
            .env("PM2_DISABLE_VERSION_CHECK", "true");
        command
    }

    /// Where it keeps everything.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// How often it has restarted its processes, all together.
    ///
    /// # Panics
    /// When its list is none.
    pub fn restarts(&self) -> u64 {
        let list = self.call(&["jlist"]).expect_code(0).stdout;
        // What it has to say to people comes before.
        let json = list.lines().rev().find(|line| line.starts_with('['));
        let list: serde_json::Value = serde_json::from_str(json.expect("a list")).expect("JSON");
        let of = |process: &serde_json::Value| process["pm2_env"]["restart_time"].as_u64().expect("a number");
        list.as_array().expect("a list").iter().map(of).sum()
    }

    fn daemon(&self) -> Option<Pid> {
        let text = fs::read_to_string(self.home.path().join("pm2.pid")).ok()?;
        text.trim().parse().ok().map(Pid::from_raw)
    }
}

impl Drop for Pm2 {
    fn drop(&mut self) {
        let Some(daemon) = self.daemon() else { return };
        // It takes its processes along.
        let is_gone = || kill(daemon, None).is_err() || is_zombie(daemon);
        let asked = kill(daemon, Signal::SIGTERM);
        if asked.is_ok() && wait::poll(Duration::from_secs(5), || is_gone().then_some(())).is_none() {
            kill(daemon, Signal::SIGKILL).expect("kill a daemon of ours");
        }
    }
}

/// Nobody may be there to wait for a daemon.
fn is_zombie(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z'))
}
