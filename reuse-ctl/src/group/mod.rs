//! The listeners of an app: which there are, whose they are, and which of them may be chosen.
//!
//! [`Groups`] owns the BPF side and everything about members; the supervisor's task tells it what appeared, what is gone and what is
//! published, and asks it what each instance serves. A *group* is made when the first listener on an address appears, or before
//! any worker for `--listen`; its *backstop* keeps it and its program alive and takes connections while nobody is published.

mod backstop;
mod error;
mod groups;
mod listeners;
mod member;
mod neighbours;
mod one;
mod probe;
mod registry;
mod rescue;

pub mod diag;
pub mod discover;

pub use backstop::Guard;
pub use error::GroupError;
pub use groups::{Choosable, Groups, GroupsOptions};
pub use listeners::{Appeared, Listening};
pub use one::GroupView;
pub use probe::{Opened, Probe};
pub use registry::{Counters, Registry};
