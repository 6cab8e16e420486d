//! Sends the stop signal to an instance: finds its processes and which of them listen, and has the plan carried out beside the task.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
    time::Duration,
};

use nix::sys::signal::Signal;

use crate::{
    group::{
        Listening,
        diag::{Diag, DiagError},
        discover,
    },
    process::{
        cgroup::InstanceCgroup,
        handle::ProcessHandle,
        stop_plan::{self, InstanceProcess, KillMode, StopPlan},
        stop_steps::{self, Handles},
        usage,
    },
};

/// A stop signal for an instance, and its recipients.
#[derive(Debug)]
pub(crate) struct StopRequest {
    pub(crate) main: ProcessHandle,
    pub(crate) cgroup: Arc<InstanceCgroup>,
    /// The instance's own listeners.
    pub(crate) listeners: Vec<Listening>,
    pub(crate) signal: Signal,
    pub(crate) mode: Option<KillMode>,
}

/// Which processes of an instance were sent the stop signal. All clones share one state.
#[derive(Debug, Clone, Default)]
pub(crate) struct Signalled(Arc<Mutex<Option<Sent>>>);

#[derive(Debug)]
struct Sent {
    signal: Signal,
    mode: Option<KillMode>,
    /// By pid and start time, because pids are reused.
    to: BTreeSet<(u32, u64)>,
}

impl Signalled {
    /// Whether a process that was sent the signal still exists.
    pub(crate) fn has_left(&self, cgroup: &InstanceCgroup) -> bool {
        let sent = self.lock();
        let Some(Sent { to, .. }) = &*sent else { return false };
        let pids = cgroup.pids().unwrap_or_default();
        let mut there = pids.into_iter().filter_map(|pid| Some((pid, usage::start_time(pid)?)));
        there.any(|process| to.contains(&process))
    }

    /// See [`stop_plan::tells_rest`]: by the mode with which this instance was signalled, which may not be the app's present one.
    pub(crate) fn tells_rest(&self) -> bool {
        stop_plan::tells_rest(self.lock().as_ref().and_then(|sent| sent.mode))
    }

    /// Sends the signal to each process of the instance that has not got it: those that only have connections, workers whose master has
    /// ended, helpers. Used when the main process and its connections have ended, or time is over. Returns the number of processes; 0 if
    /// none has been asked to stop yet.
    pub(crate) fn send_to_rest(&self, cgroup: &InstanceCgroup) -> usize {
        let mut sent = self.lock();
        let Some(Sent { signal, to, .. }) = &mut *sent else {
            return 0;
        };
        let mut count = 0;
        for process in members_of(cgroup).into_values() {
            let Some(started) = usage::start_time(process.pid()) else {
                continue;
            };
            if to.insert((process.pid(), started)) {
                match process.signal(*signal) {
                    Ok(reached) => count += usize::from(reached),
                    Err(error) => tracing::warn!("{signal} to {}: {error}", process.pid()),
                }
            }
        }
        count
    }

    /// Records that `pid` was asked to stop, by `signal` or in another way.
    pub(crate) fn note_asked(&self, signal: Signal, mode: Option<KillMode>, pid: u32) {
        self.note(signal, mode, std::iter::once(pid));
    }

    fn note(&self, signal: Signal, mode: Option<KillMode>, pids: impl Iterator<Item = u32>) {
        let named = pids.filter_map(|pid| Some((pid, usage::start_time(pid)?)));
        let mut sent = self.lock();
        let sent = sent.get_or_insert(Sent {
            signal,
            mode,
            to: BTreeSet::new(),
        });
        sent.to.extend(named);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Sent>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stop that has begun and continues beside the task.
#[derive(Debug)]
pub(crate) struct Begun(Option<mpsc::Receiver<()>>);

impl Begun {
    /// No stop is in progress.
    pub(crate) const NOTHING: Self = Self(None);

    /// Waits until the first processes have been signalled and those below them are held. Then an instance that was frozen for this may be
    /// thawed. It takes a few milliseconds. Returns false if it takes longer than `patience`.
    #[must_use]
    pub(crate) fn wait(&self, patience: Duration) -> bool {
        match &self.0 {
            None => true,
            // If the thread ends in another way, it drops the sender.
            Some(begun) => begun.recv_timeout(patience) != Err(mpsc::RecvTimeoutError::Timeout),
        }
    }
}

/// Sends the signal in a thread of its own, which usually ends within a second. Also works on a frozen instance, where signals stay
/// pending.
pub(crate) fn stop(request: StopRequest, signalled: &Signalled) -> Begun {
    let main = request.main.clone();
    let (signal, mode) = (request.signal, request.mode);
    // Recorded before the thread starts, so that the instance doesn't seem to have been told nothing.
    signalled.note_asked(signal, mode, main.pid());
    let (begun, beginning) = mpsc::sync_channel(1);
    let signalled = signalled.clone();
    let spawned = thread::Builder::new().name("stop-signal".into()).spawn(move || {
        let (plan, handles) = prepare(&request);
        signalled.note(signal, mode, named_in(&plan));
        stop_steps::carry_out(&plan, &handles, signal, || {
            // If nobody waits, there is no receiver.
            begun.try_send(()).unwrap_or_default();
        });
    });
    match spawned {
        Ok(_) => Begun(Some(beginning)),
        Err(error) => {
            tracing::warn!("a thread for the stop signal: {error}");
            if let Err(error) = main.signal(signal) {
                tracing::warn!("{signal} to {}: {error}", main.pid());
            }
            Begun::NOTHING
        }
    }
}

fn named_in(plan: &StopPlan) -> impl Iterator<Item = u32> {
    let pids = match plan {
        StopPlan::AtOnce(pids) => pids.clone(),
        StopPlan::Downwards(steps) => {
            let members = steps.iter().flat_map(|step| &step.members);
            members.map(|member| member.pid).collect()
        }
    };
    pids.into_iter()
}

fn prepare(request: &StopRequest) -> (StopPlan, Handles) {
    let StopRequest {
        main,
        cgroup,
        listeners,
        signal,
        mode,
    } = request;
    let mut handles = members_of(cgroup);
    handles.insert(main.pid(), main.clone());
    let inodes = inodes_of(listeners).unwrap_or_else(|error| {
        tracing::warn!("the stop signal goes to the main process {} only: {error}", main.pid());
        BTreeSet::new()
    });
    let members: Vec<InstanceProcess> = handles
        .keys()
        .filter_map(|&pid| {
            Some(InstanceProcess {
                pid,
                parent: usage::parent(pid)?,
                listens: discover::has_socket(pid, &inodes),
                catches: usage::catches_signal(pid, *signal),
                image: usage::image(pid).unwrap_or(0),
            })
        })
        .collect();
    (stop_plan::plan(main.pid(), &members, *mode), handles)
}

/// The processes of an instance, each with a handle. A process that was in the cgroup before it was opened and is there afterwards is the
/// same, or has ended.
fn members_of(cgroup: &InstanceCgroup) -> Handles {
    let opened: Handles = cgroup
        .pids()
        .unwrap_or_default()
        .into_iter()
        .filter_map(|pid| Some((pid, ProcessHandle::open(pid).ok()?)))
        .collect();
    let there: BTreeSet<u32> = cgroup.pids().unwrap_or_default().into_iter().collect();
    opened.into_iter().filter(|(pid, _)| there.contains(pid)).collect()
}

/// The inodes of these listeners in /proc.
fn inodes_of(listeners: &[Listening]) -> Result<BTreeSet<u32>, DiagError> {
    let ports: BTreeSet<u16> = listeners.iter().map(|listening| listening.addr.port()).collect();
    let mut diag = Diag::new()?;
    let mut inodes = BTreeSet::new();
    for port in ports {
        let found = diag.listeners_on(port)?;
        let own = found
            .iter()
            .filter(|found| listeners.iter().any(|own| own.cookie == found.cookie));
        inodes.extend(own.map(|listener| listener.inode));
    }
    Ok(inodes)
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead as _, BufReader},
        process::{Child, Command, Stdio},
        time::Instant,
    };

    use super::*;
    use crate::{
        base::{InstanceId, SlotId},
        process::{cgroup::AppCgroup, freeze::freeze},
    };

    const PATIENCE: Duration = Duration::from_secs(20);

    /// `npm start` in small: a parent that passes nothing on, a server that counts, and a helper.
    const SCRIPT: &str = "import os,signal,socket,sys,time
def swallow(*_): pass
signal.signal(signal.SIGTERM, swallow)
if os.fork() == 0:
    if os.fork() == 0:
        os.close(1)
        signal.pause()
        os._exit(0)
    seen = 0
    def on(*_):
        global seen
        seen += 1
    signal.signal(signal.SIGTERM, on)
    server = socket.create_server(('127.0.0.1', 0))
    print(server.getsockname()[1], flush=True)
    while not seen: signal.pause()
    end = time.monotonic() + 0.3
    while time.monotonic() < end: time.sleep(0.02)
    print('seen', seen, flush=True)
    os._exit(0)
os.waitpid(-1, 0)
print('wrapper ends', flush=True)
signal.pause()";

    struct Instance {
        app: AppCgroup,
        cgroup: Arc<InstanceCgroup>,
        main: Child,
        said: BufReader<std::process::ChildStdout>,
        listeners: Vec<Listening>,
    }

    impl Instance {
        fn start(name: &str) -> Self {
            let app = AppCgroup::create(&format!("test-{}-{name}", std::process::id())).expect("cgroup v2 and root");
            let cgroup = app.instance(SlotId(0), InstanceId(0)).expect("made");
            let script = format!(
                "echo 0 > {}/cgroup.procs; exec /usr/bin/python3 -c \"$1\"",
                cgroup.path().display()
            );
            let mut main = Command::new("/bin/sh")
                .args(["-c", &script, "sh", SCRIPT])
                .stdout(Stdio::piped())
                .spawn()
                .expect("sh runs");
            let mut instance = Self {
                app,
                cgroup: Arc::new(cgroup),
                said: BufReader::new(main.stdout.take().expect("piped")),
                main,
                listeners: Vec::new(),
            };
            let port = instance.line().parse().expect("a port");
            let found = Diag::new()
                .and_then(|mut diag| diag.listeners_on(port))
                .expect("inet_diag");
            let listener = found.first().expect("it listens");
            instance.listeners.push(Listening {
                addr: listener.addr,
                cookie: listener.cookie,
            });
            instance
        }

        fn line(&mut self) -> String {
            let mut line = String::new();
            self.said.read_line(&mut line).expect("a line");
            line.trim_end().to_owned()
        }

        fn stop(&self, signalled: &Signalled) -> Begun {
            let request = StopRequest {
                main: ProcessHandle::open(self.main.id()).expect("it lives"),
                cgroup: Arc::clone(&self.cgroup),
                listeners: self.listeners.clone(),
                signal: Signal::SIGTERM,
                mode: None,
            };
            stop(request, signalled)
        }
    }

    impl Drop for Instance {
        fn drop(&mut self) {
            drop(self.app.kill());
            drop(self.main.wait());
            drop(self.app.remove());
        }
    }

    #[test]
    fn the_server_is_told_once_and_the_rest_when_that_is_wanted() {
        let mut instance = Instance::start("told");
        let signalled = Signalled::default();
        assert_eq!(signalled.send_to_rest(&instance.cgroup), 0, "nobody was told to end");
        assert!(!signalled.has_left(&instance.cgroup));
        assert!(instance.stop(&signalled).wait(PATIENCE));
        assert!(signalled.has_left(&instance.cgroup));
        assert_eq!(instance.line(), "seen 1");
        assert_eq!(instance.line(), "wrapper ends");
        // The helper; the wrapper has had its signal.
        assert_eq!(signalled.send_to_rest(&instance.cgroup), 1);
        assert_eq!(signalled.send_to_rest(&instance.cgroup), 0, "once");
    }

    #[test]
    fn a_frozen_instance_is_told_and_acts_when_it_is_thawed() {
        let mut instance = Instance::start("told-frozen");
        let signalled = Signalled::default();
        let frozen = freeze(instance.cgroup.path(), PATIENCE).expect("frozen");
        assert!(frozen.complete);
        let began = Instant::now();
        assert!(instance.stop(&signalled).wait(PATIENCE));
        let took = began.elapsed();
        assert!(took < Duration::from_millis(100), "{took:?}");
        drop(frozen);
        assert_eq!(instance.line(), "seen 1");
        assert_eq!(instance.line(), "wrapper ends");
    }
}
