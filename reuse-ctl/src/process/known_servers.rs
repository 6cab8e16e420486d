//! Known servers, and what each signal does to their requests: which signal lets the server finish accepted requests, and which one cuts
//! them off.
//!
//! That a process handles a signal doesn't mean that it finishes its requests: nginx and unicorn handle SIGTERM and drop every request in
//! progress. So this is a table ([`ROWS`]), made by trying the real programs; a test tries some of them again. The table in
//! `docs/stop-signals.md` is generated from it.

mod recognise;
mod rows;

#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::time::Duration;

use nix::sys::signal::Signal;

use recognise::Recognised;
pub use rows::ROWS;

/// What a signal does to the requests that a server has accepted, with the server's default settings.
///
/// No signal is safe for an idle keep-alive connection: the server closes it, and a request that arrives at that moment is lost (tried with
/// nginx, when its workers get the signal directly, and lighttpd). Some servers also close a new connection on which nothing was sent yet
/// (puma). So check for unread bytes and for just accepted connections before sending any signal, even with [`Answer::Finishes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Every request that the server has begun to receive is answered: those in progress, and those of which it has read only a part, also
    /// on a keep-alive connection.
    Finishes {
        /// The server cuts off requests that take longer than this; `None`: no limit.
        within: Option<Duration>,
    },
    /// Requests in progress are answered. A request of which the server has read only a part is dropped.
    FinishesRead {
        /// The server cuts off requests that take longer than this; `None`: no limit.
        within: Option<Duration>,
    },
    /// Requests in progress are dropped.
    Cuts,
    /// This signal was not tried with this server.
    Unknown,
}

/// A server, or one way to run it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownServer {
    /// The common name: `nginx`, `hypercorn with several workers`.
    pub name: &'static str,
    recognised: Recognised,
    /// The signals that were tried. Each occurs once, and none is [`Answer::Unknown`].
    pub signals: &'static [(Signal, Answer)],
    /// The server's own setting that lets it finish requests, if none of its signals does. Follows the words "drops requests on SIGTERM; ".
    pub advice: Option<&'static str>,
    /// The version that was tried.
    pub tried: &'static str,
    /// The server's own documentation of its signals.
    pub documented: &'static str,
}

/// The known server that this command runs. The program may stand behind an interpreter (`python3 -m gunicorn`), `bundle exec`, `env`,
/// `nice`, or `exec` in a shell's `-c`; other wrappers are not recognised.
///
/// Only the command line is examined. The server's configuration file may shorten the times in the table, such as nginx's
/// `worker_shutdown_timeout`.
pub fn find(command: &[OsString]) -> Option<&'static KnownServer> {
    let words: Vec<String> = command.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let (program, arguments) = recognise::program_of(&words)?;
    ROWS.iter()
        .find(|server| server.recognised.matches(&program, &arguments))
}

/// A one-line suggestion for a user whose stop signal cuts requests that this server would finish on another signal.
pub fn suggestion(command: &[OsString], stop_signal: Signal) -> Option<String> {
    find(command)?.suggestion(stop_signal)
}

impl KnownServer {
    /// What this signal does to requests.
    pub fn finishes(&self, signal: Signal) -> Answer {
        let known = self.signals.iter().find(|(known, _)| *known == signal);
        known.map_or(Answer::Unknown, |(_, answer)| *answer)
    }

    /// The signal that loses the fewest requests, if any signal lets the server finish requests.
    pub fn best_signal(&self) -> Option<(Signal, Answer)> {
        let by = |wanted: fn(Answer) -> bool| self.signals.iter().copied().find(|(_, answer)| wanted(*answer));
        by(Answer::is_complete).or_else(|| by(Answer::is_partial))
    }

    /// As [`suggestion`].
    pub fn suggestion(&self, stop_signal: Signal) -> Option<String> {
        match self.finishes(stop_signal) {
            Answer::Cuts => {}
            Answer::Finishes { .. } | Answer::FinishesRead { .. } | Answer::Unknown => return None,
        }
        let remedy = match (self.best_signal(), self.advice) {
            (Some((signal, _)), _) => format!("`--stop-signal {signal}` lets it finish them"),
            (None, Some(advice)) => advice.to_owned(),
            (None, None) => return None,
        };
        Some(format!("{} drops requests on {stop_signal}; {remedy}", self.name))
    }
}

impl Answer {
    fn is_complete(self) -> bool {
        match self {
            Self::Finishes { .. } => true,
            Self::FinishesRead { .. } | Self::Cuts | Self::Unknown => false,
        }
    }

    fn is_partial(self) -> bool {
        match self {
            Self::FinishesRead { .. } => true,
            Self::Finishes { .. } | Self::Cuts | Self::Unknown => false,
        }
    }
}
