//! What was seen of a server. Data only.

use serde::Serialize;

/// A server that was started once and stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Report {
    /// The command and its arguments.
    pub command: Vec<String>,
    /// The time from its start until it listened, in milliseconds.
    pub ready_ms: u64,
    /// The listeners of its processes.
    pub listeners: Vec<Listener>,
    /// The names of the processes from the started one to the one that listens, without the latter; empty if the started process listens
    /// itself.
    pub wrappers: Vec<String>,
    /// The answer to GET of the path.
    pub http: Http,
    /// How the server ended.
    pub ending: Ending,
    /// What became of the connections that clients had open at the stop signal.
    pub clients: Vec<Client>,
    /// What was left after the controller had stopped it.
    pub left: Left,
}

/// An open listener.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Listener {
    /// `0.0.0.0:8080`, `[::]:8080`, or the path of a Unix socket.
    pub address: String,
    /// What the listener means under `run`.
    pub kind: ListenerKind,
    /// The name of the process that has it open.
    pub program: String,
}

/// What a listener means if several workers run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ListenerKind {
    /// TCP on a port that the server chose: all workers listen there, and are steered.
    Shared,
    /// TCP on a port that the kernel assigned, or that `--port` excludes: every worker has its own, if it can.
    Private,
    /// UDP, which is not steered.
    Udp,
    /// A Unix socket with a path.
    Unix,
}

/// How the server answers a GET.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub(crate) enum Http {
    /// The server answered.
    Answered {
        /// The status.
        status: u16,
        /// The time from when it listened until the first answer, in milliseconds.
        first_answer_ms: u64,
        /// Whether the connection stays open for another request.
        keeps_alive: bool,
    },
    /// The server listens and does not answer HTTP.
    Silent,
}

/// How the server ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Ending {
    /// The stop signal: `SIGTERM`.
    pub signal: String,
    /// Whether the main process, or one that listens, handles the signal.
    pub caught: bool,
    /// The time from the signal to the end of the main process and of those that listened, in milliseconds.
    pub took_ms: u64,
    /// Whether it had to be killed because it did not end in time.
    pub killed: bool,
    /// How the main process ended, in words: "exited with code 0".
    pub how: String,
}

/// One connection that was open at the signal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Client {
    /// The kind of connection.
    pub what: What,
    /// What became of it.
    pub fate: Fate,
}

/// What a client had open at the signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum What {
    /// A request that the server was working on (`--slow-path`).
    InFlight,
    /// A request of which only a part was sent; the rest was sent after the signal.
    HalfRead,
    /// A complete request, sent right before the signal.
    JustSent,
    /// A keep-alive connection without a request.
    Idle,
    /// An upgraded connection.
    WebSocket,
}

/// What became of a connection. Times count from the signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub(crate) enum Fate {
    /// The complete answer arrived.
    Answered {
        /// The status.
        status: u16,
        /// When, in milliseconds.
        after_ms: u64,
    },
    /// The answer came before the signal was sent, so it proves nothing.
    TooFast,
    /// The connection was closed normally (FIN).
    Closed {
        /// When, in milliseconds.
        after_ms: u64,
        /// Whether a part of an answer had arrived.
        partly_answered: bool,
    },
    /// The server sent a WebSocket close frame.
    ClosedWith {
        /// The code, such as 1001.
        code: u16,
        /// When, in milliseconds.
        after_ms: u64,
    },
    /// The connection was reset (RST).
    Reset {
        /// When, in milliseconds.
        after_ms: u64,
    },
    /// Nothing had happened when the trial ended.
    LeftOpen,
    /// Not tried, because the server handles one connection at a time.
    NotTried,
}

/// What was left at the end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Left {
    /// The names of processes that went on running.
    pub processes: Vec<String>,
    /// Files of unix sockets.
    pub sockets: Vec<String>,
    /// Addresses on which a program still listened.
    pub listeners: Vec<String>,
}

impl Report {
    /// The fate of this kind of connection.
    pub(crate) fn fate(&self, what: What) -> Option<Fate> {
        let found = self.clients.iter().find(|client| client.what == what);
        found.map(|client| client.fate)
    }

    /// The listeners that are steered.
    pub(crate) fn shared(&self) -> impl Iterator<Item = &Listener> {
        self.listeners
            .iter()
            .filter(|listener| listener.kind == ListenerKind::Shared)
    }
}

impl Fate {
    /// Whether an expected answer did not arrive. False if nothing was tried.
    pub(crate) fn is_cut(self) -> bool {
        match self {
            Self::Closed { .. } | Self::Reset { .. } | Self::LeftOpen => true,
            Self::Answered { .. } | Self::TooFast | Self::ClosedWith { .. } | Self::NotTried => false,
        }
    }
}
