//! Apps as a file describes them (`reuse.toml`).
//!
//! Each becomes an [`AppSpec`]: the arguments that could stand behind `reuse-ctl run`, and variables for the workers' environment. So a key
//! is an option of `run` by construction, and is judged by the same code.

mod difference;
mod spec;

pub use difference::{Change, Difference, Way, difference};
pub use spec::AppSpec;
