//! The result for one option, without its app.

use super::report::Fate;
use super::table::{Becomes, OptionRow};

/// For an option that only asks for the default.
pub(super) const OFF: &str = "it is off, which is the default";

/// For an option with an empty string.
pub(super) const EMPTY: &str = "it is empty, which also means nothing to PM2";

/// The result for one option.
pub(super) struct Translated {
    pub(super) fate: Fate,
    pub(super) key: Option<String>,
    pub(super) why: Option<String>,
}

impl Translated {
    pub(super) fn kept(key: &str) -> Self {
        Self {
            fate: Fate::Kept,
            key: Some(key.to_owned()),
            why: None,
        }
    }

    pub(super) fn changed(key: &str, why: impl Into<String>) -> Self {
        Self {
            fate: Fate::Changed,
            key: Some(key.to_owned()),
            why: Some(why.into()),
        }
    }

    pub(super) fn nothing(why: impl Into<String>) -> Self {
        Self {
            fate: Fate::NotApplicable,
            key: None,
            why: Some(why.into()),
        }
    }

    /// The table's entry, for usual values.
    pub(super) fn usual(row: &OptionRow) -> Self {
        match row.becomes {
            Becomes::Kept(key) => Self::kept(key),
            Becomes::Changed(key, why) => Self::changed(key, why),
            Becomes::Nothing(why) => Self::nothing(why),
        }
    }
}
