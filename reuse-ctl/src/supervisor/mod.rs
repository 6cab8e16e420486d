//! Decides what happens to each worker, and does it.
//!
//! [`core`] is the pure machine; [`task`] is the one owner of all mutable state: it turns what happens (requests, exits, notices
//! of listeners, time) into the machine's inputs and carries out its effects. [`watch`] looks at the accept queues while there are
//! connections, [`sockets`] at all else now and then. [`setup`] makes what an app needs before its
//! first worker and takes it away again, whatever happens in between.

pub mod bus;
pub mod handle;

mod all_failed;
mod apply;
mod apply_words;
mod asks;
mod cadence;
mod connections;
mod console;
mod diagnosis;
mod effects;
mod errands;
mod faults;
mod happenings;
mod health;
pub mod leftovers;
mod live;
mod logs;
mod messages;
mod moves;
mod new_address;
mod ports;
mod quiesce;
mod readiness;
mod ready_notify;
mod recycle;
mod recycle_files;
mod recycle_rules;
mod recycle_words;
mod request;
mod service_manager;
mod setup;
pub(crate) mod signals;
mod sockets;
mod status;
mod stop_signal;
mod task;
mod template;
mod terminal;
mod wanted;
mod watch;

pub use setup::run;
