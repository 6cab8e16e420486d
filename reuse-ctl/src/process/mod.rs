//! Starts and ends processes: who they run as ([`identity`]), what is run ([`command`]), in which cgroup ([`cgroup`]), how it
//! gets there ([`launch`], [`shim`]), with which variables ([`variables`], [`environment`]), what is said to it and what it says ([`channel`]),
//! what it writes ([`logs`]) and uses ([`usage`]), and where the app keeps its files ([`paths`]).
//!
//! Plain Linux: nothing here knows of BPF.

pub mod cgroup;
pub mod cgroup_limits;
mod cgroup_tree;
pub mod channel;
mod clone;
pub mod command;
pub mod descriptors;
pub mod env_file;
pub mod environment;
pub mod file_identity;
pub mod freeze;
pub mod handle;
pub mod hold;
pub mod identity;
pub mod journal;
pub mod known_servers;
pub mod launch;
pub mod listen;
mod lock;
pub mod logs;
pub mod open_as;
pub(crate) mod os_text;
pub mod own_priority;
pub mod paths;
pub mod shared_folder;
pub mod shim;
pub mod socket;
pub mod stop_plan;
pub mod stop_steps;
pub mod terminal_signals;
pub mod thaw_guard;
pub mod usage;
pub mod variables;
