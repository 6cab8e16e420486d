//! The signals of the controller: those that end it, and those that people's fingers know from other servers.
//!
//! | signal | in a terminal | without one: in the background, as a service |
//! |---|---|---|
//! | INT, TERM | stop; INT once more: kill | the same |
//! | HUP | stop: the terminal is closed | reload |
//! | TTIN, TTOU | as ever: a job in the background that wants the terminal | one worker more, one worker fewer |
//! | USR1 | rotate all logs | the same |
//!
//! "In a terminal" means that the process has a controlling terminal when it starts: the kernel sends these very signals to jobs of a
//! terminal, and then they must mean what they always have. A HUP that was ignored from the start (`nohup`) stays ignored there.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{
    interface::{Command, Input, RequestId, ScaleTarget},
    task::Task,
};
use crate::api::types::{Event, Reply};

/// Waits for them.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// Absent: ignored.
    hangup: Option<Signal>,
    rotate: Signal,
    /// Absent in a terminal.
    more: Option<Signal>,
    /// Absent in a terminal.
    fewer: Option<Signal>,
    in_terminal: bool,
}

impl Signals {
    pub(super) fn new() -> std::io::Result<Self> {
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
    pub(super) async fn any(&mut self) -> Asked {
        tokio::select! {
            _ = self.interrupt.recv() => Asked::ByHand,
            _ = self.terminate.recv() => Asked::ToStop,
            () = next(&mut self.hangup) => if self.in_terminal { Asked::ToStop } else { Asked::ToReload },
            _ = self.rotate.recv() => Asked::ToRotateLogs,
            () = next(&mut self.more) => Asked::ForMore,
            () = next(&mut self.fewer) => Asked::ForFewer,
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
pub(super) enum Asked {
    /// Ctrl-C: once to stop, once more to kill.
    ByHand,
    /// To stop, however often it comes: a closing terminal and a service manager send several signals.
    ToStop,
    ToReload,
    ForMore,
    ForFewer,
    ToRotateLogs,
}

/// A signal that is carried out as a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signalled {
    Reload,
    More,
    Fewer,
}

impl Signalled {
    fn name(self) -> &'static str {
        match self {
            Self::Reload => "SIGHUP",
            Self::More => "SIGTTIN",
            Self::Fewer => "SIGTTOU",
        }
    }
}

impl Task {
    pub(super) fn on_signal(&mut self, asked: Asked) {
        match asked {
            Asked::ToStop if self.core.view().stopping => {}
            Asked::ToStop | Asked::ByHand => self.feed(Input::Interrupt),
            Asked::ToReload => {
                self.service.reloading();
                self.request_by(Signalled::Reload, Command::Reload { stop_first: false });
            }
            Asked::ForMore => self.request_by(Signalled::More, Command::Scale(ScaleTarget::Up(1))),
            Asked::ForFewer => self.request_by(Signalled::Fewer, Command::Scale(ScaleTarget::Down(1))),
            Asked::ToRotateLogs => {
                self.rotate_logs();
                self.say_of_signal("SIGUSR1", Ok("all logs are being rotated"));
            }
        }
    }

    fn request_by(&mut self, signal: Signalled, command: Command) {
        let id: RequestId = self.next_request_id();
        self.signalled.insert(id, signal);
        self.request(id, command);
    }

    /// What a signal asked for was done or refused.
    pub(super) fn on_signal_answered(&mut self, signal: Signalled, reply: &Reply) {
        // One that was refused because another one is under way is no end of that.
        let is_last = !self.signalled.values().any(|other| *other == signal);
        if signal == Signalled::Reload && is_last {
            self.service.reloaded();
        }
        let outcome = if reply.ok {
            Ok(reply.message.as_deref().unwrap_or("done"))
        } else {
            Err(reply.error.as_deref().unwrap_or("refused"))
        };
        self.say_of_signal(signal.name(), outcome);
    }

    fn say_of_signal(&self, signal: &str, outcome: Result<&str, &str>) {
        let (word, message) = match outcome {
            Ok(done) => ("signal", format!("{signal}: {done}")),
            Err(why) => ("warning", format!("{signal}: {why}")),
        };
        match outcome {
            Ok(_) => self.console.say(&message),
            Err(_) => self.console.warn(&message),
        }
        self.tell(Event {
            at_ms: 0,
            worker: None,
            pid: None,
            event: word.into(),
            message,
        });
    }
}

/// Whether this process has a controlling terminal: `/dev/tty` is that.
pub(crate) fn has_terminal() -> bool {
    std::fs::File::open("/dev/tty").is_ok()
}

pub(crate) fn is_ignored(number: libc::c_int) -> bool {
    // SAFETY: a zeroed sigaction is a valid one to be written into.
    let mut current: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: with no new action, the call only writes the present one into `current`.
    let result = unsafe { libc::sigaction(number, std::ptr::null(), &raw mut current) };
    result == 0 && current.sa_sigaction == libc::SIG_IGN
}
