//! The programs in the real kernel, each test in a network namespace of its own. Needs root and cgroup v2.
//!
//! Counters say what the programs did; a connection that arrived proves nothing.

mod choice;
mod directed;
mod empty;
mod flood;
mod in_flight;
mod migration;
mod queue;
mod rescue;
mod rig;
mod shares;
mod sticky;
mod wake;
