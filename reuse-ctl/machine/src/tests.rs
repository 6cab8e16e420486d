//! Scripts, one file a rule, and properties under arbitrary inputs.

mod apply;
mod canary;
mod crash;
mod drain;
mod ending;
mod events;
mod health;
mod hung;
mod properties;
mod referee;
mod reload;
mod restart;
mod rollout;
mod scale;
mod settle;
mod shares;
mod sight;
mod start;
mod stop;
mod traffic;
mod versions;
pub(super) mod world;
