//! Look-ups of files that a request names. They run in a thread beside the task, because a file system may take any time (NFS, FUSE) and
//! the task has to go on steering.
//!
//! Look-ups run one after the other, in the order of the requests. When the thread is done, the task checks the request again, since
//! anything may have happened meanwhile, and carries it out. A request whose look-up takes longer than [`PATIENCE`] is refused. Its thread
//! can't be stopped: it is left behind, and its result is dropped.

use super::{
    asks::refusal,
    live::BackgroundEvent,
    template::{Renewed, Version},
    wanted::Wanted,
};
use crate::{
    base::{ErrorKind, RequestId, VersionId},
    wire::Reply,
};
use reuse_common::Share;
use reuse_machine::interface::Command;
use std::{collections::VecDeque, io, sync::Arc, thread, time::Duration};
use tokio::{
    sync::{mpsc, oneshot},
    time::{error::Elapsed, timeout},
};

/// Timeout of a look-up.
const PATIENCE: Duration = Duration::from_secs(30);

/// Maximum number of threads left behind. With more of them, no further look-up is started.
const MAX_LEFT_BEHIND: usize = 8;

/// Maximum number of waiting look-ups.
const MAX_WAITING: usize = 64;

/// The result of a look-up.
#[derive(Debug)]
pub(crate) enum Finding {
    /// The resolved specification for an `apply`.
    Wanted(Box<Wanted>),
    /// The current contents of the env files, for a command that starts new processes.
    EnvFiles { command: Command, renewed: Renewed },
    /// A canary's command, and the current contents of the env files. `beside` is the version that the app runs.
    Canary {
        share: Share,
        beside: VersionId,
        canary: Box<Version>,
        renewed: Renewed,
    },
}

/// The result, or the answer that refuses the request.
pub(crate) type Found = Result<Finding, Box<Reply>>;

type Work<T> = Box<dyn FnOnce() -> T + Send>;

/// Why a look-up has no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LookupError {
    /// The file system did not answer in time.
    #[error("the files have not answered within {}", humantime::format_duration(PATIENCE))]
    Late(#[from] Elapsed),
    /// The thread could not be started.
    #[error("a thread to look at the files: {0}")]
    Thread(#[from] io::Error),
    /// The thread has panicked.
    #[error("the look at the files broke off")]
    Broken(#[from] oneshot::error::RecvError),
    /// There are [`MAX_LEFT_BEHIND`] threads left behind.
    #[error("{MAX_LEFT_BEHIND} threads still wait for files that do not answer")]
    TooManyLeftBehind,
    /// There are [`MAX_WAITING`] look-ups waiting.
    #[error("{MAX_WAITING} requests wait for files already")]
    TooManyWaiting,
}

impl LookupError {
    /// What is answered to who asked.
    pub(crate) fn refusal(&self) -> Reply {
        let kind = match self {
            Self::Late(_) => ErrorKind::Timeout,
            Self::Thread(_) | Self::Broken(_) | Self::TooManyLeftBehind | Self::TooManyWaiting => ErrorKind::Failed,
        };
        let hint =
            "nothing was changed; see whether the file systems with the folder, the command and the env files answer";
        *refusal(kind, self.to_string(), hint)
    }
}

/// What is under way, and what waits.
#[derive(Debug)]
pub(crate) struct Lookups {
    under_way: Option<Asker>,
    waiting: VecDeque<Lookup>,
    /// One more for each thread that has not come to its end.
    threads: Arc<()>,
    background_events: mpsc::Sender<BackgroundEvent>,
}

/// The request for which something is looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asker {
    /// The request's id.
    pub(crate) id: RequestId,
    /// Whether it is an `apply` that may change something.
    pub(crate) applies: bool,
}

struct Lookup {
    asker: Asker,
    work: Work<Found>,
}

impl std::fmt::Debug for Lookup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.asker.fmt(f)
    }
}

impl Lookups {
    pub(crate) fn new(background_events: mpsc::Sender<BackgroundEvent>) -> Self {
        Self {
            under_way: None,
            waiting: VecDeque::new(),
            threads: Arc::default(),
            background_events,
        }
    }

    /// Whether one of them is an `apply`.
    pub(crate) fn apply(&self) -> bool {
        let waiting = self.waiting.iter().map(|lookup| &lookup.asker);
        waiting.chain(&self.under_way).any(|asker| asker.applies)
    }

    /// Does `work` beside the task when it is its turn. Returns who is refused at once, and how.
    pub(crate) fn add(
        &mut self,
        asker: Asker,
        work: impl FnOnce() -> Found + Send + 'static,
    ) -> Vec<(RequestId, Reply)> {
        if self.waiting.len() >= MAX_WAITING {
            return vec![(asker.id, LookupError::TooManyWaiting.refusal())];
        }
        let work = Box::new(work);
        self.waiting.push_back(Lookup { asker, work });
        self.begin()
    }

    /// Begins the next if none is under way. Returns who is refused, and how.
    pub(crate) fn begin(&mut self) -> Vec<(RequestId, Reply)> {
        let mut refused = Vec::new();
        while self.under_way.is_none()
            && let Some(Lookup { asker, work }) = self.waiting.pop_front()
        {
            if self.left_behind() >= MAX_LEFT_BEHIND {
                refused.push((asker.id, LookupError::TooManyLeftBehind.refusal()));
                continue;
            }
            self.under_way = Some(asker);
            let (thread, background_events) = (Arc::clone(&self.threads), self.background_events.clone());
            tokio::spawn(async move {
                let found = beside(work, thread, PATIENCE).await;
                // The controller has ended meanwhile; so be it.
                drop(background_events.send(BackgroundEvent::LookedUp(found)).await);
            });
        }
        refused
    }

    /// The one under way is done: who asked for it. Nobody, where the app stops: who waited was refused.
    pub(crate) fn done(&mut self) -> Option<RequestId> {
        self.under_way.take().map(|asker| asker.id)
    }

    /// The app stops: nobody waits for files any more. Returns who did.
    pub(crate) fn give_up(&mut self) -> Vec<RequestId> {
        let waiting = self.waiting.drain(..).map(|lookup| lookup.asker);
        let all = self.under_way.take().into_iter().chain(waiting);
        all.map(|asker| asker.id).collect()
    }

    fn left_behind(&self) -> usize {
        Arc::strong_count(&self.threads) - 1
    }
}

/// The answer to waiting requests when the app stops.
pub(crate) fn stopped() -> Reply {
    let hint = "start it again with `reuse-ctl run`";
    *refusal(ErrorKind::Failed, "the app was stopped meanwhile".into(), hint)
}

/// Runs work in a thread of its own, not one of the runtime's, because the controller must not wait for it when it ends.
async fn beside<T: Send + 'static>(work: Work<T>, counted: Arc<()>, patience: Duration) -> Result<T, LookupError> {
    let (found, finding) = oneshot::channel();
    thread::Builder::new().name("files".into()).spawn(move || {
        // The receiver may have given up.
        drop(found.send(work()));
        drop(counted);
    })?;
    Ok(timeout(patience, finding).await??)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn what_does_not_answer_is_left_behind_and_counted() {
        let threads = Arc::new(());
        let (thaw, frozen) = mpsc::channel::<()>();
        let work = Box::new(move || frozen.recv().is_ok());
        let late = beside(work, Arc::clone(&threads), Duration::from_millis(20)).await;
        assert!(matches!(late, Err(LookupError::Late(_))), "{late:?}");
        assert_eq!(Arc::strong_count(&threads), 2, "it is there still");
        let other = beside(Box::new(|| 7), Arc::new(()), PATIENCE).await;
        assert_eq!(other.expect("it does not wait for the first"), 7);
        drop(thaw);
        let gone = async {
            while Arc::strong_count(&threads) > 1 {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, gone).await.expect("it comes to its end");
    }

    #[tokio::test]
    async fn a_look_that_breaks_off_is_a_failure() {
        let work: Work<()> = Box::new(|| std::panic::resume_unwind(Box::new("on purpose")));
        let broken = beside(work, Arc::new(()), PATIENCE).await;
        assert!(matches!(broken, Err(LookupError::Broken(_))), "{broken:?}");
    }
}
