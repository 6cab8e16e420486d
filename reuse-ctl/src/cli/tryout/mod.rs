//! `try`: one instance of a server is started, looked at and ended, and what was seen is reported, as `doctor` reports on the machine.
//!
//! [`report`] has what was seen, [`judge`] says what follows from it (both pure), [`render`] shows it. `instance` starts the server under a controller of its
//! own, `processes` looks at what it runs and where that listens, `clients` are the connections that are open when the stop signal comes, `answer` reads
//! what comes back on them.

pub(super) mod answer;
mod clients;
mod instance;
pub(super) mod judge;
mod processes;
mod render;
pub(super) mod report;

pub(super) use instance::{Trial, examine};
pub(super) use render::{render, to_json};
