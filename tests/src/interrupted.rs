//! Calls that a signal interrupts although nobody handles it.
//!
//! A socket's call with a time limit gives EINTR instead of beginning anew (signal(7)). It takes no handler: while the main thread starts
//! another one it blocks every signal, a SIGCHLD that comes just then is queued instead of ignored, and the kernel wakes some other
//! thread to take it. In one process with many tests that happens to a client every few thousand children.

use std::io;

/// Makes the call again for as long as a signal interrupts it.
///
/// # Errors
/// What the call gives, but never [`io::ErrorKind::Interrupted`].
pub fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_interrupted_call_is_made_again() {
        let results = [
            Err(io::ErrorKind::Interrupted),
            Err(io::ErrorKind::Interrupted),
            Ok(7),
            Err(io::ErrorKind::TimedOut),
        ];
        let mut results = results.into_iter().map(|result| result.map_err(io::Error::from));
        let mut next = || retry(|| results.next().expect("not asked again")).map_err(|error| error.kind());
        assert_eq!(next(), Ok(7));
        assert_eq!(next(), Err(io::ErrorKind::TimedOut));
    }
}
