//! Starts and stops processes: the user they run as ([`identity`]), the program to run ([`command`]), the cgroup ([`cgroup`]), starting it
//! ([`launch`], [`shim`]), its variables ([`variables`], [`environment`]), messages ([`channel`]), output ([`logs`]) and resource usage
//! ([`usage`]), and the paths of the app's files ([`paths`]).
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
