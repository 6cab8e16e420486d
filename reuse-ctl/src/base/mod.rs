//! What every other folder may use: names, states, kinds of failure, words and units.

pub mod durations;
pub mod failure;
pub mod file_position;
#[cfg(test)]
pub(crate) mod manual;
pub mod nearest;
pub mod sizes;
pub mod toml_text;
pub mod whole_ms;

pub use failure::{Failure, OutputOf};
pub use file_position::FilePosition;
pub use reuse_machine::count;
pub use reuse_machine::ids::{InstanceId, Millis, RequestId, SlotId, VersionId};
pub use reuse_machine::interface::{Exit, MAX_WORKERS, Signal};
pub use reuse_machine::states::{ErrorKind, FaultKind, WorkerState};
pub use reuse_machine::text::{Text, Verb};
