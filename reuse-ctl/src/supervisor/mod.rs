//! Decides what happens to each worker. [`core`] is the pure machine, the rest carries out what it says.

pub mod core;
pub mod interface;
