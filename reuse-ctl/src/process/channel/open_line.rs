//! Counts the messages that a worker never read. The number is known when the worker has ended, as exactly as the kernel allows.

use std::{
    io,
    os::fd::AsRawFd as _,
    sync::{Mutex, MutexGuard, PoisonError},
};

use hyper::body::Bytes;
use tokio::net::UnixStream;

use super::outbox::{Offer, Outbox};

/// Messages that a worker never read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unread {
    /// Number of messages.
    pub messages: u64,
    /// False if the worker has read some of them: the messages left in the socket can't be counted then.
    pub is_exact: bool,
}

/// State shared by the channel's task and the controller's end.
#[derive(Debug)]
pub(super) struct OpenLine {
    pub(super) stream: UnixStream,
    pub(super) outbox: Outbox<Bytes>,
    fate: Mutex<Fate>,
}

/// What is known about messages that have left the outbox.
#[derive(Debug, Default)]
struct Fate {
    /// Messages given to the kernel since everything before them was read.
    in_socket: u64,
    /// How many of these are the controller's own; they are the last ones.
    own: u64,
    /// The worker's end was closed with unread data.
    was_cut: bool,
    is_told: bool,
}

/// How many bytes the kernel has taken.
#[derive(Debug)]
pub(super) enum Written {
    Partly,
    All {
        /// Number of lost messages, as from [`Outbox::passed_on`].
        lost: Option<u64>,
    },
}

impl OpenLine {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            outbox: Outbox::new(),
            fate: Mutex::default(),
        }
    }

    /// As [`super::Channel::say_last`].
    pub(super) fn say_last(&self, line: Bytes) -> Offer {
        let mut fate = self.fate();
        let offer = self.outbox.offer(line);
        if offer == Offer::Queued {
            fate.own += 1;
        }
        offer
    }

    /// Reads what the worker has sent.
    pub(super) fn try_read(&self, piece: &mut [u8]) -> io::Result<usize> {
        // Under the lock, so that a concurrent `unread` sees the result.
        let mut fate = self.fate();
        let read = self.stream.try_read(piece);
        fate.was_cut |= matches!(&read, Err(error) if error.kind() == io::ErrorKind::ConnectionReset);
        read
    }

    /// Writes the rest of these messages, which have `bytes` bytes in all.
    pub(super) fn try_write(&self, rest: &mut &[u8], messages: usize, bytes: usize) -> io::Result<Written> {
        // Under the lock, so that nobody counts the messages twice, or not at all.
        let mut fate = self.fate();
        let written = self.stream.try_write(rest)?;
        *rest = &rest[written..];
        if !rest.is_empty() {
            return Ok(Written::Partly);
        }
        fate.in_socket += u64::try_from(messages).expect("they were in memory");
        let lost = self.outbox.passed_on(messages, bytes);
        Ok(Written::All { lost })
    }

    /// Checks, before more is written, whether the worker has read everything. After the worker has ended it is too late.
    pub(super) fn look(&self) {
        if waits_in_socket(&self.stream) == Some(0) {
            self.fate().in_socket = 0;
        }
    }

    /// Once the outbox is closed: the messages that the worker never read, unless they were reported already.
    pub(super) fn unread(&self) -> Option<Unread> {
        let mut fate = self.fate();
        // The kernel reports the error only once: either to the reader, or here.
        if let Ok(Some(error)) = self.stream.take_error() {
            fate.was_cut |= error.kind() == io::ErrorKind::ConnectionReset;
        }
        let in_socket = if fate.was_cut { fate.in_socket } else { 0 };
        let (never_taken, taken) = self.outbox.unread();
        let messages = (never_taken + taken + in_socket).saturating_sub(fate.own);
        if messages == 0 || std::mem::replace(&mut fate.is_told, true) {
            return None;
        }
        Some(Unread {
            messages,
            is_exact: taken + in_socket <= 1,
        })
    }

    fn fate(&self) -> MutexGuard<'_, Fate> {
        // Nothing in here panics while it holds the lock.
        self.fate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Unread bytes in the socket, including the kernel's overhead.
fn waits_in_socket(stream: &UnixStream) -> Option<libc::c_int> {
    let mut waiting: libc::c_int = 0;
    // SAFETY: the descriptor is open as long as `stream` is borrowed, and the kernel writes one int where `waiting` is.
    let result = unsafe { libc::ioctl(stream.as_raw_fd(), libc::TIOCOUTQ, &raw mut waiting) };
    (result == 0).then_some(waiting)
}
