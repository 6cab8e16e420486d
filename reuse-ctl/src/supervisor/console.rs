//! What a person sees in the terminal in which `run` was typed.

use std::{
    collections::HashSet,
    io::{IsTerminal as _, Write as _},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, channel, sync_channel},
    },
    time::Duration,
};

use tokio::{sync::mpsc as channels, task::JoinHandle};

use super::interface::SlotId;
use crate::process::logs::{self, Follower};

/// Writes the controller's own lines, and the workers' output behind their numbers. In the background it writes only its own.
///
/// A thread does the writing, and lines are dropped (and counted) when it does not keep up: a terminal that was stopped with Ctrl-S, or a
/// slow reader of a pipe, must not stop the controller.
#[derive(Debug)]
pub(super) struct Console {
    colour: bool,
    detached: bool,
    lines: Lines,
    /// Ends when everything was written.
    written: Receiver<()>,
    followed: HashSet<SlotId>,
    follow: channels::UnboundedSender<Followed>,
    following: JoinHandle<()>,
}

/// A log whose lines are shown behind its slot's number.
#[derive(Debug)]
struct Followed {
    prefix: String,
    log: Follower,
}

/// So many lines may wait to be written.
const WAITING: usize = 4096;

/// How long the last lines may take when the controller ends.
const LAST_LINES: Duration = Duration::from_secs(1);

/// So often a log is read (64 KiB each time) before the next one's turn.
const READS_IN_A_ROW: usize = 16;

/// Colours that can be told apart on dark and light grounds.
const COLOURS: [u8; 6] = [36, 33, 35, 32, 34, 31];

impl Console {
    pub(super) fn new(detached: bool) -> Self {
        let colour =
            std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let (lines, written) = Lines::start();
        let (follow, logs) = channels::unbounded_channel();
        let following = tokio::spawn(show(logs, lines.clone()));
        Self {
            colour,
            detached,
            lines,
            written,
            followed: HashSet::new(),
            follow,
            following,
        }
    }

    /// One line of the controller's.
    pub(super) fn say(&self, line: &str) {
        self.own("2", line);
    }

    /// One line that should be seen.
    pub(super) fn warn(&self, line: &str) {
        self.own("1;33", line);
    }

    fn own(&self, colour: &str, line: &str) {
        let line = if self.colour {
            format!("\x1b[{colour}mreuse-ctl\x1b[0m  {line}")
        } else {
            format!("reuse-ctl  {line}")
        };
        self.lines.send(Line::Own(line));
    }

    /// Shows what the slot's workers write from now on.
    pub(super) fn follow(&mut self, slot: SlotId, log: PathBuf) {
        if self.detached || !self.followed.insert(slot) {
            return;
        }
        let prefix = if self.colour {
            format!("\x1b[{}m{slot}|\x1b[0m ", COLOURS[usize::from(slot.0) % COLOURS.len()])
        } else {
            format!("{slot}| ")
        };
        let log = Follower::new(&log, logs::len(&log));
        // It is there as long as this is.
        drop(self.follow.send(Followed { prefix, log }));
    }
}

/// One task for all logs: with one each, sixty-four took half a percent of a core while nothing was written.
async fn show(mut fresh: channels::UnboundedReceiver<Followed>, out: Lines) {
    let mut followed = Vec::new();
    while let Some(first) = fresh.recv().await {
        followed.push(first);
        while !followed.is_empty() {
            tokio::time::sleep(logs::POLL).await;
            while let Ok(more) = fresh.try_recv() {
                followed.push(more);
            }
            followed.retain_mut(|log| log.show_new(&out));
        }
    }
}

impl Followed {
    /// Returns false if it can't be read.
    fn show_new(&mut self, out: &Lines) -> bool {
        // A log that grows faster than it can be read must not keep the others waiting.
        for _ in 0..READS_IN_A_ROW {
            let Ok(lines) = self.log.poll() else { return false };
            if lines.is_empty() {
                break;
            }
            for line in lines {
                out.send(Line::Workers(format!("{}{line}", self.prefix)));
            }
        }
        true
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        self.following.abort();
        self.lines.send(Line::Last);
        // Disconnected or late: nobody is left to tell.
        let (Ok(()) | Err(RecvTimeoutError::Disconnected | RecvTimeoutError::Timeout)) =
            self.written.recv_timeout(LAST_LINES);
    }
}

/// A line on its way to the terminal.
#[derive(Debug)]
enum Line {
    /// The controller's, to the error output.
    Own(String),
    /// A worker's, to the standard output.
    Workers(String),
    /// Nothing comes after it.
    Last,
}

/// The way to the writing thread.
#[derive(Debug, Clone)]
struct Lines {
    sender: SyncSender<Line>,
    dropped: Arc<AtomicU64>,
}

impl Lines {
    fn start() -> (Self, Receiver<()>) {
        let (sender, receiver) = sync_channel(WAITING);
        let (done, written) = channel();
        let dropped = Arc::new(AtomicU64::new(0));
        let lost = Arc::clone(&dropped);
        std::thread::spawn(move || {
            write_lines(&receiver, &lost);
            drop(done);
        });
        (Self { sender, dropped }, written)
    }

    fn send(&self, line: Line) {
        match self.sender.try_send(line) {
            Ok(()) | Err(TrySendError::Disconnected(_)) => {}
            Err(TrySendError::Full(_)) => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

fn write_lines(lines: &Receiver<Line>, dropped: &AtomicU64) {
    while let Ok(line) = lines.recv() {
        // Nobody is left to tell when the terminal is gone.
        match line {
            Line::Own(line) => drop(writeln!(std::io::stderr(), "{line}")),
            Line::Workers(line) => drop(writeln!(std::io::stdout(), "{line}")),
            Line::Last => return,
        }
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            drop(writeln!(
                std::io::stderr(),
                "reuse-ctl  {lost} lines were not shown: the terminal did not keep up"
            ));
        }
    }
}
