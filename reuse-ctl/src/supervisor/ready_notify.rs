//! `--ready notify`: messages that workers send by sd_notify, each over its own socket.
//!
//! Only READY=1 and STATUS= are used. MAINPID, STOPPING, RELOADING and descriptors are ignored: which instance a process belongs to and
//! when it ends is seen directly. A descriptor sent with BARRIER=1 is closed, which is what its sender waits for.

use super::live::BackgroundEvent;
use crate::{base::InstanceId, process::cgroup::InstanceCgroup};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixCredentials, recvmsg, setsockopt, sockopt};
use std::{
    fs, io,
    io::IoSliceMut,
    os::{
        fd::AsRawFd as _,
        unix::{
            fs::{PermissionsExt as _, chown},
            net::UnixDatagram as Socket,
        },
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::Interest,
    net::UnixDatagram,
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, sleep_until},
};

/// Maximum length of a message in bytes, the same as in systemd.
const MAX_MESSAGE_BYTES: usize = 4096;

/// Maximum length of the status that is shown.
const MAX_STATUS_CHARACTERS: usize = 200;

/// Minimum interval between two statuses that are passed on, so that no worker keeps the controller busy.
const STATUS_EVERY: Duration = Duration::from_millis(100);

/// The socket of one instance. Dropping it removes it.
#[derive(Debug)]
pub(crate) struct NotifySocket {
    path: PathBuf,
    listening: JoinHandle<()>,
}

/// A message of an instance.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// It is ready.
    Ready,
    /// Its status, for the user.
    Status(String),
}

impl NotifySocket {
    /// Creates the socket at `path`, to which processes of this user may write, and listens. Messages of processes in `cgroup` are reported
    /// as [`BackgroundEvent::Notified`]. Needs a runtime.
    ///
    /// # Errors
    /// As socket(2), bind(2), chown(2) or chmod(2).
    pub(crate) fn open(
        path: &Path,
        (uid, gid): (u32, u32),
        id: InstanceId,
        cgroup: Arc<InstanceCgroup>,
        background_events: mpsc::Sender<BackgroundEvent>,
    ) -> io::Result<Self> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            // There was no socket, or that of a dead controller.
            _ => {}
        }
        let socket = Socket::bind(path)?;
        let opened = (|| {
            fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
            chown(path, Some(uid), Some(gid))?;
            setsockopt(&socket, sockopt::PassCred, &true)?;
            socket.set_nonblocking(true)?;
            UnixDatagram::from_std(socket)
        })();
        let socket = opened.inspect_err(|_| drop(fs::remove_file(path)))?;
        let listening = tokio::spawn(listen(socket, id, cgroup, background_events));
        Ok(Self {
            path: path.to_owned(),
            listening,
        })
    }

    /// The value of `NOTIFY_SOCKET`.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for NotifySocket {
    fn drop(&mut self) {
        self.listening.abort();
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!("{}: {error}", self.path.display());
        }
    }
}

async fn listen(
    socket: UnixDatagram,
    id: InstanceId,
    cgroup: Arc<InstanceCgroup>,
    background_events: mpsc::Sender<BackgroundEvent>,
) {
    let is_its = |pid: u32| cgroup.pids().is_ok_and(|pids| pids.contains(&pid));
    let mut is_ready = false;
    let mut said = String::new();
    // The last status that was not passed on, and its sender.
    let mut waiting: Option<(u32, String)> = None;
    let mut next_status = Instant::now();
    loop {
        tokio::select! {
            biased;
            () = sleep_until(next_status), if waiting.is_some() => {
                next_status = Instant::now() + STATUS_EVERY;
                let Some((pid, status)) = waiting.take() else { continue };
                if is_its(pid) {
                    said.clone_from(&status);
                    // The receiver exists as long as this task has not been aborted.
                    drop(background_events.send(BackgroundEvent::Notified(id, Said::Status(status))).await);
                }
            }
            received = socket.async_io(Interest::READABLE, || receive(&socket)) => {
                let (pid, message) = match received {
                    Ok(received) => received,
                    Err(error) => {
                        tracing::warn!(instance = id.0, "its notify socket can't be read any more: {error}");
                        return;
                    }
                };
                let Some(pid) = pid else { continue };
                let Message { ready, status } = Message::parse(&message);
                if ready && !is_ready {
                    is_ready = is_its(pid);
                    if is_ready {
                        drop(background_events.send(BackgroundEvent::Notified(id, Said::Ready)).await);
                    } else {
                        tracing::warn!(instance = id.0, pid, "READY=1 from a process that does not belong to the worker, or has ended");
                    }
                }
                match status {
                    Some(status) if status != said || waiting.is_some() => waiting = Some((pid, status)),
                    _ => {}
                }
            }
        }
    }
}

/// One message, and its sender's pid if that is visible from here.
fn receive(socket: &UnixDatagram) -> io::Result<(Option<u32>, Vec<u8>)> {
    let mut message = vec![0; MAX_MESSAGE_BYTES];
    // There is no room for descriptors, so the kernel closes them.
    let mut room = nix::cmsg_space!(UnixCredentials);
    let mut into = [IoSliceMut::new(&mut message)];
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
    let received = recvmsg::<()>(socket.as_raw_fd(), &mut into, Some(&mut room), flags)?;
    let sender = received.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::ScmCredentials(credentials) => u32::try_from(credentials.pid()).ok(),
        _ => None,
    });
    let length = received.bytes;
    message.truncate(length);
    Ok((sender.filter(|pid| *pid != 0), message))
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Message {
    ready: bool,
    status: Option<String>,
}

impl Message {
    fn parse(bytes: &[u8]) -> Self {
        let mut message = Self::default();
        for line in String::from_utf8_lossy(bytes).lines() {
            match line.split_once('=') {
                Some(("READY", "1")) => message.ready = true,
                Some(("STATUS", text)) => message.status = Some(shown(text)),
                _ => {}
            }
        }
        message
    }
}

/// Makes a text safe for a terminal: a worker must not move its cursor.
fn shown(text: &str) -> String {
    let plain = text
        .trim()
        .chars()
        .map(|character| if character.is_control() { ' ' } else { character });
    plain.take(MAX_STATUS_CHARACTERS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{base::SlotId, process::cgroup::AppCgroup};

    #[test]
    fn what_is_heard_of_a_message() {
        let message = |ready, status: Option<&str>| Message {
            ready,
            status: status.map(str::to_owned),
        };
        for (bytes, expected) in [
            (&b"READY=1"[..], message(true, None)),
            (
                b"READY=1\nSTATUS=serving 3 of 4 \n",
                message(true, Some("serving 3 of 4")),
            ),
            (b"STATUS=\x1b[2Jgone\xff", message(false, Some(" [2Jgone\u{fffd}"))),
            (b"READY=0\nMAINPID=1\nSTOPPING=1\nBARRIER=1", message(false, None)),
            (b"", message(false, None)),
            (b"READY", message(false, None)),
        ] {
            assert_eq!(Message::parse(bytes), expected, "{bytes:?}");
        }
        assert_eq!(shown(&"x".repeat(1000)).len(), MAX_STATUS_CHARACTERS);
    }

    /// A process of this test, in no instance's cgroup, can write to the socket, but its message is ignored.
    #[tokio::test]
    async fn only_processes_of_the_instance_are_believed() {
        let app = AppCgroup::create(&format!("test-{}-notify", std::process::id())).expect("cgroup v2 and root");
        let cgroup = Arc::new(app.instance(SlotId(0), InstanceId(0)).expect("made"));
        let path = std::env::temp_dir().join(format!("reuse-notify-{}", std::process::id()));
        let (background_events, mut happened) = mpsc::channel(8);
        let socket =
            NotifySocket::open(&path, (0, 0), InstanceId(7), Arc::clone(&cgroup), background_events).expect("opened");

        let stranger = Socket::unbound().expect("made");
        stranger.send_to(b"READY=1\nSTATUS=mine", socket.path()).expect("sent");
        let script = "import os,socket,sys\nopen(sys.argv[1] + '/cgroup.procs', 'w').write('0')\n\
            s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\ns.connect(sys.argv[2])\n\
            s.send(b'STATUS=one\\nREADY=1')\ns.send(b'READY=1\\nSTATUS=two')\nsys.stdin.read()";
        let mut child = tokio::process::Command::new("/usr/bin/python3")
            .args(["-c", script])
            .args([cgroup.path(), &path])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .expect("python3 runs");
        let mut heard = Vec::new();
        while !heard.contains(&Said::Status("two".into())) {
            let next = tokio::time::timeout(Duration::from_secs(10), happened.recv());
            match next.await.expect("it says more").expect("open") {
                BackgroundEvent::Notified(id, said) => {
                    assert_eq!(id, InstanceId(7));
                    heard.push(said);
                }
                _ => panic!("something else has happened"),
            }
        }
        assert_eq!(
            heard.iter().filter(|said| **said == Said::Ready).count(),
            1,
            "{heard:?}"
        );
        assert!(!heard.contains(&Said::Status("mine".into())), "{heard:?}");
        drop(child.stdin.take());
        child.wait().await.expect("ours");
        drop(socket);
        assert!(!path.exists());
        drop(cgroup.remove());
        drop(app.remove());
    }
}
