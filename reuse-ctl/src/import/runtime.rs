//! Evaluates JavaScript with the user's own Node or Bun, as that user, and within limits.
//!
//! The result arrives on descriptor 3. Standard output of the file is discarded, and standard error is only searched for the place of an
//! error.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Gid, Pid, Uid};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio::time::{Instant, timeout_at};

use super::error::ImportError;
use super::script_error::ScriptError;
use super::value::Value;
use crate::process::command::{self, Search};
use crate::process::identity::{Identity, IdentitySource, caller_home};

const LOADER: &str = include_str!("loader.js");

/// Timeout of an evaluation.
const LIMIT: Duration = Duration::from_secs(10);

/// Maximum size of the result.
const MAX_RESULT_BYTES: u64 = 4 << 20;

/// Maximum size of the error output that is kept.
const MAX_COMPLAINT_BYTES: usize = 64 << 10;

/// Time to wait for the rest of the error output after the process has ended: other processes may hold it open.
const COMPLAINT_LIMIT: Duration = Duration::from_millis(200);

/// The descriptor to which the loader writes.
const RESULT_DESCRIPTOR: i32 = 3;

/// The loader's answer.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    value: Option<Value>,
    error: Option<ScriptError>,
    #[serde(default)]
    is_place_on_stderr: bool,
}

/// The value of the file's `module.exports` or default export.
pub(super) async fn evaluate(file: &Path) -> Result<Value, ImportError> {
    let file_failed = |source| ImportError::File {
        call: "realpath",
        file: file.to_owned(),
        source,
    };
    let absolute = std::path::absolute(file).map_err(file_failed)?;
    let run = Run::prepare(file, &absolute)?;
    let (mut child, result) = run.start(&absolute)?;
    let outcome = run.follow(&mut child, result).await;
    // Kills its descendants too. An id exists only until the process was waited for, so it is still the same process.
    if let Some(group) = child.id().and_then(|pid| i32::try_from(pid).ok())
        && let Err(error) = killpg(Pid::from_raw(group), Signal::SIGKILL)
    {
        tracing::debug!(%error, group, "killpg");
    }
    drop(child.wait().await);
    let (answer, complaint) = outcome?;
    match answer.error {
        Some(error) => Err(error.to_error(file, &absolute, &complaint)),
        None => Ok(answer.value.unwrap_or(Value::Null)),
    }
}

/// One evaluation.
struct Run<'a> {
    /// The file as typed.
    file: &'a Path,
    folder: PathBuf,
    program: PathBuf,
    path_prefix: Option<PathBuf>,
    identity: Identity,
}

impl<'a> Run<'a> {
    fn prepare(file: &'a Path, absolute: &Path) -> Result<Self, ImportError> {
        let folder = absolute.parent().unwrap_or(Path::new("/")).to_owned();
        let path = std::env::var_os("PATH");
        let home = caller_home();
        let search = Search {
            cwd: &folder,
            path: path.as_deref(),
            home: home.as_deref(),
        };
        let look_for = |name: &str| command::resolve(name.as_ref(), &search);
        let found = look_for("node").or_else(|error| look_for("bun").map_err(|_| error));
        let resolved = found.map_err(|source| ImportError::NoRuntime {
            file: file.to_owned(),
            source,
        })?;
        Ok(Self {
            file,
            folder,
            program: resolved.program,
            path_prefix: resolved.path_prefix,
            identity: Identity::resolve(None)?,
        })
    }

    fn failed(&self, call: &'static str) -> impl Fn(io::Error) -> ImportError {
        let program = self.program.clone();
        move |source| ImportError::Runtime {
            call,
            program: program.clone(),
            source,
        }
    }

    fn start(&self, absolute: &Path) -> Result<(Child, pipe::Receiver), ImportError> {
        let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC)
            .map_err(io::Error::from)
            .map_err(self.failed("pipe2"))?;
        let mut command = Command::new(&self.program);
        command
            .args(["-e", LOADER, "--"])
            .arg(absolute)
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        if let Some(prefix) = &self.path_prefix {
            let path = std::env::var_os("PATH").unwrap_or_default();
            let places = std::iter::once(prefix.clone()).chain(std::env::split_paths(&path));
            if let Ok(path) = std::env::join_paths(places) {
                command.env("PATH", path);
            }
        }
        self.become_the_person(&mut command, writer);
        let child = command.spawn().map_err(self.failed("execve"))?;
        // Drops the parent's copy, so that only the child has the write end.
        drop(command);
        let reader = pipe::Receiver::from_owned_fd(reader).map_err(self.failed("epoll_ctl"))?;
        Ok((child, reader))
    }

    /// Under sudo, runs the file as the user who called sudo, with that user's permissions and home.
    fn become_the_person(&self, command: &mut Command, writer: OwnedFd) {
        let identity = self.identity.clone();
        let is_another = identity.source == IdentitySource::Sudo;
        if is_another {
            command
                .env("HOME", &identity.home)
                .env("USER", &identity.name)
                .env("LOGNAME", &identity.name);
        }
        let groups: Vec<Gid> = identity.groups.iter().copied().map(Gid::from_raw).collect();
        let (gid, uid) = (Gid::from_raw(identity.gid), Uid::from_raw(identity.uid));
        // SAFETY: between fork and exec only system calls are made, on memory that is there already.
        unsafe {
            command.pre_exec(move || {
                if is_another {
                    nix::unistd::setgroups(&groups)?;
                    nix::unistd::setresgid(gid, gid, gid)?;
                    nix::unistd::setresuid(uid, uid, uid)?;
                }
                // After the change of user, which would reset it. An interrupted import must leave no process running.
                nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
                let from = writer.as_fd().as_raw_fd();
                // Duplicating a descriptor onto itself would leave it close-on-exec.
                let done = if from == RESULT_DESCRIPTOR {
                    libc::fcntl(from, libc::F_SETFD, 0)
                } else {
                    libc::dup2(from, RESULT_DESCRIPTOR)
                };
                if done < 0 {
                    Err(io::Error::last_os_error())
                } else {
                    Ok(())
                }
            });
        }
    }

    /// The loader's answer, and the error output.
    async fn follow(&self, child: &mut Child, result: pipe::Receiver) -> Result<(Answer, String), ImportError> {
        let deadline = Instant::now() + LIMIT;
        let late = |_| ImportError::Timeout {
            file: self.file.to_owned(),
            limit: LIMIT,
        };
        let complaint = tokio::spawn(read_complaint(child.stderr.take()));
        let mut line = Vec::new();
        let mut result = BufReader::new(result.take(MAX_RESULT_BYTES));
        let read = timeout_at(deadline, result.read_until(b'\n', &mut line)).await;
        read.map_err(late)?.map_err(self.failed("read from"))?;
        if line.last() != Some(&b'\n') {
            if line.len() as u64 >= MAX_RESULT_BYTES {
                return Err(ImportError::ResultTooLarge {
                    file: self.file.to_owned(),
                    limit: MAX_RESULT_BYTES,
                });
            }
            // The process has ended, or has closed the descriptor.
            let status = timeout_at(deadline, child.wait()).await.map_err(late)?;
            return Err(self.ended(status.map_err(self.failed("wait for"))?));
        }
        let answer: Answer = serde_json::from_slice(&line).map_err(|error| ImportError::Wrong {
            place: self.file.display().to_string(),
            reason: format!("its result can't be read: {error}"),
            hint: "it must not write to descriptor 3",
        })?;
        if answer.is_place_on_stderr {
            timeout_at(deadline, child.wait())
                .await
                .map_err(late)?
                .map_err(self.failed("wait for"))?;
        }
        let complaint = match tokio::time::timeout(COMPLAINT_LIMIT, complaint).await {
            Ok(Ok(text)) if answer.is_place_on_stderr => text,
            _ => String::new(),
        };
        Ok((answer, complaint))
    }

    fn ended(&self, status: ExitStatus) -> ImportError {
        ImportError::Ended {
            file: self.file.to_owned(),
            program: self
                .program
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            status,
        }
    }
}

/// The beginning of the error output. The rest is read and discarded, so that no writer blocks.
async fn read_complaint(stderr: Option<impl AsyncRead + Unpin>) -> String {
    let Some(mut stderr) = stderr else {
        return String::new();
    };
    let mut kept = Vec::new();
    let mut some = [0; 4096];
    while let Ok(count @ 1..) = stderr.read(&mut some).await {
        let room = MAX_COMPLAINT_BYTES.saturating_sub(kept.len());
        kept.extend_from_slice(&some[..count.min(room)]);
    }
    String::from_utf8_lossy(&kept).into_owned()
}
