//! The `reuse-ctl` command: hands the arguments to the library, and is the only place that prints an error.

use std::io::Write as _;
use std::process::ExitCode;

use reuse_ctl::{cli, process::launch};

fn main() -> ExitCode {
    // Before anything else: a worker's start must not depend on the person's environment or on how clap reads its command.
    if std::env::args_os()
        .nth(1)
        .is_some_and(|verb| verb == launch::LAUNCH_VERB)
    {
        return launch::shim_main();
    }
    let cli::Outcome { result, json } = cli::run(std::env::args_os());
    let Err(failure) = result else { return ExitCode::SUCCESS };
    // Nobody is left to tell when these writes fail; the exit code still says it.
    drop(if json {
        writeln!(std::io::stdout(), "{}", failure.to_json())
    } else {
        write!(std::io::stderr(), "{}", failure.to_text())
    });
    ExitCode::from(failure.kind.exit_code())
}
