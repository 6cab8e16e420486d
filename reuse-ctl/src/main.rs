//! The `reuse-ctl` command: hands the arguments to the library, and is the only place that prints an error.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::mpsc::channel;
use std::time::Duration;

use reuse_ctl::base::Failure;
use reuse_ctl::cli;
use reuse_ctl::process::launch::{LAUNCH_VERB, shim_main};
use reuse_ctl::process::thaw_guard::{THAW_VERB, guard_main};

fn main() -> ExitCode {
    // Before anything starts a thread: see the shim.
    if std::env::args_os().nth(1).is_some_and(|verb| verb == LAUNCH_VERB) {
        return shim_main();
    }
    if std::env::args_os().nth(1).is_some_and(|verb| verb == THAW_VERB) {
        return guard_main();
    }
    let cli::Outcome { result, json, patience } = cli::run(std::env::args_os());
    let Err(failure) = result else {
        return ExitCode::SUCCESS;
    };
    let code = ExitCode::from(failure.kind.exit_code());
    match patience {
        Some(patience) => show_within(patience, failure, json),
        None => show(&failure, json),
    }
    code
}

fn show(failure: &Failure, json: bool) {
    // Nobody is left to tell when these writes fail; the exit code still says it.
    drop(if json {
        writeln!(std::io::stdout(), "{}", failure.to_json())
    } else {
        write!(std::io::stderr(), "{}", failure.to_text())
    });
}

/// Shows it, unless the terminal takes nothing for so long.
fn show_within(patience: Duration, failure: Failure, json: bool) {
    let (shown, is_shown) = channel();
    let show = move || {
        show(&failure, json);
        // Nobody waits for it any more when it came too late.
        let (Ok(()) | Err(_)) = shown.send(());
    };
    if std::thread::Builder::new().spawn(show).is_ok() {
        // Late or not, the process ends now.
        let (Ok(()) | Err(_)) = is_shown.recv_timeout(patience);
    }
}
