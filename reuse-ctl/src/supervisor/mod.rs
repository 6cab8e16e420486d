//! Decides what happens to each worker, and does it.
//!
//! [`core`] is the pure machine; [`task`] is the one owner of all mutable state: it turns what happens (requests, exits, notices
//! of listeners, time) into the machine's inputs and carries out its effects. [`setup`] makes what an app needs before its
//! first worker and takes it away again, whatever happens in between.

pub mod core;
pub mod interface;

mod console;
mod diagnosis;
mod effects;
pub mod leftovers;
mod live;
mod readiness;
mod setup;
mod status;
mod task;

pub use setup::run;
