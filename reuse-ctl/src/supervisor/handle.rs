//! The handle of the supervisor: the requests that its task takes. A client that goes away drops its end of the answer; its request goes on.

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

/// How many asks may wait for the supervisor before further clients wait in turn.
const ASKS: usize = 64;

/// How many events a slow reader may lag behind before it misses some (and is told how many).
const EVENTS: usize = 1024;

/// What the API asks of the supervisor. A dropped reply receiver means that the client went away.
#[derive(Debug)]
pub enum Ask {
    /// How things are now.
    Status(oneshot::Sender<Status>),
    /// Do something; answered when it is done or refused.
    Command {
        /// What.
        command: Command,
        /// See [`CommandRequest`].
        new_address: bool,
        /// The one answer.
        reply: oneshot::Sender<Reply>,
    },
    /// Start a canary: the command is looked up, then it is a command like any other.
    Canary {
        /// Its share.
        share: Share,
        /// The rest of what was asked.
        request: CanaryRequest,
        /// The one answer.
        reply: oneshot::Sender<Reply>,
    },
    /// What the app was told to be.
    Spec(oneshot::Sender<AppSpec>),
    /// Make it what this says.
    Apply {
        /// What.
        request: SpecRequest,
        /// Whether root asks.
        by_root: bool,
        /// The one answer.
        reply: oneshot::Sender<Reply>,
    },
    /// Ask one worker over HTTP.
    Get {
        /// Which.
        slot: SlotId,
        /// What.
        request: GetRequest,
        /// What it answered, or why nothing came.
        reply: oneshot::Sender<Result<Got, Reply>>,
    },
    /// Send a message to one worker, or to all.
    Send {
        /// Absent: to all.
        slot: Option<SlotId>,
        /// What.
        message: Outgoing,
        /// The one answer: whom it is queued for, or who can't get it.
        reply: oneshot::Sender<Reply>,
    },
    /// Listen to the bus.
    Bus(oneshot::Sender<BusReader>),
}

/// The supervisor as the API sees it.
#[derive(Debug, Clone)]
pub struct Handle {
    asks: mpsc::Sender<Ask>,
    events: broadcast::Sender<Event>,
    /// Whom the workers run as.
    workers: Uid,
}

/// The supervisor's ends of a [`Handle`].
#[derive(Debug)]
pub struct SupervisorEnds {
    /// What clients ask. Dropping it makes every further request fail with "the app is stopping".
    pub asks: mpsc::Receiver<Ask>,
    /// Where the supervisor tells what happens; an error of `send` only means that nobody listens.
    pub events: broadcast::Sender<Event>,
}

impl Handle {
    /// A handle, and what the supervisor keeps of it.
    /// `workers`: whom the workers run as, which decides who may start a canary.
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

    /// Whom the workers run as.
    pub fn workers(&self) -> Uid {
        self.workers
    }

    /// The app's status; [`Stopping`] when the supervisor is gone.
    ///
    /// # Errors
    /// The supervisor is gone.
    pub async fn status(&self) -> Result<Status, Stopping> {
        let (sender, receiver) = oneshot::channel();
        self.asks.send(Ask::Status(sender)).await.map_err(|_| Stopping)?;
        receiver.await.map_err(|_| Stopping)
    }

    /// Has the supervisor carry out `command`, and waits until it has; [`Stopping`] as a reply when it is gone.
    pub async fn command(&self, asked: impl Into<CommandRequest>) -> Reply {
        let (reply, receiver) = oneshot::channel();
        let CommandRequest { command, new_address } = asked.into();
        let ask = Ask::Command {
            command,
            new_address,
            reply,
        };
        if self.asks.send(ask).await.is_err() {
            return Stopping.into();
        }
        receiver.await.unwrap_or_else(|_| Stopping.into())
    }

    /// Has the supervisor start a canary, and waits until it is active or given up.
    pub async fn canary(&self, share: Share, request: CanaryRequest) -> Reply {
        let (reply, receiver) = oneshot::channel();
        let ask = Ask::Canary { share, request, reply };
        if self.asks.send(ask).await.is_err() {
            return Stopping.into();
        }
        receiver.await.unwrap_or_else(|_| Stopping.into())
    }

    /// What the app was told to be; [`Stopping`] when the supervisor is gone.
    ///
    /// # Errors
    /// The supervisor is gone.
    pub async fn spec(&self) -> Result<AppSpec, Stopping> {
        let (sender, receiver) = oneshot::channel();
        self.asks.send(Ask::Spec(sender)).await.map_err(|_| Stopping)?;
        receiver.await.map_err(|_| Stopping)
    }

    /// Has the supervisor make the app what this says, and waits until it is.
    /// `by_root`: whether root asks.
    pub async fn apply(&self, request: SpecRequest, by_root: bool) -> Reply {
        let (reply, receiver) = oneshot::channel();
        let ask = Ask::Apply {
            request,
            by_root,
            reply,
        };
        if self.asks.send(ask).await.is_err() {
            return Stopping.into();
        }
        receiver.await.unwrap_or_else(|_| Stopping.into())
    }

    /// Has the supervisor ask one worker, and waits for its answer.
    ///
    /// # Errors
    /// Why there is none.
    #[expect(clippy::result_large_err, reason = "one per request of a person")]
    pub async fn get(&self, slot: SlotId, request: GetRequest) -> Result<Got, Reply> {
        let (reply, receiver) = oneshot::channel();
        let ask = Ask::Get { slot, request, reply };
        if self.asks.send(ask).await.is_err() {
            return Err(Stopping.into());
        }
        receiver.await.unwrap_or_else(|_| Err(Stopping.into()))
    }

    /// Has the supervisor send a message to one worker or (absent) to all.
    pub async fn send(&self, slot: Option<SlotId>, message: Outgoing) -> Reply {
        let (reply, receiver) = oneshot::channel();
        if self.asks.send(Ask::Send { slot, message, reply }).await.is_err() {
            return Stopping.into();
        }
        receiver.await.unwrap_or_else(|_| Stopping.into())
    }

    /// What is published on the bus from now on.
    ///
    /// # Errors
    /// The supervisor is gone.
    pub async fn bus(&self) -> Result<BusReader, Stopping> {
        let (reply, receiver) = oneshot::channel();
        self.asks.send(Ask::Bus(reply)).await.map_err(|_| Stopping)?;
        receiver.await.map_err(|_| Stopping)
    }

    /// What happens from now on.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }
}

/// Nobody is left to carry out a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the app is stopping")]
pub struct Stopping;

impl From<Stopping> for Reply {
    fn from(stopping: Stopping) -> Self {
        Failure::failed(stopping.to_string(), "`reuse-ctl ls` shows what still runs").into()
    }
}
