//! Scripts, one file a rule, and properties under arbitrary inputs.

mod crash;
mod drain;
mod ending;
mod events;
mod properties;
mod referee;
mod reload;
mod restart;
mod scale;
mod sight;
mod start;
mod stop;
pub(super) mod world;
