//! The composition root: makes what an app needs before its first worker, runs it, and takes everything away again; and cleans up after a
//! controller that was killed.

pub mod leftovers;
mod setup;

pub use setup::run;
