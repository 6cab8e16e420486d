//! The `reuse-ctl` program: a thin layer over the library of the same name.

use std::process::ExitCode;

use reuse_ctl::process::launch::{LAUNCH_VERB, shim_main};

fn main() -> ExitCode {
    // Before anything starts a thread: see the shim.
    if std::env::args_os().nth(1).is_some_and(|verb| verb == LAUNCH_VERB) {
        return shim_main();
    }
    ExitCode::SUCCESS
}
