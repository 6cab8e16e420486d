//! Names of apps.

use std::{ffi::OsStr, path::Path};

use crate::{
    base::Failure,
    process::paths::{AppPaths, MAX_NAME_LEN},
};

/// The paths of the app with this name.
pub(crate) fn paths_of(name: &str) -> Result<AppPaths, Failure> {
    AppPaths::new(name).map_err(|error| Failure::usage(error.to_string(), error.hint()))
}

pub(super) fn checked_name(name: String) -> Result<String, Failure> {
    paths_of(&name).map(|_| name)
}

/// The command's file name, with characters replaced that are invalid in an app's name.
pub(super) fn default_name(program: &OsStr) -> Result<String, Failure> {
    let file = Path::new(program).file_name().unwrap_or_default().to_string_lossy();
    let name: String = file
        .chars()
        .map(|letter| if is_name_character(letter) { letter } else { '-' })
        .collect();
    let name: String = name.trim_start_matches(['.', '-']).chars().take(MAX_NAME_LEN).collect();
    checked_name(name).map_err(|_| {
        Failure::usage(
            format!("no name for the app can be made of {}", program.display()),
            "give it one: `--name APP`",
        )
    })
}

fn is_name_character(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_' | '-')
}
