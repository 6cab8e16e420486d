//! The lines in the terminal in which `run` was typed.

use super::terminal::{TerminalLine, TerminalLines, is_coloured};
use crate::{base::SlotId, process::logs::Stream};

/// Writes the controller's own lines, and the workers' output behind their numbers. In the background it writes only its own.
/// It never waits for the terminal.
#[derive(Debug)]
pub(crate) struct Console {
    colour: bool,
    detached: bool,
    lines: TerminalLines,
}

/// The workers' way to the terminal.
#[derive(Debug, Clone)]
pub(crate) struct WorkerLines {
    colour: bool,
    lines: TerminalLines,
}

/// Colours that can be told apart on dark and light grounds.
const COLOURS: [u8; 6] = [36, 33, 35, 32, 34, 31];

impl Console {
    pub(crate) fn new(detached: bool, lines: TerminalLines) -> Self {
        Self {
            colour: is_coloured(),
            detached,
            lines,
        }
    }

    /// One line of the controller's.
    pub(crate) fn say(&self, line: &str) {
        self.own("2", line);
    }

    /// One line that should be seen.
    pub(crate) fn warn(&self, line: &str) {
        self.own("1;33", line);
    }

    fn own(&self, colour: &str, line: &str) {
        let line = if self.colour {
            format!("\x1b[{colour}mreuse-ctl\x1b[0m  {line}")
        } else {
            format!("reuse-ctl  {line}")
        };
        self.lines.put(TerminalLine::Own(line));
    }

    /// What shows the workers' lines; nothing does in the background.
    pub(crate) fn worker_lines(&self) -> Option<WorkerLines> {
        (!self.detached).then(|| WorkerLines {
            colour: self.colour,
            lines: self.lines.clone(),
        })
    }
}

impl WorkerLines {
    /// A line of a worker's, behind its slot's number; what it wrote to its standard error has a `!` there.
    pub(crate) fn show(&self, slot: SlotId, stream: Stream, line: &str) {
        let bar = match stream {
            Stream::Out => '|',
            Stream::Err => '!',
        };
        self.lines.put(TerminalLine::Workers(if self.colour {
            let colour = COLOURS[usize::from(slot.0) % COLOURS.len()];
            format!("\x1b[{colour}m{slot}{bar}\x1b[0m {line}")
        } else {
            format!("{slot}{bar} {line}")
        }));
    }
}
