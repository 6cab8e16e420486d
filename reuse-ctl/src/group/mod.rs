//! The listeners of an app: which exist, which instance each belongs to, and which may be chosen.
//!
//! [`Groups`] owns the BPF side and all members. The supervisor's task reports listeners that appear and close, says which instances are
//! published, and asks which addresses each instance serves. A *group* is created when the first listener on an address appears, or before
//! any worker for `--listen`. Its *backstop* keeps the group and its program alive, and takes connections while nobody is published.

mod backstop;
mod closed;
mod directed;
mod error;
mod groups;
mod listeners;
mod member;
mod members;
mod neighbours;
mod one;
mod registry;
mod rescue;

pub mod diag;
pub mod discover;

pub use backstop::Guard;
pub use directed::{DirectedConnection, Opened};
pub use error::GroupError;
pub use groups::{Choosable, Groups, GroupsOptions};
pub use listeners::{Appeared, Listening};
pub use one::GroupView;
pub use registry::Registry;
