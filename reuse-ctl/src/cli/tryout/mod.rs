//! `try`: starts one instance of a server, examines and stops it, and reports what was seen, as `doctor` does for the machine.
//!
//! [`report`] holds what was seen, [`judge`] says what follows from it (both are pure), [`render`] shows it. `instance` starts the server
//! under its own controller, `processes` looks at its processes and their listeners, `clients` has the connections that are open when the
//! stop signal is sent, `answer` parses the answers on them.

pub(super) mod answer;
mod clients;
mod instance;
pub(super) mod judge;
mod processes;
mod render;
pub(super) mod report;

pub(super) use instance::{Trial, examine};
pub(super) use render::{render, to_json};
