//! The handle of the supervisor, with the requests that its task takes. If a client disconnects, its request is still carried out.

use nix::unistd::Uid;
use tokio::sync::{broadcast, mpsc, oneshot};

use reuse_common::Share;

use super::bus::BusReader;
use crate::{
    app::AppSpec,
    base::{Failure, SlotId},
    process::channel::message::Outgoing,
    wire::{CanaryRequest, Event, GetRequest, Got, Reply, SpecRequest, Status, commands::CommandRequest},
};
use reuse_machine::interface::Command;

/// Number of requests that may wait for the supervisor before further clients have to wait.
const ASKS: usize = 64;

/// Number of events by which a reader may lag before it misses some (and is told how many).
const EVENTS: usize = 1024;

/// A request of the API to the supervisor. A dropped reply receiver means that the client has disconnected.
#[derive(Debug)]
pub enum Ask {
    /// Get the current status.
    Status(oneshot::Sender<Status>),
    /// Carry out a command. Answered when it is done or refused.
    Command {
        /// The command.
        command: Command,
        /// See [`CommandRequest`].
        new_address: bool,
        /// Receives the answer.
        reply: oneshot::Sender<Reply>,
    },
    /// Start a canary. Its command is looked up first, then this becomes an ordinary command.
    Canary {
        /// The canary's share.
        share: Share,
        /// The rest of the request.
        request: CanaryRequest,
        /// Receives the answer.
        reply: oneshot::Sender<Reply>,
    },
    /// Get the app's specification.
    Spec(oneshot::Sender<AppSpec>),
    /// Change the app to match a specification.
    Apply {
        /// The specification.
        request: SpecRequest,
        /// Whether the client is root.
        by_root: bool,
        /// Receives the answer.
        reply: oneshot::Sender<Reply>,
    },
    /// Send an HTTP request to one worker.
    Get {
        /// The worker's slot.
        slot: SlotId,
        /// The request.
        request: GetRequest,
        /// Receives the worker's answer, or the reason why there is none.
        reply: oneshot::Sender<Result<Got, Reply>>,
    },
    /// Send a message to one worker, or to all.
    Send {
        /// The slot; `None`: all.
        slot: Option<SlotId>,
        /// The message.
        message: Outgoing,
        /// Receives the answer: the workers for which it is queued, or who can't get it.
        reply: oneshot::Sender<Reply>,
    },
    /// Subscribe to the bus.
    Bus(oneshot::Sender<BusReader>),
}

/// The API's interface to the supervisor.
#[derive(Debug, Clone)]
pub struct Handle {
    asks: mpsc::Sender<Ask>,
    events: broadcast::Sender<Event>,
    /// The uid of the workers.
    workers: Uid,
}

/// The supervisor's ends of a [`Handle`].
#[derive(Debug)]
pub struct SupervisorEnds {
    /// The requests of clients. Dropping it makes every further request fail with "the app is stopping".
    pub asks: mpsc::Receiver<Ask>,
    /// Sends events. An error of `send` only means that nobody listens.
    pub events: broadcast::Sender<Event>,
}

impl Handle {
    /// A handle, and the ends that the supervisor keeps. `workers` is the workers' uid, which decides who may start a canary, `apply`, and read the
    /// specification.
    pub fn new(workers: Uid) -> (Self, SupervisorEnds) {
        let (asks, asked) = mpsc::channel(ASKS);
        let (events, _) = broadcast::channel(EVENTS);
        (
            Self {
                asks,
                events: events.clone(),
                workers,
            },
            SupervisorEnds { asks: asked, events },
        )
    }

    /// The uid of the workers.
    pub fn workers(&self) -> Uid {
        self.workers
    }

    /// The app's status.
    ///
    /// # Errors
    /// [`Stopping`] if the supervisor has ended.
    pub async fn status(&self) -> Result<Status, Stopping> {
        self.answer(Ask::Status).await
    }

    /// Has the supervisor carry out `command`, and waits for the answer. The answer is [`Stopping`] if the supervisor has ended.
    pub async fn command(&self, asked: impl Into<CommandRequest>) -> Reply {
        let CommandRequest { command, new_address } = asked.into();
        let ask = |reply| Ask::Command {
            command,
            new_address,
            reply,
        };
        self.answer(ask).await.unwrap_or_else(Reply::from)
    }

    /// Has the supervisor start a canary, and waits until it is active or has failed.
    pub async fn canary(&self, share: Share, request: CanaryRequest) -> Reply {
        let ask = |reply| Ask::Canary { share, request, reply };
        self.answer(ask).await.unwrap_or_else(Reply::from)
    }

    /// The app's specification.
    ///
    /// # Errors
    /// [`Stopping`] if the supervisor has ended.
    pub async fn spec(&self) -> Result<AppSpec, Stopping> {
        self.answer(Ask::Spec).await
    }

    /// Has the supervisor change the app to match a specification, and waits until that is done. `by_root`: whether the client is root.
    pub async fn apply(&self, request: SpecRequest, by_root: bool) -> Reply {
        let ask = |reply| Ask::Apply {
            request,
            by_root,
            reply,
        };
        self.answer(ask).await.unwrap_or_else(Reply::from)
    }

    /// Has the supervisor send a request to one worker, and waits for the answer.
    ///
    /// # Errors
    /// The reason why there is no answer.
    pub async fn get(&self, slot: SlotId, request: GetRequest) -> Result<Got, Reply> {
        self.answer(|reply| Ask::Get { slot, request, reply }).await?
    }

    /// Has the supervisor send a message to one worker, or to all (`None`).
    pub async fn send(&self, slot: Option<SlotId>, message: Outgoing) -> Reply {
        let ask = |reply| Ask::Send { slot, message, reply };
        self.answer(ask).await.unwrap_or_else(Reply::from)
    }

    /// A reader of everything that is published on the bus from now on.
    ///
    /// # Errors
    /// [`Stopping`] if the supervisor has ended.
    pub async fn bus(&self) -> Result<BusReader, Stopping> {
        self.answer(Ask::Bus).await
    }

    async fn answer<T>(&self, ask: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Result<T, Stopping> {
        let (reply, receiver) = oneshot::channel();
        self.asks.send(ask(reply)).await.map_err(|_| Stopping)?;
        receiver.await.map_err(|_| Stopping)
    }

    /// The events from now on.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }
}

/// The supervisor has ended, so it can't carry out a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the app is stopping")]
pub struct Stopping;

impl From<Stopping> for Reply {
    fn from(stopping: Stopping) -> Self {
        Failure::failed(stopping.to_string(), "`reuse-ctl ls` shows what still runs").into()
    }
}
