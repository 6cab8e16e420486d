//! Which values of the file may be written as numbers.

use std::ffi::OsStr;

use crate::app::keys::{Key, Keys, Kind};

/// Options that accept any text, and for which a number also has a meaning: a uid or a gid.
const NAMED_BY_NUMBER: [&str; 2] = ["user", "control_group"];

/// The numbers that may be written without quotes as a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Numbers {
    /// No numbers.
    None,
    /// Integers.
    Whole,
    /// Every number that the option accepts.
    Any,
}

impl Keys {
    /// Whether the option accepts any text.
    pub(crate) fn takes_any_text(&self, key: &Key) -> bool {
        self.judge(key, OsStr::new("any-text")).is_ok()
    }

    /// The numbers that may be written for a key. An option that accepts any text would accept a number as text too, which hardly anyone
    /// intends.
    pub(crate) fn numbers(&self, key: &Key) -> Numbers {
        if NAMED_BY_NUMBER.contains(&key.name.as_str()) {
            Numbers::Whole
        } else if key.kind == Kind::Flag || self.takes_any_text(key) {
            Numbers::None
        } else {
            Numbers::Any
        }
    }
}
