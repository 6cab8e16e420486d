//! The `reuse-ctl` command: hands the arguments to the library, and is the only place that prints an error.

use std::io::Write as _;
use std::process::ExitCode;

use reuse_ctl::cli;
use reuse_ctl::process::launch::{LAUNCH_VERB, shim_main};

fn main() -> ExitCode {
    // Before anything starts a thread: see the shim.
    if std::env::args_os().nth(1).is_some_and(|verb| verb == LAUNCH_VERB) {
        return shim_main();
    }
    let cli::Outcome { result, json } = cli::run(std::env::args_os());
    let Err(failure) = result else {
        return ExitCode::SUCCESS;
    };
    // Nobody is left to tell when these writes fail; the exit code still says it.
    drop(if json {
        writeln!(std::io::stdout(), "{}", failure.to_json())
    } else {
        write!(std::io::stderr(), "{}", failure.to_text())
    });
    ExitCode::from(failure.kind.exit_code())
}
