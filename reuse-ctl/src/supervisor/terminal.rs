//! Writes lines to the terminal, or to whatever standard output and error are. Either may block at any time: Ctrl-S, or a pipe that nobody
//! reads.
//!
//! A line is added to a queue, which never blocks, and a thread writes it. The queue is bounded. Lines that don't fit are dropped, and a
//! line in their place says how many.

use std::{
    collections::VecDeque,
    io::{self, IsTerminal as _, Write},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tracing_subscriber::fmt::MakeWriter;

use crate::base::count;

/// Maximum size of the waiting lines in bytes.
const MAX_WAITING_BYTES: usize = 2 << 20;

/// The part of it for workers' lines: however much they write, there is room for the controller's own lines.
const MAX_WORKERS_BYTES: usize = 1 << 20;

/// Added to the size of each line.
const OVERHEAD_BYTES: usize = 64;

/// How long the last lines may take when the controller ends.
const LAST_LINES: Duration = Duration::from_secs(1);

/// The writer. Dropping it waits for the last lines, for a second at most.
#[derive(Debug)]
pub(crate) struct Terminal(TerminalLines);

/// Accepts lines for the terminal.
#[derive(Debug, Clone)]
pub(crate) struct TerminalLines(Arc<Shared>);

/// A line for the terminal, without its newline.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum TerminalLine {
    /// A line of the controller, for standard error.
    Own(String),
    /// A line of a worker, for standard output.
    Workers(String),
}

impl Terminal {
    /// Starts the thread.
    ///
    /// # Errors
    /// As clone(2).
    pub(crate) fn start() -> io::Result<Self> {
        let lines = TerminalLines::new();
        let source = lines.clone();
        let write = move || {
            while let Some(entry) = source.next() {
                entry.write();
            }
        };
        std::thread::Builder::new().name("terminal".into()).spawn(write)?;
        Ok(Self(lines))
    }

    pub(crate) fn lines(&self) -> TerminalLines {
        self.0.clone()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.0.finish();
        self.0.wait_until_written(LAST_LINES);
    }
}

/// Whether the output that users read may have colours.
pub(crate) fn is_coloured() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Sends panic messages through the queue too, because the default handler would wait for the terminal. Earlier lines are written before
/// the process may end.
pub(crate) fn show_panics(lines: TerminalLines) {
    std::panic::set_hook(Box::new(move |panic| {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("without a name");
        let trace = std::backtrace::Backtrace::capture();
        let trace = match trace.status() {
            std::backtrace::BacktraceStatus::Captured => format!("\n{trace}"),
            _ => String::new(),
        };
        lines.put(TerminalLine::Own(format!("thread {name} {panic}{trace}")));
        lines.wait_until_written(LAST_LINES);
    }));
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Entry>,
    bytes: usize,
    /// Workers' lines are being dropped, until there is enough room again.
    workers_are_losing: bool,
    /// The thread is writing an entry.
    is_writing: bool,
    /// The thread has ended or is about to.
    is_finished: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    Line(TerminalLine),
    /// This many lines were dropped here.
    Lost(u64),
}

impl TerminalLines {
    fn new() -> Self {
        Self(Arc::default())
    }

    /// Adds a line, which is written or counted as dropped. Never blocks.
    pub(crate) fn put(&self, line: TerminalLine) {
        let mut queue = self.queue();
        if queue.is_finished {
            drop(queue);
            // Without the thread, nothing can be held up any more.
            return Entry::Line(line).write();
        }
        queue.put(line);
        self.0.changed.notify_all();
    }

    /// Accepts no more lines.
    fn finish(&self) {
        self.queue().is_finished = true;
        self.0.changed.notify_all();
    }

    /// Waits for the next entry. The previous one has been written.
    pub(crate) fn next(&self) -> Option<Entry> {
        let mut queue = self.queue();
        queue.is_writing = false;
        self.0.changed.notify_all();
        let nothing = |queue: &mut Queue| queue.waiting.is_empty() && !queue.is_finished;
        let mut queue = self
            .0
            .changed
            .wait_while(queue, nothing)
            .unwrap_or_else(PoisonError::into_inner);
        let entry = queue.take();
        queue.is_writing = entry.is_some();
        entry
    }

    fn wait_until_written(&self, limit: Duration) {
        let unfinished = |queue: &mut Queue| queue.is_writing || !queue.waiting.is_empty();
        // After the limit nothing more can be done.
        drop(self.0.changed.wait_timeout_while(self.queue(), limit, unfinished));
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Nothing in here panics while it holds the lock.
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn put(&mut self, line: TerminalLine) {
        let cost = line.cost();
        let fits = match line {
            TerminalLine::Own(_) => self.bytes + cost <= MAX_WAITING_BYTES,
            TerminalLine::Workers(_) => {
                self.workers_are_losing &= self.bytes > MAX_WORKERS_BYTES / 2;
                self.workers_are_losing |= self.bytes + cost > MAX_WORKERS_BYTES;
                !self.workers_are_losing
            }
        };
        if fits {
            self.bytes += cost;
            self.waiting.push_back(Entry::Line(line));
        } else if let Some(Entry::Lost(lost)) = self.waiting.back_mut() {
            *lost += 1;
        } else {
            self.waiting.push_back(Entry::Lost(1));
        }
    }

    pub(crate) fn take(&mut self) -> Option<Entry> {
        let entry = self.waiting.pop_front()?;
        if let Entry::Line(line) = &entry {
            self.bytes -= line.cost();
        }
        Some(entry)
    }
}

impl TerminalLine {
    fn cost(&self) -> usize {
        let (Self::Own(text) | Self::Workers(text)) = self;
        text.len() + OVERHEAD_BYTES
    }
}

impl Entry {
    fn write(&self) {
        // If the terminal is gone, there is nobody to tell.
        match self {
            Self::Line(TerminalLine::Own(line)) => drop(writeln!(io::stderr(), "{line}")),
            Self::Line(TerminalLine::Workers(line)) => drop(writeln!(io::stdout(), "{line}")),
            Self::Lost(lost) => {
                let (lines, were) = (count(*lost, "line"), if *lost == 1 { "was" } else { "were" });
                drop(writeln!(
                    io::stderr(),
                    "reuse-ctl  {lines} {were} not shown: the terminal did not keep up"
                ));
            }
        }
    }
}

/// Diagnostics are written through the queue too.
impl MakeWriter<'_> for TerminalLines {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// Each write contains one or more complete lines.
impl Write for TerminalLines {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        let line = text.strip_suffix(b"\n").unwrap_or(text);
        self.put(TerminalLine::Own(String::from_utf8_lossy(line).into_owned()));
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
