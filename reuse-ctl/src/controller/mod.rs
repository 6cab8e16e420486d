//! The composition root: creates what an app needs before its first worker, runs the app, and removes everything again. Also cleans up
//! after a killed controller.

pub mod leftovers;
mod setup;

pub use setup::run;
