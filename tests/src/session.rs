//! Long-lived conversations with servers that give each connection a process of its own: `cat` behind sshd, socat, or a server that forks.

use std::fs::create_dir_all;
use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::net::{Shutdown, SocketAddr};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use crate::binaries::on_path;
use crate::commands::SERVER;
use crate::http;
use crate::scratch::Scratch;

/// How long an echo may take, and what else is immediate.
const SOON: Duration = Duration::from_secs(10);

/// What says each line back to the client that said it.
#[derive(Debug)]
pub enum Echo {
    /// Whatever serves lines on [`SERVER`].
    Lines,
    /// sshd, with keys of its own.
    Ssh(Scratch),
}

impl Echo {
    /// sshd and its command line; it serves on [`SERVER`] and lets root in with a key that is made here.
    ///
    /// # Panics
    /// When the keys or the configuration can't be written.
    pub fn sshd() -> (Self, Vec<String>) {
        let scratch = Scratch::new();
        for key in ["host", "client"] {
            let mut keygen = Command::new(on_path("ssh-keygen"));
            keygen
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(scratch.path().join(key));
            assert!(keygen.status().expect("run ssh-keygen").success(), "ssh-keygen failed");
        }
        // Where sshd's unprivileged part lives; Debian's service makes it.
        create_dir_all("/run/sshd").expect("make sshd's folder");
        let folder = scratch.path().display();
        let configuration = format!(
            "ListenAddress {SERVER}\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/client.pub\nPidFile none\n\
             PermitRootLogin yes\nStrictModes no\nUsePAM no\n"
        );
        let configuration = scratch.write("sshd_config", &configuration);
        let configuration = configuration.to_str().expect("a plain path").to_owned();
        let command = vec![
            on_path("sshd"),
            "-D".to_owned(),
            "-e".to_owned(),
            "-f".to_owned(),
            configuration,
        ];
        (Self::Ssh(scratch), command)
    }

    /// A new session.
    ///
    /// # Panics
    /// When it can't be had, or does not say a line back.
    #[track_caller]
    pub fn session(&self) -> Session {
        let mut session = match self {
            Self::Lines => Session::lines(SERVER),
            Self::Ssh(scratch) => Session::ssh(SERVER, scratch.path()),
        };
        session.echo("hello").expect("a new session says a line back");
        session
    }
}

/// One of them.
#[derive(Debug)]
pub struct Session {
    input: Input,
    /// Ends with the session.
    lines: Receiver<String>,
}

#[derive(Debug)]
enum Input {
    Connection(std::net::TcpStream),
    Ssh(ChildStdin, Child),
}

impl Session {
    fn lines(to: SocketAddr) -> Self {
        let stream = http::connect(to, None).expect("connect");
        stream.set_read_timeout(None).expect("no timeout");
        let output = stream.try_clone().expect("duplicate a descriptor");
        Self {
            input: Input::Connection(stream),
            lines: lines_of(output),
        }
    }

    fn ssh(to: SocketAddr, keys: &Path) -> Self {
        let mut ssh = Command::new(on_path("ssh"));
        ssh.args([
            "-F",
            "none",
            "-T",
            "-o",
            "BatchMode=yes",
            "-o",
            "StrictHostKeyChecking=no",
        ])
        .args(["-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-i"])
        .arg(keys.join("client"))
        .args(["-p", &to.port().to_string(), &format!("root@{}", to.ip()), "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
        let mut process = ssh.spawn().expect("start ssh");
        let output = process.stdout.take().expect("a pipe was asked for");
        let input = process.stdin.take().expect("a pipe was asked for");
        Self {
            input: Input::Ssh(input, process),
            lines: lines_of(output),
        }
    }

    /// Says a line, and waits until it comes back.
    ///
    /// # Errors
    /// When the session has ended, or nothing came.
    pub fn echo(&mut self, line: &str) -> io::Result<()> {
        let said = format!("{line}\n");
        match &mut self.input {
            Input::Connection(stream) => stream.write_all(said.as_bytes())?,
            Input::Ssh(input, _) => input.write_all(said.as_bytes())?,
        }
        let heard = self.lines.recv_timeout(SOON).map_err(io::Error::other)?;
        if heard == line {
            Ok(())
        } else {
            Err(io::Error::other(format!("{heard:?} instead of {line:?}")))
        }
    }

    /// Ends it as its user would.
    ///
    /// # Panics
    /// When it does not end well.
    #[track_caller]
    pub fn end(self) {
        match self.input {
            Input::Connection(stream) => {
                stream.shutdown(Shutdown::Write).expect("a connection that was not cut");
                assert_eq!(
                    self.lines.recv_timeout(SOON),
                    Err(mpsc::RecvTimeoutError::Disconnected),
                    "the server closes too"
                );
            }
            Input::Ssh(input, mut process) => {
                drop(input);
                let status = process.wait().expect("wait for a child of ours");
                assert!(status.success(), "ssh: {status}");
            }
        }
    }
}

fn lines_of(output: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}
