//! Starts and ends processes: who they run as ([`identity`]), what is run ([`command`]), in which cgroup ([`cgroup`]), how it
//! gets there ([`launch`], [`shim`]), what it writes ([`logs`]) and uses ([`usage`]), and where the app keeps its files ([`paths`]).
//!
//! Plain Linux: nothing here knows of BPF.

pub mod cgroup;
mod cgroup_tree;
mod clone;
pub mod command;
pub mod environment;
pub mod freeze;
pub mod handle;
pub mod identity;
pub mod journal;
pub mod launch;
pub mod listen;
mod lock;
pub mod logs;
pub(crate) mod os_text;
pub mod paths;
pub mod shim;
pub mod socket;
pub mod usage;
