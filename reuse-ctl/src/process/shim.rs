//! Starts a worker, the shim's half: this process prepares everything around itself and then becomes the worker.
//!
//! It must have a single thread (user and capabilities are per thread), so it runs before any runtime is started. It was cloned into the
//! instance's cgroup. The logs are opened as root, who owns their folder. Listeners are created as the workers' user, because all members
//! of a group must have the same uid.

use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;
use std::process::ExitCode;

use caps::{CapSet, Capability, CapsHashSet};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::unistd::{Gid, Pid, Uid};

use super::descriptors;
use super::environment::worker_environment;
use super::identity::Identity;
use super::journal;
use super::launch::{FIRST_INHERITED_FD, LAUNCH_VARIABLE, LaunchFailure, LaunchSpec, Output, Step};
use super::listen::reuseport_listener;
use super::logs::{self, Stream};

/// The exit code of a shell that can't run a command.
const EXIT_NOT_LAUNCHED: u8 = 127;

/// Becomes the worker that `REUSE_CTL_LAUNCH` describes. Standard input is the error pipe, standard output the worker's end of its channel.
/// Returns only if a step failed, after reporting that through the pipe.
pub fn shim_main() -> ExitCode {
    let Ok(pipe) = above(io::stdin().as_fd(), FIRST_INHERITED_FD) else {
        return ExitCode::from(EXIT_NOT_LAUNCHED);
    };
    let mut pipe = File::from(pipe);
    let channel = above(io::stdout().as_fd(), FIRST_INHERITED_FD);
    let Err(failure) = launch(&mut pipe, channel);
    let json = serde_json::to_vec(&failure).expect("text and numbers only");
    // If this fails, there is nobody to report it to.
    drop(pipe.write_all(&json));
    ExitCode::from(EXIT_NOT_LAUNCHED)
}

fn launch(pipe: &mut File, channel: io::Result<OwnedFd>) -> Result<std::convert::Infallible, LaunchFailure> {
    let spec = specification().map_err(|error| LaunchFailure::new(Step::Specification, LAUNCH_VARIABLE, &error))?;
    let failed = |step, object: &dyn std::fmt::Display| {
        let object = object.to_string();
        move |error: io::Error| LaunchFailure::new(step, object, &error)
    };
    let user = &spec.identity.name;
    let channel = channel.map_err(failed(Step::Descriptors, &"channel"))?;

    reset_signals().map_err(failed(Step::Signals, &""))?;
    // The folder of the logs belongs to root; the journal records the user of each connection.
    let journal = match &spec.output {
        Output::Files { out, err } => {
            redirect_output(&open_log(&spec, out)?, &open_log(&spec, err)?)
                .map_err(failed(Step::Log, &out.display()))?;
            None
        }
        Output::Journal { identifier } => Some(identifier),
    };
    become_user(&spec.identity).map_err(failed(Step::User, user))?;
    if let Some(identifier) = journal {
        let connect = |stream| journal::connect(identifier, stream).map_err(failed(Step::Log, &journal::SOCKET));
        let (out, err) = (connect(Stream::Out)?, connect(Stream::Err)?);
        redirect_output(&out, &err).map_err(failed(Step::Log, &journal::SOCKET))?;
    }
    keep_low_ports(&spec.identity).map_err(failed(Step::Capabilities, user))?;

    // Moved away from the numbers that the listeners will get.
    let after = spec.after_listeners();
    let mut listeners = Vec::new();
    for address in &spec.listen {
        let listener = reuseport_listener(*address)
            .and_then(|listener| above(listener.as_fd(), after))
            .map_err(failed(Step::Listen, address))?;
        listeners.push(listener);
    }
    std::env::set_current_dir(&spec.cwd).map_err(failed(Step::Directory, &spec.cwd.display()))?;

    let channel_fd = spec.channel_fd();
    let beyond = |fd: BorrowedFd<'_>| above(fd, channel_fd + 1);
    *pipe = File::from(beyond(pipe.as_fd()).map_err(failed(Step::Descriptors, &"error pipe"))?);
    let channel = beyond(channel.as_fd()).map_err(failed(Step::Descriptors, &"channel"))?;
    for (number, listener) in (FIRST_INHERITED_FD..).zip(listeners) {
        place(listener, number).map_err(failed(Step::Descriptors, &"listeners"))?;
    }
    close_on_exec_from(after).map_err(failed(Step::Descriptors, &"others"))?;
    place(channel, channel_fd).map_err(failed(Step::Descriptors, &"channel"))?;

    let environment = worker_environment(std::env::vars_os(), &spec, std::process::id());
    // Last, because the channel's number may be above the limit.
    if let Some(limit) = spec.descriptors {
        descriptors::set_limit(limit).map_err(failed(Step::Descriptors, &format!("limit {limit}")))?;
    }
    let error = execute(&spec, environment);
    Err(LaunchFailure::new(Step::Exec, spec.program.display(), &error))
}

fn specification() -> io::Result<LaunchSpec> {
    let json = std::env::var(LAUNCH_VARIABLE).map_err(io::Error::other)?;
    serde_json::from_str(&json).map_err(io::Error::other)
}

/// Creates a process group, so that Ctrl-C reaches only the controller, and resets ignored and blocked signals: the worker must not inherit
/// the controller's settings, or that of Rust's runtime for SIGPIPE.
fn reset_signals() -> io::Result<()> {
    nix::unistd::setpgid(Pid::from_raw(0), Pid::from_raw(0))?;
    for signal in 1..=libc::SIGRTMAX() {
        // SAFETY: SIG_DFL installs no handler. The kernel refuses (EINVAL) SIGKILL, SIGSTOP and the C library's own signals, which is fine.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    nix::sys::signal::SigSet::empty().thread_set_mask()?;
    Ok(())
}

fn open_log(spec: &LaunchSpec, path: &Path) -> Result<File, LaunchFailure> {
    logs::open_for_append(path, spec.identity.uid, spec.identity.gid)
        .map_err(|error| LaunchFailure::new(Step::Log, path.display(), &error))
}

fn redirect_output(out: &impl AsFd, err: &impl AsFd) -> io::Result<()> {
    let null = File::open("/dev/null")?;
    nix::unistd::dup2_stdin(&null)?;
    nix::unistd::dup2_stdout(out)?;
    nix::unistd::dup2_stderr(err)?;
    Ok(())
}

fn become_user(identity: &Identity) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
    if !Uid::effective().is_root() && uid == Uid::effective() {
        return Ok(());
    }
    let groups: Vec<Gid> = identity.groups.iter().copied().map(Gid::from_raw).collect();
    nix::unistd::setgroups(&groups)?;
    nix::unistd::setresgid(gid, gid, gid)?;
    // Otherwise leaving uid 0 would drop all capabilities. The exec clears the flag again.
    nix::sys::prctl::set_keepcaps(true)?;
    nix::unistd::setresuid(uid, uid, uid)?;
    Ok(())
}

/// Keeps CAP_NET_BIND_SERVICE, also in the ambient set so that it survives the exec, and drops everything else. In a container without this
/// capability the worker doesn't get it.
fn keep_low_ports(identity: &Identity) -> io::Result<()> {
    if identity.runs_as_root() {
        return Ok(());
    }
    let permitted = caps::read(None, CapSet::Permitted).map_err(io::Error::other)?;
    let kept: CapsHashSet = permitted
        .intersection(&CapsHashSet::from([Capability::CAP_NET_BIND_SERVICE]))
        .copied()
        .collect();
    for set in [
        CapSet::Inheritable,
        CapSet::Effective,
        CapSet::Permitted,
        CapSet::Ambient,
    ] {
        caps::set(None, set, &kept).map_err(io::Error::other)?;
    }
    Ok(())
}

/// A duplicate at `lowest` or above, closed by the exec.
fn above(fd: BorrowedFd<'_>, lowest: RawFd) -> io::Result<OwnedFd> {
    let duplicate = fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(lowest))?;
    // SAFETY: the kernel has just created this descriptor.
    Ok(unsafe { std::os::fd::FromRawFd::from_raw_fd(duplicate) })
}

/// Puts a descriptor at this number, to be inherited.
fn place(fd: OwnedFd, number: RawFd) -> io::Result<()> {
    // SAFETY: the descriptor at this number isn't needed: those still needed were moved above all these numbers.
    let placed = unsafe { nix::unistd::dup2_raw(fd, number) }?;
    // The worker owns it from now on.
    std::mem::forget(placed);
    Ok(())
}

/// Makes sure that no other open descriptor of the controller, or of its parent, reaches the worker.
fn close_on_exec_from(first: RawFd) -> io::Result<()> {
    let first_number = libc::c_uint::try_from(first).map_err(io::Error::other)?;
    // SAFETY: three integers; marking descriptors changes nothing before the exec.
    let code = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first_number,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    match Errno::result(code) {
        Ok(_) => Ok(()),
        // Linux < 5.11.
        Err(Errno::ENOSYS | Errno::EINVAL) => close_on_exec_one_by_one(first),
        Err(errno) => Err(errno.into()),
    }
}

fn close_on_exec_one_by_one(first: RawFd) -> io::Result<()> {
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let number = entry?.file_name().to_str().and_then(|name| name.parse::<RawFd>().ok());
        if let Some(number) = number.filter(|number| *number >= first) {
            // SAFETY: sets a flag on a descriptor; the one of the folder itself may be gone by then, which is EBADF.
            unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
        }
    }
    Ok(())
}

fn execute(spec: &LaunchSpec, environment: Vec<(OsString, OsString)>) -> io::Error {
    let text = |value: Vec<u8>| CString::new(value).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL));
    let prepare = || -> io::Result<(CString, Vec<CString>, Vec<CString>)> {
        let program = text(spec.program.as_os_str().as_bytes().to_vec())?;
        let args = spec
            .args
            .iter()
            .map(|arg| text(arg.as_bytes().to_vec()))
            .collect::<io::Result<_>>()?;
        let variables = environment
            .into_iter()
            .map(|(name, value)| text([name.into_vec(), value.into_vec()].join(&b'=')))
            .collect::<io::Result<_>>()?;
        Ok((program, args, variables))
    };
    match prepare() {
        Ok((program, args, variables)) => match nix::unistd::execve(&program, &args, &variables) {
            Ok(never) => match never {},
            Err(errno) => errno.into(),
        },
        Err(error) => error,
    }
}
