//! What the terminal supports: colours, a line that is redrawn, its width.

use std::io::{self, IsTerminal as _};
use std::os::fd::AsRawFd as _;

/// What is known about the output.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terminal {
    /// Whether standard output is a terminal, on which live displays are redrawn.
    pub(crate) stdout_is_tty: bool,
    /// Whether standard error is a terminal, on which progress is redrawn.
    pub(crate) stderr_is_tty: bool,
    /// Colours for standard output.
    pub(crate) paint: Paint,
}

impl Terminal {
    pub(crate) fn current() -> Self {
        let stdout_is_tty = io::stdout().is_terminal();
        let stderr_is_tty = io::stderr().is_terminal();
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            stdout_is_tty,
            stderr_is_tty,
            paint: Paint {
                enabled: stdout_is_tty && !no_colour,
            },
        }
    }
}

/// Adds colour to text, or leaves it unchanged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Paint {
    pub(crate) enabled: bool,
}

/// The few colours in use, by meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    Plain,
    Strong,
    Faint,
    Good,
    Changing,
    Bad,
}

impl Paint {
    #[cfg(test)]
    pub(crate) const OFF: Self = Self { enabled: false };

    pub(crate) fn tone(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Plain => return text.into(),
            Tone::Strong => 1,
            Tone::Faint => 2,
            Tone::Good => 32,
            Tone::Changing => 33,
            Tone::Bad => 31,
        };
        if self.enabled {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.into()
        }
    }

    /// A colour that distinguishes worker `id` from its neighbours.
    pub(crate) fn worker(self, id: u16, text: &str) -> String {
        const COLOURS: [u8; 6] = [36, 33, 32, 35, 34, 31];
        let colour = COLOURS[usize::from(id) % COLOURS.len()];
        if self.enabled {
            format!("\x1b[{colour}m{text}\x1b[0m")
        } else {
            text.into()
        }
    }
}

/// Width in columns of the terminal on standard error; 80 if unknown.
pub(crate) fn stderr_columns() -> usize {
    let mut size = libc::winsize {
        ws_row: 0,
        ws_col: 0,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: TIOCGWINSZ writes one winsize, and `size` is one that outlives the call.
    let result = unsafe { libc::ioctl(io::stderr().as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    if result == 0 && size.ws_col > 0 {
        size.ws_col.into()
    } else {
        80
    }
}
