//! Servers whose programs are known by name, and what each of their signals does to requests: which one lets the server answer what it
//! has accepted, and which one cuts that off.
//!
//! That a process catches a signal says nothing of the kind: nginx and unicorn catch SIGTERM and drop every request that they work on. So
//! this is a table ([`ROWS`]), made by trying the real programs, and a test tries some of them again. The table
//! of `docs/stop-signals.md` is written from it.

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
/// No signal is safe for an idle keep-alive connection: the server closes it, and a request that arrives at that very moment is lost (tried: nginx, if
/// its workers get the signal directly; lighttpd). Some servers close a new connection on which nothing was sent yet, too (puma). So before
/// a signal is sent, also with [`Answer::Finishes`], look whether a connection has unread bytes or has just been accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Every request that it has begun to receive is answered: one that it works on, and one of which it has read only a part, also on a
    /// keep-alive connection.
    Finishes {
        /// What takes longer is cut off by the server; absent: there is no limit.
        within: Option<Duration>,
    },
    /// Requests that it works on are answered. One of which it has read only a part is dropped.
    FinishesRead {
        /// As above.
        within: Option<Duration>,
    },
    /// Requests that it works on are dropped.
    Cuts,
    /// This signal was not tried with this server.
    Unknown,
}

/// A server, or one way to run it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownServer {
    /// As people call it: `nginx`, `hypercorn with several workers`.
    pub name: &'static str,
    recognised: Recognised,
    /// Those that were tried. Each signal is named once, and none is [`Answer::Unknown`].
    pub signals: &'static [(Signal, Answer)],
    /// What has to be set in the server itself where none of its signals lets it finish. To follow "drops requests on SIGTERM; ".
    pub advice: Option<&'static str>,
    /// The version that was tried.
    pub tried: &'static str,
    /// Where the server's own documentation speaks of its signals.
    pub documented: &'static str,
}

/// The server that this command runs, if it is one of those in the table. The program may stand behind an interpreter
/// (`python3 -m gunicorn`), `bundle exec`, `env`, `nice`, or `exec` in a shell's `-c`; what else starts it is not seen through.
///
/// Only the command line is looked at. A file in which the server is configured may shorten what the table says, such as nginx's
/// `worker_shutdown_timeout`.
pub fn find(command: &[OsString]) -> Option<&'static KnownServer> {
    let words: Vec<String> = command.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let (program, arguments) = recognise::program_of(&words)?;
    ROWS.iter()
        .find(|server| server.recognised.matches(&program, &arguments))
}

/// One line for a person whose stop signal cuts requests that this server would finish if it were asked otherwise.
pub fn suggestion(command: &[OsString], stop_signal: Signal) -> Option<String> {
    find(command)?.suggestion(stop_signal)
}

impl KnownServer {
    /// What this signal does to requests.
    pub fn finishes(&self, signal: Signal) -> Answer {
        let known = self.signals.iter().find(|(known, _)| *known == signal);
        known.map_or(Answer::Unknown, |(_, answer)| *answer)
    }

    /// The signal that loses least, if there is one that lets the server finish anything.
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
