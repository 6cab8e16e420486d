//! A small HTTP server with every habit, good or bad, that the tests need.
//!
//! It answers `SLOT PID LABEL`. On SIGTERM it closes its listeners, answers what it has, ends idle connections and exits.

mod listen;
mod serve;

use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;

/// How to behave.
#[derive(Debug, Parser)]
pub(crate) struct Options {
    /// Listens on ADDRESS:PORT; may be given several times.
    #[arg(long)]
    listen: Vec<std::net::SocketAddr>,
    /// Takes the listener at descriptor 3 (`LISTEN_FDS`) instead.
    #[arg(long)]
    inherited: bool,
    /// Sets `SO_REUSEPORT` itself.
    #[arg(long)]
    reuse_port: bool,
    /// Works so long before it listens.
    #[arg(long, default_value_t = 0)]
    boot_delay_ms: u64,
    /// Takes so long for each answer.
    #[arg(long, default_value_t = 0)]
    slow_ms: u64,
    /// The third word of each answer.
    #[arg(long, default_value = "")]
    label: String,
    /// Complains and exits with this code at once.
    #[arg(long)]
    exit_code: Option<u8>,
    /// Runs and never listens.
    #[arg(long)]
    never_listen: bool,
    /// Listens on a unix socket only.
    #[arg(long)]
    unix_only: Option<PathBuf>,
    /// Leaves the work, and the listener, to a child process.
    #[arg(long)]
    fork_helper: bool,
    /// Listens and never accepts.
    #[arg(long)]
    hang: bool,
    /// Ignores SIGTERM.
    #[arg(long)]
    stubborn: bool,
    /// Closes its listeners when it gets SIGUSR1, and opens them again at the next.
    #[arg(long)]
    toggle: bool,
}

fn main() -> anyhow::Result<ExitCode> {
    let options = Options::parse();
    if let Some(code) = options.exit_code {
        eprintln!("boom: this version does not work");
        return Ok(ExitCode::from(code));
    }
    #[expect(clippy::disallowed_methods, reason = "a slow boot is what was asked for")]
    thread::sleep(Duration::from_millis(options.boot_delay_ms));
    if options.never_listen {
        loop {
            thread::park();
        }
    }
    if let Some(path) = &options.unix_only {
        let _listener = UnixListener::bind(path).with_context(|| format!("bind {}", path.display()))?;
        loop {
            thread::park();
        }
    }
    if options.fork_helper {
        return leave_it_to_a_helper();
    }
    serve::serve(&options)?;
    Ok(ExitCode::SUCCESS)
}

/// The same server again as a child, without the option; this process only waits.
fn leave_it_to_a_helper() -> anyhow::Result<ExitCode> {
    let own = std::env::current_exe().context("own path")?;
    let mut helper = Command::new(own)
        .args(std::env::args().skip(1).filter(|argument| argument != "--fork-helper"))
        .spawn()
        .context("start the helper")?;
    let status = helper.wait().context("wait for the helper")?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
