//! PM2, in the foreground as in a container (`pm2-runtime`: the same supervisor, which ends together with this program), with a home
//! folder of its own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use reuse_tests::binaries::{bun, node24, script};
use reuse_tests::run;
use reuse_tests::scratch::Scratch;

use crate::peers::WORKERS;
use crate::process::Server;

const NAME: &str = "bench";

/// How long one of its commands may take.
const COMMAND_LIMIT: Duration = Duration::from_secs(60);

/// A running PM2.
#[derive(Debug)]
pub(crate) struct Pm2 {
    home: PathBuf,
    _runtime: Server,
}

impl Pm2 {
    /// Four workers in cluster mode, which say when they are ready, as PM2's manual advises for a reload without loss.
    pub(crate) fn cluster(port: u16, scratch: &Scratch) -> anyhow::Result<Self> {
        Self::start(
            scratch,
            &serde_json::json!({
                "exec_mode": "cluster",
                "env": { "BENCH_PORT": port.to_string() },
                "wait_ready": true,
                "listen_timeout": 20_000,
                "kill_timeout": 20_000,
            }),
        )
    }

    /// Four Bun processes that share the port by `reusePort: true`; PM2 has no cluster mode for Bun.
    pub(crate) fn fork_with_bun(port: u16, scratch: &Scratch) -> anyhow::Result<Self> {
        Self::start(
            scratch,
            &serde_json::json!({
                "exec_mode": "fork",
                "interpreter": bun(),
                "args": [port.to_string(), "reuse-port"],
            }),
        )
    }

    /// `pm2 reload`, to its end.
    ///
    /// # Errors
    /// When it says that it failed.
    pub(crate) fn reload(&self) -> anyhow::Result<()> {
        let output = run::to_end(pm2("pm2", &self.home).args(["reload", NAME]), COMMAND_LIMIT);
        ensure!(output.code == Some(0), "pm2 reload: {}{}", output.stdout, output.stderr);
        Ok(())
    }

    fn start(scratch: &Scratch, options: &serde_json::Value) -> anyhow::Result<Self> {
        let home = scratch.path().to_owned();
        let mut app = options.clone();
        app["name"] = NAME.into();
        app["script"] = script("bench-server.js").into();
        app["instances"] = WORKERS.into();
        let file = scratch.write("app.json", &serde_json::json!({ "apps": [app] }).to_string());
        let file = file.to_str().context("a plain path")?;
        let mut command = pm2("pm2-runtime", &home);
        let runtime = Server::spawn(command.args(["start", file]), &home.join("output"))?;
        Ok(Self {
            home,
            _runtime: runtime,
        })
    }
}

/// One of its programs, in the namespace of its own that has no network to ask for news.
fn pm2(program: &str, home: &Path) -> Command {
    let mut command = Command::new(node24());
    command
        .arg(script(&format!("bench-peers/node_modules/pm2/bin/{program}")))
        .env("PM2_HOME", home)
        .env("PM2_DISABLE_VERSION_CHECK", "true");
    command
}
