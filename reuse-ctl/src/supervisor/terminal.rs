//! Writes lines to the terminal, or to whatever the standard output and error are. Either may stop taking anything at any time: Ctrl-S, a pipe
//! that nobody reads.
//!
//! A line is put into a queue, which never waits, and a thread writes it. The queue is bounded: lines that do not fit are lost, and a line in
//! their place says how many.

use std::{
    collections::VecDeque,
    io::{self, IsTerminal as _, Write},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tracing_subscriber::fmt::MakeWriter;

use crate::base::count;

/// So much may wait to be written.
const MAX_WAITING_BYTES: usize = 2 << 20;

/// Of that, for the workers' lines: however much they write, there is room for the controller's own.
const MAX_WORKERS_BYTES: usize = 1 << 20;

/// What each line costs beside its bytes.
const OVERHEAD_BYTES: usize = 64;

/// How long the last lines may take when the controller ends.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Who has it waits, when it is dropped, for the last lines: a second at most.
#[derive(Debug)]
pub(crate) struct Terminal(TerminalLines);

/// Where lines are put.
#[derive(Debug, Clone)]
pub(crate) struct TerminalLines(Arc<Shared>);

/// A line on its way to the terminal, without its end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum TerminalLine {
    /// The controller's, to the error output.
    Own(String),
    /// A worker's, to the standard output.
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

/// Whether what people read may have colours.
pub(crate) fn is_coloured() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Says panics here, too: the usual way would wait for the terminal. What was said before them is written before the process may end.
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
    /// The workers' lines are being lost, until there is room for a good many.
    workers_are_losing: bool,
    /// The thread has something in its hands.
    is_writing: bool,
    /// There is no thread any more, or won't be in a moment.
    is_finished: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    Line(TerminalLine),
    /// So many lines are missing here.
    Lost(u64),
}

impl TerminalLines {
    fn new() -> Self {
        Self(Arc::default())
    }

    /// It is written, or counted as lost. Nobody waits for that.
    pub(crate) fn put(&self, line: TerminalLine) {
        let mut queue = self.queue();
        if queue.is_finished {
            drop(queue);
            // Nothing is left that could be held up.
            return Entry::Line(line).write();
        }
        queue.put(line);
        self.0.changed.notify_all();
    }

    /// Nothing more is put there.
    fn finish(&self) {
        self.queue().is_finished = true;
        self.0.changed.notify_all();
    }

    /// What is to be written next, when there is something. The one before has been written.
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
        // Nothing in here panics half way.
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
        // Nobody is left to tell when the terminal is gone.
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

/// Diagnostics go there, too.
impl MakeWriter<'_> for TerminalLines {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// Each piece that is written is a whole line, or several.
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
