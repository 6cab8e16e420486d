//! Which values of the file may be numbers.

use std::ffi::OsStr;

use crate::app::keys::{Key, Keys, Kind};

/// Options that take any text and mean something by a number, too: that of a user, of a group.
const NAMED_BY_NUMBER: [&str; 2] = ["user", "control_group"];

/// Which numbers may stand for a value without quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Numbers {
    /// None can be meant.
    None,
    /// Those without a fraction.
    Whole,
    /// Those that the option takes.
    Any,
}

impl Keys {
    /// Whether it takes any text.
    pub(crate) fn takes_any_text(&self, key: &Key) -> bool {
        self.judge(key, OsStr::new("any-text")).is_ok()
    }

    /// Which numbers can be meant by a value. What takes any text would take that of a number, too, and hardly anybody means it.
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
