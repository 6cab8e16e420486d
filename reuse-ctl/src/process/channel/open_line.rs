//! Counts the messages that a worker has never read. The count is known when the worker has ended, as exactly as the kernel tells it.

use std::{
    io,
    os::fd::AsRawFd as _,
    sync::{Mutex, MutexGuard, PoisonError},
};

use hyper::body::Bytes;
use tokio::net::UnixStream;

use super::outbox::{Offer, Outbox};

/// Messages that a worker has never read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unread {
    /// How many.
    pub messages: u64,
    /// Else it has read some of them: what was in the socket can't be counted.
    pub is_exact: bool,
}

/// What the task and the controller's end share.
#[derive(Debug)]
pub(super) struct OpenLine {
    pub(super) stream: UnixStream,
    pub(super) outbox: Outbox<Bytes>,
    fate: Mutex<Fate>,
}

/// What is known of messages that have left the outbox.
#[derive(Debug, Default)]
struct Fate {
    /// So many were handed to the kernel since all that was before them had been read.
    in_socket: u64,
    /// So many of all are the controller's own; they are the last.
    own: u64,
    /// The worker's end was closed with something in it.
    was_cut: bool,
    is_told: bool,
}

/// How much of some messages is the kernel's.
#[derive(Debug)]
pub(super) enum Written {
    Partly,
    All {
        /// Of messages, as [`Outbox::passed_on`] tells it.
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

    /// What the worker says.
    pub(super) fn try_read(&self, piece: &mut [u8]) -> io::Result<usize> {
        // Under the lock: whoever asks at the same time what has become of it finds it noted.
        let mut fate = self.fate();
        let read = self.stream.try_read(piece);
        fate.was_cut |= matches!(&read, Err(error) if error.kind() == io::ErrorKind::ConnectionReset);
        read
    }

    /// Hands over what is left of these messages, of so many bytes in all.
    pub(super) fn try_write(&self, rest: &mut &[u8], messages: usize, bytes: usize) -> io::Result<Written> {
        // Under the lock, so that nobody finds them in both places, or in none.
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

    /// Before more is written: whether the worker has read everything is known now, and not when it has ended.
    pub(super) fn look(&self) {
        if waits_in_socket(&self.stream) == Some(0) {
            self.fate().in_socket = 0;
        }
    }

    /// Once the outbox is closed: what the worker has never read, if that was not told yet.
    pub(super) fn unread(&self) -> Option<Unread> {
        let mut fate = self.fate();
        // The kernel tells it once, to whoever comes first: as an error to the reader, or here.
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
        // Nothing in here panics half way.
        self.fate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes, with the kernel's own around them, that the worker has not read.
fn waits_in_socket(stream: &UnixStream) -> Option<libc::c_int> {
    let mut waiting: libc::c_int = 0;
    // SAFETY: the descriptor is open as long as `stream` is borrowed, and the kernel writes one int where `waiting` is.
    let result = unsafe { libc::ioctl(stream.as_raw_fd(), libc::TIOCOUTQ, &raw mut waiting) };
    (result == 0).then_some(waiting)
}
