//! The group folder.

pub mod diag;
pub mod discover;
