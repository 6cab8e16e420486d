//! What a person sees in the terminal in which `run` was typed.

use std::{
    collections::HashMap,
    io::{IsTerminal as _, Write as _},
    path::PathBuf,
};

use tokio::task::JoinHandle;

use super::interface::SlotId;
use crate::process::logs::{self, Follower};

/// Writes the controller's own lines, and the workers' output behind their numbers. In the background it writes only its own.
#[derive(Debug)]
pub(super) struct Console {
    colour: bool,
    detached: bool,
    followers: HashMap<SlotId, JoinHandle<()>>,
}

/// Colours that can be told apart on dark and light grounds.
const COLOURS: [u8; 6] = [36, 33, 35, 32, 34, 31];

impl Console {
    pub(super) fn new(detached: bool) -> Self {
        let colour =
            std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self {
            colour,
            detached,
            followers: HashMap::new(),
        }
    }

    /// One line of the controller's.
    pub(super) fn say(&self, line: &str) {
        let (dim, plain) = if self.colour { ("\x1b[2m", "\x1b[0m") } else { ("", "") };
        // Nobody is left to tell when the terminal is gone.
        drop(writeln!(std::io::stderr(), "{dim}reuse-ctl{plain}  {line}"));
    }

    /// One line that should be seen.
    pub(super) fn warn(&self, line: &str) {
        let (bold, plain) = if self.colour {
            ("\x1b[1;33m", "\x1b[0m")
        } else {
            ("", "")
        };
        drop(writeln!(std::io::stderr(), "{bold}reuse-ctl{plain}  {line}"));
    }

    /// Shows what the slot's workers write from now on.
    pub(super) fn follow(&mut self, slot: SlotId, log: PathBuf) {
        if self.detached || self.followers.contains_key(&slot) {
            return;
        }
        let prefix = if self.colour {
            format!("\x1b[{}m{slot}|\x1b[0m ", COLOURS[usize::from(slot.0) % COLOURS.len()])
        } else {
            format!("{slot}| ")
        };
        let mut follower = Follower::new(&log, logs::len(&log));
        let task = tokio::spawn(async move {
            while let Ok(lines) = follower.next().await {
                let mut out = std::io::stdout().lock();
                for line in lines {
                    drop(writeln!(out, "{prefix}{line}"));
                }
            }
        });
        self.followers.insert(slot, task);
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        for follower in self.followers.values() {
            follower.abort();
        }
    }
}
