//! The signals that the controller handles: those that stop it, and those with their usual meaning in other servers.
//!
//! | signal | in a terminal | without one: in the background, as a service |
//! |---|---|---|
//! | INT, TERM | stop; INT once more: kill | the same |
//! | HUP | stop: the terminal is closed | reload |
//! | TTIN, TTOU | as usual: a background job wants the terminal | one worker more, one worker fewer |
//! | USR1 | rotate all logs | the same |
//!
//! "In a terminal" means that the process has a controlling terminal when it starts. The kernel sends these very signals to jobs of a
//! terminal, and then they must have their usual meaning. A HUP that was ignored from the start (`nohup`) stays ignored there.
//!
//! While something else is in progress, a reload or a change of the number of workers waits as [`Pending`], since nobody is there to try
//! again.

use super::announcer::Announcer;
use crate::process::terminal_signals::has_terminal;
use crate::process::terminal_signals::is_ignored;
use crate::{
    base::RequestId,
    wire::{Event, Reply},
};
use reuse_machine::interface::{Command, MAX_WORKERS, ScaleTarget};
use std::collections::HashMap;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Waits for signals.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// `None`: ignored.
    hangup: Option<Signal>,
    rotate: Signal,
    /// `None` in a terminal.
    more: Option<Signal>,
    /// `None` in a terminal.
    fewer: Option<Signal>,
    in_terminal: bool,
}

impl Signals {
    pub(crate) fn new() -> std::io::Result<Self> {
        let in_terminal = has_terminal();
        let without_terminal = |number| (!in_terminal).then(|| signal(SignalKind::from_raw(number))).transpose();
        let listens_to_hangup = !(in_terminal && is_ignored(libc::SIGHUP));
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: listens_to_hangup.then(|| signal(SignalKind::hangup())).transpose()?,
            rotate: signal(SignalKind::user_defined1())?,
            more: without_terminal(libc::SIGTTIN)?,
            fewer: without_terminal(libc::SIGTTOU)?,
            in_terminal,
        })
    }

    /// Waits for any of them.
    pub(crate) async fn any(&mut self) -> SignalMeaning {
        tokio::select! {
            _ = self.interrupt.recv() => SignalMeaning::ByHand,
            _ = self.terminate.recv() => SignalMeaning::ToStop,
            () = next(&mut self.hangup) => if self.in_terminal { SignalMeaning::ToStop } else { SignalMeaning::ToReload },
            _ = self.rotate.recv() => SignalMeaning::ToRotateLogs,
            () = next(&mut self.more) => SignalMeaning::ForMore,
            () = next(&mut self.fewer) => SignalMeaning::ForFewer,
        }
    }
}

async fn next(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SignalMeaning {
    /// Ctrl-C: the first stops, the second kills.
    ByHand,
    /// Stop, however often it comes: a closing terminal and a service manager send several signals.
    ToStop,
    ToReload,
    ForMore,
    ForFewer,
    ToRotateLogs,
}

/// A signal that is carried out as a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SignalRequest {
    Reload,
    More,
    Fewer,
}

/// What signals have asked for. Nobody waits for an answer: people are told on the console.
#[derive(Debug, Default)]
pub(crate) struct SignalRequests {
    under_way: HashMap<RequestId, SignalRequest>,
    /// What was asked for while something else was under way.
    pending: Pending,
}

impl SignalRequests {
    /// This request carries one out.
    pub(crate) fn begin(&mut self, id: RequestId, signal: SignalRequest) {
        self.under_way.insert(id, signal);
    }

    /// Whether the request is a signal's, which is under way no more then.
    pub(crate) fn end(&mut self, id: RequestId) -> Option<SignalRequest> {
        self.under_way.remove(&id)
    }

    pub(crate) fn is_one(&self, id: RequestId) -> bool {
        self.under_way.contains_key(&id)
    }

    /// What is under way for one: it may still look for files.
    pub(crate) fn busy_with(&self) -> Option<String> {
        let signal = self.under_way.values().next()?;
        Some(match signal {
            SignalRequest::Reload => "a reload".to_owned(),
            SignalRequest::More | SignalRequest::Fewer => "a scale".to_owned(),
        })
    }

    /// It has to wait for what is under way `first`. Returns what people are told.
    pub(crate) fn wait(&mut self, signal: SignalRequest, first: &str) -> String {
        self.pending.add(signal);
        let then = match (signal, self.pending.net) {
            (SignalRequest::Reload, _) => "a reload follows it".to_owned(),
            (_, 0) => "the number of workers stays as it is behind it".to_owned(),
            (_, net) => format!("the number of workers is changed by {net:+} behind it"),
        };
        format!("{first} is under way; {then}")
    }

    /// What is to be done first of all that waits; see [`Pending::next`].
    pub(crate) fn next(&self, workers: u16) -> Option<(SignalRequest, Command)> {
        self.pending.next(workers)
    }

    /// It does not wait any more.
    pub(crate) fn take(&mut self, signal: SignalRequest) {
        self.pending.take(signal);
    }

    pub(crate) fn reload_waits(&self) -> bool {
        self.pending.reload
    }
}

/// What waits until nothing else is under way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Pending {
    /// One is enough, however often it was asked for: it begins behind the last signal.
    reload: bool,
    /// Workers more, or fewer.
    net: i32,
}

impl Pending {
    fn add(&mut self, signal: SignalRequest) {
        match signal {
            SignalRequest::Reload => self.reload = true,
            SignalRequest::More => self.net = self.net.saturating_add(1),
            SignalRequest::Fewer => self.net = self.net.saturating_sub(1),
        }
    }

    /// The next step for an app with this many workers, as far as possible: of five fewer with three workers, two.
    fn next(self, workers: u16) -> Option<(SignalRequest, Command)> {
        if self.reload {
            return Some((SignalRequest::Reload, SignalRequest::Reload.command()));
        }
        let count = |most: u16| {
            u16::try_from(self.net.unsigned_abs())
                .map_or(most, |net| net.min(most))
                .max(1)
        };
        match self.net {
            0 => None,
            1.. => Some((
                SignalRequest::More,
                Command::Scale(ScaleTarget::Up(count(MAX_WORKERS.saturating_sub(workers)))),
            )),
            ..0 => Some((
                SignalRequest::Fewer,
                Command::Scale(ScaleTarget::Down(count(workers.saturating_sub(1)))),
            )),
        }
    }

    fn take(&mut self, signal: SignalRequest) {
        match signal {
            SignalRequest::Reload => self.reload = false,
            SignalRequest::More | SignalRequest::Fewer => self.net = 0,
        }
    }
}

impl SignalRequest {
    pub(crate) fn command(self) -> Command {
        match self {
            Self::Reload => Command::Reload { stop_first: false },
            Self::More => Command::Scale(ScaleTarget::Up(1)),
            Self::Fewer => Command::Scale(ScaleTarget::Down(1)),
        }
    }

    /// What it asked for was done or refused.
    pub(crate) fn tell_answer(self, reply: &Reply, announcer: &Announcer) {
        let outcome = if reply.ok {
            Ok(reply.message.as_deref().unwrap_or("done"))
        } else {
            Err(reply.error.as_deref().unwrap_or("refused"))
        };
        tell(self.name(), outcome, announcer);
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Reload => "SIGHUP",
            Self::More => "SIGTTIN",
            Self::Fewer => "SIGTTOU",
        }
    }
}

/// Tells people what has come of a signal.
pub(crate) fn tell(signal: &str, outcome: Result<&str, &str>, announcer: &Announcer) {
    let event = |event: &str, what| Event {
        at_ms: 0,
        worker: None,
        pid: None,
        event: event.into(),
        message: format!("{signal}: {what}"),
    };
    match outcome {
        Ok(done) => announcer.say(event("signal", done)),
        Err(why) => announcer.warn(event("warning", why)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending(signals: &[SignalRequest]) -> Pending {
        let mut pending = Pending::default();
        signals.iter().for_each(|signal| pending.add(*signal));
        pending
    }

    #[test]
    fn many_reloads_are_one_and_more_and_fewer_are_counted() {
        use SignalRequest::{Fewer, More, Reload};
        let mut all = pending(&[More, Reload, More, Fewer, Reload, More]);
        let (signal, command) = all.next(3).expect("something waits");
        assert_eq!((signal, command), (Reload, Command::Reload { stop_first: false }));
        all.take(signal);
        let (signal, command) = all.next(3).expect("two more");
        assert_eq!((signal, command), (More, Command::Scale(ScaleTarget::Up(2))));
        all.take(signal);
        assert_eq!(all.next(3), None);
        assert_eq!(pending(&[More, Fewer]).next(3), None);
    }

    #[test]
    fn it_goes_as_far_as_it_goes() {
        use SignalRequest::{Fewer, More};
        let next = |signals: &[SignalRequest], workers| pending(signals).next(workers).map(|(_, command)| command);
        let scale = |target| Some(Command::Scale(target));
        assert_eq!(next(&[Fewer; 5], 3), scale(ScaleTarget::Down(2)));
        assert_eq!(next(&[More; 5], 254), scale(ScaleTarget::Up(2)));
        // The machine refuses this, with a message.
        assert_eq!(next(&[Fewer; 5], 1), scale(ScaleTarget::Down(1)));
        assert_eq!(next(&[More], 256), scale(ScaleTarget::Up(1)));
    }
}
