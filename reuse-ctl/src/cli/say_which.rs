//! Hints where several apps run: each command names its app.

use super::apps;
use crate::base::Failure;

/// The same for what a failure says to do next, where more than one app runs: with one alone nobody need say which.
pub(super) fn say_which(app: &str, mut failure: Failure) -> Failure {
    let several = apps::list().is_ok_and(|apps| apps.iter().filter(|app| app.alive).count() > 1);
    if several {
        failure.hint = failure.hint.for_app(app).into();
    }
    failure
}
