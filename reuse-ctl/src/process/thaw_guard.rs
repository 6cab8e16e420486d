//! A process that thaws what the controller has frozen, in case the controller dies or hangs before it does so itself.
//!
//! A frozen cgroup stays frozen until someone thaws it, even if the process that froze it ends. The controller tells the guard through a
//! pipe what is frozen. When the pipe closes, or after half a second, the guard thaws it. The guard is this program under another verb. It
//! is started with the first freeze, and ends with the controller.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::{OsStrExt as _, OsStringExt as _},
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// The hidden verb of the guard.
pub const THAW_VERB: &str = "__thaw";

/// The guard thaws after this time. No worker is frozen for more than a fraction of it.
const LIMIT: Duration = Duration::from_millis(500);

/// Sent when nothing is frozen any more. A path is never empty.
const THAWED: &[u8] = b"\0";

/// The controller's end.
#[derive(Debug)]
pub(super) struct ThawGuard {
    guard: Child,
}

impl ThawGuard {
    /// Starts the guard.
    ///
    /// # Errors
    /// Fails if the program can't be run again.
    pub(super) fn start() -> io::Result<Self> {
        let guard = Command::new("/proc/self/exe")
            .arg(THAW_VERB)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir("/")
            .spawn()?;
        Ok(Self { guard })
    }

    /// Must be called before `control`, a cgroup's `cgroup.freeze`, is set to 1.
    ///
    /// # Errors
    /// The guard has ended, so nothing may be frozen.
    pub(super) fn watch(&mut self, control: &Path) -> io::Result<()> {
        let mut message = control.as_os_str().as_bytes().to_vec();
        message.extend_from_slice(THAWED);
        self.say(&message)
    }

    /// Must be called after `control` was set to 0.
    ///
    /// # Errors
    /// The guard has ended.
    pub(super) fn rest(&mut self) -> io::Result<()> {
        self.say(THAWED)
    }

    fn say(&mut self, message: &[u8]) -> io::Result<()> {
        let pipe = self.guard.stdin.as_mut().expect("it was piped");
        pipe.write_all(message)
    }
}

impl Drop for ThawGuard {
    fn drop(&mut self) {
        // The guard exits when its pipe is closed.
        drop(self.guard.stdin.take());
        drop(self.guard.wait());
    }
}

/// The `main` function under [`THAW_VERB`].
pub fn guard_main() -> ExitCode {
    // Ctrl-C is for the controller, which may be in the middle of a freeze.
    // SAFETY: no handler is installed; nothing else runs in this process.
    unsafe {
        for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT] {
            libc::signal(signal, libc::SIG_IGN);
        }
    }
    let Ok(pipe) = io::stdin().as_fd().try_clone_to_owned() else {
        return ExitCode::FAILURE;
    };
    match guard(pipe) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Runs until the pipe is closed.
fn guard(pipe: OwnedFd) -> io::Result<()> {
    let mut pipe = File::from(pipe);
    let mut watched: Option<(PathBuf, Instant)> = None;
    let mut text = Vec::new();
    let mut part = [0; 4096];
    loop {
        let left = watched
            .as_ref()
            .map(|(_, deadline)| deadline.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            thaw(watched.take());
            continue;
        }
        let timeout = left.map_or(PollTimeout::NONE, |left| {
            PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
        });
        match poll(&mut [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) | Err(Errno::EINTR) => continue,
            ready => drop(ready?),
        }
        let length = pipe.read(&mut part)?;
        if length == 0 {
            thaw(watched.take());
            return Ok(());
        }
        text.extend_from_slice(&part[..length]);
        while let Some(end) = text.iter().position(|&byte| byte == THAWED[0]) {
            let message: Vec<u8> = text.drain(..=end).take(end).collect();
            watched = (!message.is_empty()).then(|| {
                let control = std::ffi::OsString::from_vec(message);
                (control.into(), Instant::now() + LIMIT)
            });
        }
    }
}

fn thaw(watched: Option<(PathBuf, Instant)>) {
    if let Some((control, _)) = watched {
        // A removed cgroup has no process to thaw.
        drop(std::fs::write(control, "0"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn pipe() -> (OwnedFd, File) {
        let (read, write) = nix::unistd::pipe().expect("a pipe");
        (read, write.into())
    }

    #[test]
    fn what_is_frozen_when_the_pipe_closes_is_thawed() {
        for (said_at_the_end, expected) in [(&b""[..], "0"), (THAWED, "1")] {
            let control = std::env::temp_dir().join(format!("reuse-ctl-thaw-{}-{expected}", std::process::id()));
            fs::write(&control, "1").expect("written");
            let (read, mut write) = pipe();
            let name = [control.as_os_str().as_bytes(), THAWED].concat();
            // In parts, as a pipe may give them.
            write.write_all(&name[..5]).expect("said");
            write.write_all(&name[5..]).expect("said");
            write.write_all(said_at_the_end).expect("said");
            drop(write);
            guard(read).expect("until the pipe closes");
            assert_eq!(fs::read_to_string(&control).expect("there"), expected);
            fs::remove_file(&control).expect("there");
        }
    }

    #[test]
    fn what_stays_frozen_is_thawed() {
        let control = std::env::temp_dir().join(format!("reuse-ctl-thaw-{}-late", std::process::id()));
        fs::write(&control, "1").expect("written");
        let (read, mut write) = pipe();
        write
            .write_all(&[control.as_os_str().as_bytes(), THAWED].concat())
            .expect("said");
        let guard = std::thread::spawn(move || guard(read));
        let deadline = Instant::now() + 20 * LIMIT;
        while fs::read_to_string(&control).expect("there") != "0" {
            assert!(Instant::now() < deadline, "it is thawed in time");
            std::thread::yield_now();
        }
        drop(write);
        guard.join().expect("no panic").expect("until the pipe closes");
        fs::remove_file(&control).expect("there");
    }
}
