//! What the task does about [`lookups`](crate::supervisor::lookups).

use std::sync::Arc;

use crate::base::{ErrorKind, RequestId};
use crate::supervisor::lookups::*;
use crate::supervisor::{asks::refusal, live::BackgroundEvent, task::Task};

impl Task {
    /// Does `work` beside the task, and goes on with what it finds. One that can't be done is a refusal of what was asked for.
    pub(crate) fn look_up(&mut self, asker: Asker, work: impl FnOnce() -> Found + Send + 'static) {
        if self.lookups.waiting.len() >= MAX_WAITING {
            return self.refuse_lookup(asker, &LookupError::TooManyWaiting);
        }
        let work = Box::new(work);
        self.lookups.waiting.push_back(Lookup { asker, work });
        self.begin_lookup();
    }

    fn begin_lookup(&mut self) {
        while self.lookups.under_way.is_none()
            && let Some(Lookup { asker, work }) = self.lookups.waiting.pop_front()
        {
            if self.lookups.left_behind() >= MAX_LEFT_BEHIND {
                self.refuse_lookup(asker, &LookupError::TooManyLeftBehind);
                continue;
            }
            self.lookups.under_way = Some(asker);
            let (thread, background_events) = (Arc::clone(&self.lookups.threads), self.background_events.clone());
            tokio::spawn(async move {
                let found = beside(work, thread, PATIENCE).await;
                // The controller has ended meanwhile; so be it.
                drop(background_events.send(BackgroundEvent::LookedUp(found)).await);
            });
        }
    }

    pub(crate) fn on_looked_up(&mut self, found: Result<Found, LookupError>) {
        // Nobody: the app stops, and who waited was refused.
        let Some(asker) = self.lookups.under_way.take() else {
            return;
        };
        match found {
            Ok(Ok(finding)) => self.go_on_with(asker.id, finding),
            Ok(Err(refusal)) => self.reply(asker.id, *refusal),
            Err(error) => self.refuse_lookup(asker, &error),
        }
        self.begin_lookup();
        self.take_pending();
    }

    fn go_on_with(&mut self, id: RequestId, finding: Finding) {
        match finding {
            Finding::Wanted(wanted) => self.on_wanted(id, *wanted),
            Finding::EnvFiles { command, renewed } => {
                self.template.renew(renewed);
                self.begin_request(id, command);
            }
            Finding::Canary {
                share,
                beside,
                canary,
                renewed,
            } => self.begin_canary(id, share, beside, *canary, renewed),
        }
    }

    /// The app stops: nobody waits for files any more.
    pub(crate) fn give_up_lookups(&mut self) {
        let waiting: Vec<Lookup> = self.lookups.waiting.drain(..).collect();
        let under_way = self.lookups.under_way.take();
        let waiting = waiting.into_iter().map(|lookup| lookup.asker);
        for asker in under_way.into_iter().chain(waiting) {
            self.reply(asker.id, stopped());
        }
    }

    fn refuse_lookup(&mut self, asker: Asker, error: &LookupError) {
        let kind = match error {
            LookupError::Late(_) => ErrorKind::Timeout,
            LookupError::Thread(_)
            | LookupError::Broken(_)
            | LookupError::TooManyLeftBehind
            | LookupError::TooManyWaiting => ErrorKind::Failed,
        };
        let hint =
            "nothing was changed; see whether the file systems with the folder, the command and the env files answer";
        self.reply(asker.id, *refusal(kind, error.to_string(), hint));
    }
}
