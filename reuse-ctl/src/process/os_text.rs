//! Writes paths and arguments to JSON. They need not be UTF-8: text if they are, bytes if not.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A path or an argument: a text, or its bytes if it is not UTF-8.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum Text {
    /// The text itself.
    Utf8(String),
    /// The bytes of one that is not UTF-8.
    Bytes(Vec<u8>),
}

impl Text {
    fn of(value: &OsStr) -> Self {
        value.to_str().map_or_else(
            || Self::Bytes(value.as_bytes().to_vec()),
            |text| Self::Utf8(text.to_owned()),
        )
    }

    fn into_os(self) -> OsString {
        match self {
            Self::Utf8(text) => text.into(),
            Self::Bytes(bytes) => OsString::from_vec(bytes),
        }
    }
}

pub(crate) fn serialize<S: Serializer>(value: &impl AsRef<OsStr>, serializer: S) -> Result<S::Ok, S::Error> {
    Text::of(value.as_ref()).serialize(serializer)
}

pub(crate) fn deserialize<'de, T: From<OsString>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    Ok(Text::deserialize(deserializer)?.into_os().into())
}

pub(crate) mod list {
    use super::{Deserialize as _, Deserializer, OsStr, OsString, Serializer, Text};

    pub(crate) fn serialize<S: Serializer>(values: &[impl AsRef<OsStr>], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(values.iter().map(|value| Text::of(value.as_ref())))
    }

    pub(crate) fn deserialize<'de, T: From<OsString>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<T>, D::Error> {
        let values = Vec::<Text>::deserialize(deserializer)?;
        Ok(values.into_iter().map(|value| value.into_os().into()).collect())
    }
}
