//! The output in the terminal in which `run` was typed.

use super::terminal::{TerminalLine, TerminalLines, is_coloured};
use crate::{base::SlotId, process::logs::Stream};

/// Prints the controller's own lines, and the workers' output with their numbers in front. A controller in the background prints only its
/// own. Never waits for the terminal.
#[derive(Debug)]
pub(crate) struct Console {
    colour: bool,
    detached: bool,
    lines: TerminalLines,
}

/// Prints workers' output to the terminal.
#[derive(Debug, Clone)]
pub(crate) struct WorkerLines {
    colour: bool,
    lines: TerminalLines,
}

/// Colours that can be distinguished on dark and light backgrounds.
const COLOURS: [u8; 6] = [36, 33, 35, 32, 34, 31];

impl Console {
    pub(crate) fn new(detached: bool, lines: TerminalLines) -> Self {
        Self {
            colour: is_coloured(),
            detached,
            lines,
        }
    }

    /// Prints a line of the controller.
    pub(crate) fn say(&self, line: &str) {
        self.own("2", line);
    }

    /// Prints an important line of the controller.
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

    /// The printer for workers' lines; `None` in the background.
    pub(crate) fn worker_lines(&self) -> Option<WorkerLines> {
        (!self.detached).then(|| WorkerLines {
            colour: self.colour,
            lines: self.lines.clone(),
        })
    }
}

impl WorkerLines {
    /// Prints a line of a worker after its slot's number. Lines from standard error have a `!` there.
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
