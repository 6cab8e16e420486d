//! Bounded, named waits.

use std::thread;
use std::time::{Duration, Instant};

/// How often a condition is looked at.
const INTERVAL: Duration = Duration::from_millis(5);

/// Looks at `check` until it gives a value, and returns that; `None` after `limit`.
pub fn poll<T>(limit: Duration, mut check: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = check() {
            return Some(value);
        }
        if Instant::now() >= deadline {
            return None;
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "this is where conditions are waited for, with a deadline"
        )]
        thread::sleep(INTERVAL);
    }
}

/// As [`poll`].
///
/// # Panics
/// After `limit`, naming what was waited for.
#[track_caller]
pub fn until_some<T>(what: &str, limit: Duration, check: impl FnMut() -> Option<T>) -> T {
    match poll(limit, check) {
        Some(value) => value,
        None => panic!("waited {limit:?} in vain until {what}"),
    }
}

/// Waits until `check` is true.
///
/// # Panics
/// After `limit`, naming what was waited for.
#[track_caller]
pub fn until(what: &str, limit: Duration, mut check: impl FnMut() -> bool) {
    until_some(what, limit, || check().then_some(()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_that_never_holds_is_given_up() {
        assert_eq!(poll(Duration::from_millis(20), || None::<()>), None);
    }

    #[test]
    fn a_condition_is_looked_at_again() {
        let mut looks = 0;
        let third = poll(Duration::from_secs(5), || {
            looks += 1;
            (looks == 3).then_some(looks)
        });
        assert_eq!(third, Some(3));
    }
}
