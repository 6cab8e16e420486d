//! The accept loop, a thread per connection, and the clean end.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::{Options, listen};

/// How long a connection that has not sent its first request may keep a stopping server alive.
const FIRST_REQUEST: u16 = 2000;

/// In MiB. A request for `/eat` that nobody stops is given up there.
const EATEN_MOST: usize = 512;

/// A request for `/burn` that nobody stops is given up then.
const BURNS_FOR: Duration = Duration::from_secs(60);

struct Shared {
    body: String,
    slow: Duration,
    /// Readable once the server is to stop; never read, so that every connection sees it.
    stop: EventFd,
    connections: AtomicUsize,
}

pub(crate) fn serve(options: &Options) -> anyhow::Result<()> {
    // Blocked before any thread exists, so that only the descriptor gets them.
    let mut signals = SigSet::empty();
    if !options.stubborn {
        signals.add(Signal::SIGTERM);
    }
    if options.toggle {
        signals.add(Signal::SIGUSR1);
    }
    signals.thread_block().context("block signals")?;
    if options.stubborn {
        // SAFETY: SIG_IGN runs no code of ours.
        unsafe { nix::sys::signal::signal(Signal::SIGTERM, nix::sys::signal::SigHandler::SigIgn) }
            .context("ignore SIGTERM")?;
    }
    let signals = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC).context("signalfd")?;
    let mut listeners = listen::listeners(options)?;
    let slot = std::env::var("REUSE_WORKER_ID").unwrap_or_else(|_| "-".to_owned());
    let shared = Arc::new(Shared {
        body: format!("{slot} {} {}\n", std::process::id(), options.label),
        slow: Duration::from_millis(options.slow_ms),
        stop: EventFd::from_flags(EfdFlags::EFD_CLOEXEC).context("eventfd")?,
        connections: AtomicUsize::new(0),
    });
    println!("listening");
    loop {
        let mut waiting = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        if !options.hang {
            waiting.extend(
                listeners
                    .iter()
                    .map(|listener| PollFd::new(listener.as_fd(), PollFlags::POLLIN)),
            );
        }
        poll(&mut waiting, PollTimeout::NONE).context("poll")?;
        let signalled = is_readable(&waiting[0]);
        let ready: Vec<bool> = waiting[1..].iter().map(is_readable).collect();
        drop(waiting);
        if signalled {
            match signals.read_signal().context("read signalfd")? {
                Some(signal) if signal.ssi_signo == u32::try_from(libc::SIGUSR1).expect("positive") => {
                    listeners = if listeners.is_empty() {
                        listen::listeners(options)?
                    } else {
                        Vec::new()
                    };
                    continue;
                }
                _ => break,
            }
        }
        for (listener, _) in listeners.iter().zip(ready).filter(|(_, ready)| *ready) {
            accept(listener, &shared);
        }
    }
    drop(listeners);
    shared.stop.write(1).context("write eventfd")?;
    while shared.connections.load(Ordering::Acquire) > 0 {
        thread::park_timeout(Duration::from_millis(2));
    }
    Ok(())
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    // Somebody else may have taken it, or it may be gone.
    let Ok((stream, _)) = listener.accept() else { return };
    let shared = Arc::clone(shared);
    shared.connections.fetch_add(1, Ordering::AcqRel);
    let connection = thread::Builder::new().stack_size(64 * 1024).spawn(move || {
        // A client that goes away is not the server's business.
        drop(converse(stream, &shared));
        shared.connections.fetch_sub(1, Ordering::AcqRel);
    });
    connection.expect("start a connection thread");
}

fn converse(mut stream: TcpStream, shared: &Shared) -> anyhow::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    let mut received = Vec::new();
    let mut chunk = [0; 2048];
    let mut answered = false;
    loop {
        if !wait_for_data(&stream, shared, answered || !received.is_empty())? {
            return Ok(());
        }
        let count = stream.read(&mut chunk)?;
        if count == 0 {
            return Ok(());
        }
        received.extend_from_slice(&chunk[..count]);
        let Some(end) = received.windows(4).position(|window| window == b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8_lossy(&received[..end]).to_ascii_lowercase();
        received.drain(..end + 4);
        match head.split(' ').nth(1) {
            Some("/eat") => eat(),
            Some("/burn") => burn(shared)?,
            _ => {}
        }
        if !shared.slow.is_zero() {
            #[expect(clippy::disallowed_methods, reason = "a slow answer is what was asked for")]
            thread::sleep(shared.slow);
        }
        let last = head.contains("connection: close") || is_set(shared.stop.as_fd())?;
        let connection = if last { "Connection: close\r\n" } else { "" };
        // One write: an answer in pieces costs the clients more than the server.
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{connection}\r\n{}",
            shared.body.len(),
            shared.body
        );
        stream.write_all(answer.as_bytes())?;
        if last {
            return Ok(());
        }
        answered = true;
    }
}

/// Takes memory, page by page, until the kernel ends the process.
fn eat() {
    let mut eaten = Vec::new();
    while eaten.len() < EATEN_MOST {
        eaten.push(vec![1_u8; 1 << 20]);
    }
}

/// Is busy until the server is to stop.
fn burn(shared: &Shared) -> anyhow::Result<()> {
    let begun = Instant::now();
    while begun.elapsed() < BURNS_FOR && !is_set(shared.stop.as_fd())? {}
    Ok(())
}

/// False when the server stops and nothing is under way. A connection that never sent anything gets a moment for its first request.
fn wait_for_data(stream: &TcpStream, shared: &Shared, used: bool) -> anyhow::Result<bool> {
    let mut waiting = [
        PollFd::new(stream.as_fd(), PollFlags::POLLIN),
        PollFd::new(shared.stop.as_fd(), PollFlags::POLLIN),
    ];
    poll(&mut waiting, PollTimeout::NONE)?;
    if is_readable(&waiting[0]) {
        return Ok(true);
    }
    if used {
        return Ok(false);
    }
    let mut first = [PollFd::new(stream.as_fd(), PollFlags::POLLIN)];
    Ok(poll(&mut first, PollTimeout::from(FIRST_REQUEST))? > 0)
}

fn is_set(event: BorrowedFd<'_>) -> anyhow::Result<bool> {
    Ok(poll(&mut [PollFd::new(event, PollFlags::POLLIN)], PollTimeout::ZERO)? > 0)
}

fn is_readable(descriptor: &PollFd<'_>) -> bool {
    descriptor.revents().is_some_and(|events| !events.is_empty())
}
