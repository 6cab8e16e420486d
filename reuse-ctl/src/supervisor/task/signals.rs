//! What the task does about [`signals`](crate::supervisor::signals).

use crate::supervisor::signals::*;
use crate::supervisor::task::Task;
use crate::{
    base::RequestId,
    wire::{Event, Reply},
};
use reuse_machine::interface::{Command, Input};

impl Task {
    pub(crate) fn on_signal(&mut self, asked: SignalMeaning) {
        match asked {
            SignalMeaning::ToStop if self.machine.view().stopping => {}
            SignalMeaning::ToStop | SignalMeaning::ByHand => self.feed(Input::Interrupt),
            SignalMeaning::ToReload => {
                self.service.reloading();
                self.ask_by(Signalled::Reload);
            }
            SignalMeaning::ForMore => self.ask_by(Signalled::More),
            SignalMeaning::ForFewer => self.ask_by(Signalled::Fewer),
            SignalMeaning::ToRotateLogs => {
                self.logs.rotate_all();
                self.say_of_signal("SIGUSR1", Ok("all logs are being rotated"));
            }
        }
    }

    /// At once, or when what is under way is done.
    fn ask_by(&mut self, signal: Signalled) {
        let command = signal.command();
        match self.busy_with(&command) {
            None => self.request_by(signal, command),
            Some(first) => self.wait_with(signal, &first),
        }
    }

    fn wait_with(&mut self, signal: Signalled, first: &str) {
        self.pending.add(signal);
        let then = match (signal, self.pending.net) {
            (Signalled::Reload, _) => "a reload follows it".to_owned(),
            (_, 0) => "the number of workers stays as it is behind it".to_owned(),
            (_, net) => format!("the number of workers is changed by {net:+} behind it"),
        };
        self.say_of_signal(signal.name(), Ok(&format!("{first} is under way; {then}")));
    }

    fn busy_with(&self, command: &Command) -> Option<String> {
        // It may still look for files.
        let signalled = self.signalled.values().next();
        self.waits_for(command).or_else(|| {
            signalled.map(|signal| match signal {
                Signalled::Reload => "a reload".to_owned(),
                Signalled::More | Signalled::Fewer => "a scale".to_owned(),
            })
        })
    }

    fn waits_for(&self, command: &Command) -> Option<String> {
        let apply = (self.applying.is_some() || self.lookups.apply()).then(|| "an apply".to_owned());
        apply.or_else(|| self.machine.waits_for(command))
    }

    /// Whether a signal's request, for which files were looked at, has to wait after all: something else has begun meanwhile.
    pub(crate) fn put_off(&mut self, id: RequestId, command: &Command) -> bool {
        let (Some(signal), Some(first)) = (self.signalled.get(&id).copied(), self.waits_for(command)) else {
            return false;
        };
        self.signalled.remove(&id);
        self.wait_with(signal, &first);
        true
    }

    /// Carries out what waits, if nothing is under way any more.
    pub(crate) fn take_pending(&mut self) {
        if let Some((signal, command)) = self.pending.next(self.workers())
            && self.busy_with(&command).is_none()
        {
            self.pending.take(signal);
            self.request_by(signal, command);
        }
    }

    fn request_by(&mut self, signal: Signalled, command: Command) {
        let id: RequestId = self.next_request_id();
        self.signalled.insert(id, signal);
        self.request(id, command);
    }

    /// What a signal asked for was done or refused.
    pub(crate) fn on_signal_answered(&mut self, signal: Signalled, reply: &Reply) {
        if signal == Signalled::Reload && !self.pending.reload {
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
        let event = Event {
            at_ms: 0,
            worker: None,
            pid: None,
            event: word.into(),
            message,
        };
        match outcome {
            Ok(_) => self.announcer.say(event),
            Err(_) => self.announcer.warn(event),
        }
    }
}
