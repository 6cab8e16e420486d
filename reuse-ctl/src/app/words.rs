//! Checks names in the same way wherever they are given.

use reuse_common::Policy;

use crate::base::Failure;

/// The policy with this name; the error lists the existing names.
pub fn policy_named(name: &str) -> Result<Policy, Failure> {
    Policy::from_name(name).ok_or_else(|| {
        let names = Policy::ALL.map(Policy::name).join(", ");
        Failure::usage(format!("there is no policy \"{name}\""), format!("one of {names}"))
    })
}

/// Checks that `path` can be used unchanged in the first line of an HTTP request: it begins with a slash and contains no space.
pub fn check_path(path: &str) -> Result<(), Failure> {
    if !path.starts_with('/') {
        return Err(Failure::usage(
            format!("the path \"{path}\" has no slash at its beginning"),
            format!("did you mean /{path}?"),
        ));
    }
    if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Failure::usage(
            format!("the path {path:?} has a character that a URL can't have"),
            "write it with a percent sign: a space is %20",
        ));
    }
    Ok(())
}
