//! What was seen of a server. Data only.

use serde::Serialize;

/// A server that was started once, and ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Report {
    /// The command and its arguments.
    pub command: Vec<String>,
    /// From its start until it was ready: it listened.
    pub ready_ms: u64,
    /// Where its processes listened.
    pub listeners: Vec<Listener>,
    /// The names of the processes between the one that was started and the one that listens, both ends but the last included; empty
    /// if the one that was started listens.
    pub wrappers: Vec<String>,
    /// What GET of the path gave.
    pub http: Http,
    /// How it ended.
    pub ending: Ending,
    /// What became of what clients had open when the stop signal came.
    pub clients: Vec<Client>,
    /// What was left when the controller had ended it.
    pub left: Left,
}

/// An open listener.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Listener {
    /// `0.0.0.0:8080`, `[::]:8080`, or the path of a unix socket.
    pub address: String,
    /// What it means under `run`.
    pub kind: ListenerKind,
    /// The process that has it open, by name.
    pub program: String,
}

/// What a listener means when several workers run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ListenerKind {
    /// TCP on a port of its own choice: all workers listen there, and are steered.
    Shared,
    /// TCP on a port that the kernel picked, or one that `--port` leaves out: every worker has its own, if it can.
    Private,
    /// UDP, which is not steered.
    Udp,
    /// A unix socket with a path.
    Unix,
}

/// How the server answers a GET.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub(crate) enum Http {
    /// It answered.
    Answered {
        /// The status.
        status: u16,
        /// How long the first answer took, from the moment on at which it listened.
        first_answer_ms: u64,
        /// Whether the connection stays open for another request.
        keeps_alive: bool,
    },
    /// It listens, and gives no answer to HTTP.
    Silent,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Ending {
    /// The stop signal: `SIGTERM`.
    pub signal: String,
    /// Whether the main process, or one that listens, had a handler for it.
    pub caught: bool,
    /// From the signal to the end of the main process and of those that listened.
    pub took_ms: u64,
    /// Whether it had to be killed: it did not end in time.
    pub killed: bool,
    /// How the main process did, in words: "exited with code 0".
    pub how: String,
}

/// One connection that was open at the signal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Client {
    /// What was open.
    pub what: What,
    /// What became of it.
    pub fate: Fate,
}

/// What a client had open when the signal came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum What {
    /// A request that the server worked on (`--slow-path`).
    InFlight,
    /// A request of which only a part was sent; the rest came after the signal.
    HalfRead,
    /// A whole request, sent right before the signal.
    JustSent,
    /// A keep-alive connection on which nothing was asked.
    Idle,
    /// An upgraded connection.
    WebSocket,
}

/// What became of it. Times count from the signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub(crate) enum Fate {
    /// The whole answer came.
    Answered {
        /// The status.
        status: u16,
        /// When.
        after_ms: u64,
    },
    /// The answer came before the signal was sent, so it shows nothing.
    TooFast,
    /// It was closed in good order (FIN).
    Closed {
        /// When.
        after_ms: u64,
        /// A part of an answer had come.
        partly_answered: bool,
    },
    /// The server said goodbye by a WebSocket close frame.
    ClosedWith {
        /// The code, such as 1001.
        code: u16,
        /// When.
        after_ms: u64,
    },
    /// It was reset (RST).
    Reset {
        /// When.
        after_ms: u64,
    },
    /// Nothing had come of it when the trial was over.
    LeftOpen,
    /// The server takes one connection at a time, so this was not tried beside the others.
    NotTried,
}

/// What was left in the end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Left {
    /// Processes that went on, by name.
    pub processes: Vec<String>,
    /// Files of unix sockets.
    pub sockets: Vec<String>,
    /// Addresses on which somebody still listened when all was over.
    pub listeners: Vec<String>,
}

impl Report {
    /// What became of this.
    pub(crate) fn fate(&self, what: What) -> Option<Fate> {
        let found = self.clients.iter().find(|client| client.what == what);
        found.map(|client| client.fate)
    }

    /// The steered listeners.
    pub(crate) fn shared(&self) -> impl Iterator<Item = &Listener> {
        self.listeners
            .iter()
            .filter(|listener| listener.kind == ListenerKind::Shared)
    }
}

impl Fate {
    /// Whether an answer that was owed did not come; nothing is known of what was not tried.
    pub(crate) fn is_cut(self) -> bool {
        match self {
            Self::Closed { .. } | Self::Reset { .. } | Self::LeftOpen => true,
            Self::Answered { .. } | Self::TooFast | Self::ClosedWith { .. } | Self::NotTried => false,
        }
    }
}
