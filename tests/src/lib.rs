//! The harness of the scenario tests in `tests/`: a network namespace per test, the real `reuse-ctl`, real servers, real clients.
//!
//! The tests know the product only by its contract: its verbs and exit codes, the JSON of `status`, the control socket, and what
//! the kernel itself shows. [`status`] is therefore a second, independent description of that JSON.
//!
//! Panicking is how this crate reports: every failure says which wait or which step it was, and what the controller had printed.

pub mod app;
pub mod binaries;
pub mod bus;
pub mod commands;
pub mod control;
pub mod conversation;
pub mod events;
pub mod fault;
pub mod flood;
pub mod frozen;
pub mod heavy;
pub mod http;
pub mod in_flight;
pub mod interrupted;
pub mod kernel;
pub mod launcher;
pub mod leftovers;
pub mod load;
pub mod machine;
pub mod namespace;
pub mod open_loop;
pub mod plain_servers;
pub mod plot;
pub mod pm2;
pub mod reconcile;
pub mod rescue;
pub mod rescue_trial;
pub mod run;
pub mod scratch;
pub mod session;
pub mod site;
pub mod status;
mod subscription;
pub mod wait;
pub mod websocket;

pub use app::{App, Launch};
pub use commands::{PORT, SERVER};
pub use namespace::Namespace;
