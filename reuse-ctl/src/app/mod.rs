//! The configuration of an app: the options of `run` (which are also the keys of `reuse.toml`), their checks, their comparison, how they
//! are sent to a controller, and what they require of this machine.

pub mod arguments;
pub mod bounds;
pub mod command_line;
pub mod difference;
pub mod key_numbers;
mod key_words;
pub mod keys;
pub mod names;
pub mod options;
pub mod recycle_changes;
pub mod recycle_cron;
pub mod recycling;
pub mod requirements;
pub mod resolve;
pub mod spec;
pub mod words;

pub use options::RunOptions;
pub use spec::AppSpec;
