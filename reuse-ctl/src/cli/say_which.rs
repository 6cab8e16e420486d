//! Adds the app's name to the commands in hints if several apps run.

use super::apps;
use crate::base::Failure;

/// Adds `--app` to a failure's hint if more than one app runs; with a single app it isn't needed.
pub(super) fn say_which(app: &str, mut failure: Failure) -> Failure {
    let several = apps::list().is_ok_and(|apps| apps.iter().filter(|app| app.alive).count() > 1);
    if several {
        failure.hint = failure.hint.for_app(app).into();
    }
    failure
}
