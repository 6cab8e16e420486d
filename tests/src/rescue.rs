//! What a controller does to the listener of a hung worker, by bare system calls and without the product: the queue is moved to the
//! other members of the group, and the listener listens again.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::{fault, kernel, leftovers, wait};

/// How long a cgroup may take to freeze: its processes may be waiting for a processor.
const FREEZE_LIMIT: Duration = Duration::from_millis(200);

/// `include/uapi/asm-generic/socket.h`; crate `libc` lacks it.
const SO_DETACH_REUSEPORT_BPF: libc::c_int = 68;

/// A duplicate of a server's listener.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    inode: u64,
    backlog: i32,
}

/// How long the parts of one rescue took.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pause {
    /// Until nothing of the server ran any more; 0 when it was not frozen.
    pub freezing: Duration,
    /// `shutdown`.
    pub shutting: Duration,
    /// `listen`.
    pub listening: Duration,
}

impl Listener {
    /// The listener on `port` that one of these processes holds; `None` while there is none.
    pub fn of(pids: &[i32], port: u16) -> Option<Self> {
        let listeners = kernel::listeners(port);
        pids.iter().find_map(|pid| {
            let (descriptor, inode) = kernel::socket_descriptors(*pid)
                .into_iter()
                .find(|(_, inode)| listeners.iter().any(|listener| listener.inode == *inode))?;
            let socket = fault::duplicate(*pid, descriptor).ok()?;
            let backlog = backlog(&socket).ok()?;
            Some(Self { socket, inode, backlog })
        })
    }

    /// The number of the socket, by which the kernel's tables name it.
    pub fn inode(&self) -> u64 {
        self.inode
    }

    /// Takes it out of the choice (or puts it back): new connections go to the group's first member, which it is not once it has been
    /// rescued and so joined last; else the kernel's hash decides.
    ///
    /// # Errors
    /// Of `setsockopt`.
    pub fn withdraw(&self, withdrawn: bool) -> io::Result<()> {
        let mut first = [libc::sock_filter {
            code: u16::try_from(libc::BPF_RET | libc::BPF_K).expect("16 bits"),
            jt: 0,
            jf: 0,
            k: 0,
        }];
        let program = libc::sock_fprog {
            len: 1,
            filter: first.as_mut_ptr(),
        };
        let option = if withdrawn {
            libc::SO_ATTACH_REUSEPORT_CBPF
        } else {
            SO_DETACH_REUSEPORT_BPF
        };
        let size = libc::socklen_t::try_from(size_of_val(&program)).expect("16 bytes");
        // SAFETY: the program and the filter that it points to live across the call; detaching reads an integer's worth of the buffer.
        let result = unsafe {
            libc::setsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_SOCKET,
                option,
                (&raw const program).cast(),
                size,
            )
        };
        if result == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }

    /// Moves the queue to the other members of the group, and listens again; `gap` is spent between the two system calls.
    ///
    /// # Errors
    /// Of `shutdown` or `listen`.
    pub fn rescue(&self, gap: Duration) -> io::Result<Pause> {
        let descriptor = self.socket.as_raw_fd();
        let begun = Instant::now();
        // SAFETY: both system calls take a descriptor that `self` owns, and integers.
        let (shut, shutting, listens) = unsafe {
            let shut = libc::shutdown(descriptor, libc::SHUT_RD);
            // Reading the clock is no system call.
            let shutting = begun.elapsed();
            if !gap.is_zero() {
                #[expect(clippy::disallowed_methods, reason = "a rescue that is done badly on purpose")]
                std::thread::sleep(gap);
            }
            (shut, shutting, libc::listen(descriptor, self.backlog))
        };
        let listening = begun.elapsed().saturating_sub(shutting + gap);
        if shut == 0 && listens == 0 {
            Ok(Pause {
                freezing: Duration::ZERO,
                shutting,
                listening,
            })
        } else {
            Err(io::Error::last_os_error())
        }
    }

    /// As [`Self::rescue`], while nothing of the server runs: none of its threads can see the listener closed.
    ///
    /// # Errors
    /// Of writing the cgroup's files, `shutdown` or `listen`. It is thawed in any case.
    pub fn rescue_frozen(&self, group: &Cgroup) -> io::Result<Pause> {
        let freezing = group.freeze()?;
        let rescued = self.rescue(Duration::ZERO);
        group.thaw()?;
        rescued.map(|pause| Pause { freezing, ..pause })
    }
}

/// The backlog that a listener was given: of a listener, `tcpi_sacked` says that.
fn backlog(listener: &OwnedFd) -> io::Result<i32> {
    // SAFETY: all-zero bytes are a valid tcp_info: it consists of integers.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut size = libc::socklen_t::try_from(size_of::<libc::tcp_info>()).expect("a few hundred bytes");
    // SAFETY: the buffer lives across the call, and `size` is its size.
    let result = unsafe {
        libc::getsockopt(
            listener.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut size,
        )
    };
    if result == 0 {
        Ok(i32::try_from(info.tcpi_sacked).unwrap_or(i32::MAX))
    } else {
        Err(io::Error::last_os_error())
    }
}

/// A cgroup for one server: says what belongs to it, and can stop all of it. Dropping it kills what is left.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// Makes one.
    ///
    /// # Panics
    /// When the kernel has no cgroup v2, or this is not root.
    #[expect(clippy::new_without_default, reason = "making a cgroup is not a default value")]
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "reuse-tests-{}-{}",
            std::process::id(),
            NUMBER.fetch_add(1, Ordering::Relaxed)
        );
        let path = leftovers::cgroup_root().join(name);
        fs::create_dir(&path).expect("make a cgroup");
        Self { path }
    }

    /// Makes `command` run in it.
    pub fn contain<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        let mut procs = File::options()
            .write(true)
            .open(self.path.join("cgroup.procs"))
            .expect("open cgroup.procs of a cgroup of ours");
        // SAFETY: the closure makes one bare write on a descriptor that it owns; nothing is allocated between fork and exec.
        unsafe { command.pre_exec(move || procs.write_all(b"0")) }
    }

    /// Its processes.
    pub fn pids(&self) -> Vec<i32> {
        leftovers::processes(&self.path)
    }

    /// Stops all of it, and says how long that took. A process in an uninterruptible wait can't be stopped; the others are.
    ///
    /// # Errors
    /// Of the cgroup's files.
    pub fn freeze(&self) -> io::Result<Duration> {
        let begun = Instant::now();
        fs::write(self.path.join("cgroup.freeze"), "1")?;
        while !fs::read_to_string(self.path.join("cgroup.events"))?.contains("frozen 1") {
            if begun.elapsed() > FREEZE_LIMIT {
                break;
            }
            std::thread::yield_now();
        }
        Ok(begun.elapsed())
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// Of the cgroup's file.
    pub fn thaw(&self) -> io::Result<()> {
        fs::write(self.path.join("cgroup.freeze"), "0")
    }

    /// Processor time used by all of it so far.
    ///
    /// # Panics
    /// When `cpu.stat`, which every cgroup v2 has, can't be read.
    pub fn processor_time(&self) -> Duration {
        let stat = fs::read_to_string(self.path.join("cpu.stat")).expect("read cpu.stat of a cgroup of ours");
        let usage = stat
            .lines()
            .find_map(|line| line.strip_prefix("usage_usec "))
            .and_then(|number| number.parse().ok());
        Duration::from_micros(usage.expect("cpu.stat says usage_usec"))
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        drop(self.thaw());
        drop(fs::write(self.path.join("cgroup.kill"), "1"));
        // A cgroup can't be removed before the last of its processes is wholly gone.
        wait::poll(Duration::from_secs(5), || {
            drop(fs::remove_dir(&self.path));
            (!self.path.exists()).then_some(())
        });
    }
}
