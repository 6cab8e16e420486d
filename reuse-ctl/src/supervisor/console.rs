//! What a person sees in the terminal in which `run` was typed.

use std::{
    io::{IsTerminal as _, Write as _},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, channel, sync_channel},
    },
    time::Duration,
};

use super::interface::SlotId;
use crate::process::logs::Stream;

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
}

/// The workers' way to the terminal.
#[derive(Debug, Clone)]
pub(super) struct WorkerLines {
    colour: bool,
    lines: Lines,
}

/// So many lines may wait to be written.
const WAITING: usize = 4096;

/// How long the last lines may take when the controller ends.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Colours that can be told apart on dark and light grounds.
const COLOURS: [u8; 6] = [36, 33, 35, 32, 34, 31];

impl Console {
    pub(super) fn new(detached: bool) -> Self {
        let colour =
            std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let (lines, written) = Lines::start();
        Self {
            colour,
            detached,
            lines,
            written,
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

    /// What shows the workers' lines; nothing does in the background.
    pub(super) fn worker_lines(&self) -> Option<WorkerLines> {
        (!self.detached).then(|| WorkerLines {
            colour: self.colour,
            lines: self.lines.clone(),
        })
    }
}

impl WorkerLines {
    /// A line of a worker's, behind its slot's number; what it wrote to its standard error has a `!` there.
    pub(super) fn show(&self, slot: SlotId, stream: Stream, line: &str) {
        let bar = match stream {
            Stream::Out => '|',
            Stream::Err => '!',
        };
        self.lines.send(Line::Workers(if self.colour {
            let colour = COLOURS[usize::from(slot.0) % COLOURS.len()];
            format!("\x1b[{colour}m{slot}{bar}\x1b[0m {line}")
        } else {
            format!("{slot}{bar} {line}")
        }));
    }
}

impl Drop for Console {
    fn drop(&mut self) {
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
