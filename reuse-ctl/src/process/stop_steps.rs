//! Carries out a [`StopPlan`]: sends the stop signal down an instance's process tree, so that each process sees it once.

use std::{
    collections::BTreeMap,
    io, thread,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;

use super::{
    handle::ProcessHandle,
    hold::{Held, pause},
    stop_plan::{Step, StopPlan},
    usage,
};

/// How long a process may take to pass the signal on after receiving it. tsx takes 30 ms, npm and env-cmd less than 5 ms.
const PASS_ON_PATIENCE: Duration = Duration::from_millis(150);

/// Maximum time for the whole plan, and so for holding any process.
const HOLD_LIMIT: Duration = Duration::from_millis(600);

/// Interval of looks at the processes' pending signals.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// How long the processes that were signalled first may take to end, if those above them could not be signalled first. After that, the stop
/// timeout applies.
const UNHELD_PATIENCE: Duration = Duration::from_secs(600);

/// Handles of processes by pid, as they were when the plan was made.
pub type Handles = BTreeMap<u32, ProcessHandle>;

/// Sends `signal` as `plan` says, to the processes in `processes` that it names. Calls `begun` as soon as the processes below the first
/// step are held and the first step has been signalled: from then on the instance may be thawed if it was frozen.
///
/// Blocks for up to 600 ms if it has to wait for wrappers. It needs a thread of its own that ends afterwards, because the kernel then
/// releases what is still held.
pub fn carry_out(plan: &StopPlan, processes: &Handles, signal: Signal, begun: impl FnOnce() + Send) {
    match plan {
        StopPlan::AtOnce(pids) => {
            for process in pids.iter().filter_map(|pid| processes.get(pid)) {
                send(process, signal);
            }
            begun();
        }
        StopPlan::Downwards(steps) => {
            let mut begun = Some(begun);
            // In a thread that ends: if a process could not be released because one of its threads had not stopped yet, the kernel releases
            // it then.
            let held = thread::scope(|scope| {
                let hold = || {
                    let held = hold_below_first(steps, processes)?;
                    let begun = begun.take().expect("it is called once");
                    pass_down(steps, processes, held, signal, begun);
                    Ok(())
                };
                scope.spawn(hold).join()
            });
            let held: io::Result<()> = held.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            if let (Err(error), Some(begun)) = (held, begun) {
                tracing::debug!("a worker's processes can't be held for the stop signal: {error}");
                servers_first(steps, processes, signal, begun);
            }
        }
    }
}

/// The held processes of each step; none for the first step.
fn hold_below_first(steps: &[Step], processes: &Handles) -> io::Result<Vec<Vec<Held>>> {
    let mut all = vec![Vec::new()];
    for step in steps.iter().skip(1) {
        let mut held = Vec::new();
        for process in handles(step, processes) {
            match Held::new(process) {
                Ok(process) => held.push(process),
                // The process has ended meanwhile and needs no signal.
                Err(error) if is_gone(&error) => {}
                Err(error) => return Err(error),
            }
        }
        all.push(held);
    }
    Ok(all)
}

fn pass_down(steps: &[Step], processes: &Handles, held: Vec<Vec<Held>>, signal: Signal, begun: impl FnOnce()) {
    let deadline = Instant::now() + HOLD_LIMIT;
    for process in steps.first().into_iter().flat_map(|step| handles(step, processes)) {
        send(process, signal);
    }
    begun();
    let mut above = steps.first();
    let mut held = held.into_iter().skip(1);
    let mut rest = steps.iter().skip(1);
    while let (Some(step), Some(held)) = (rest.next(), held.next()) {
        if let Some(above) = above.filter(|above| above.may_pass_on()) {
            wait_until_passed_on(above, &held, processes, signal, deadline);
        }
        for process in held {
            if !process.was_asked(signal) {
                send(process.process(), signal);
            }
        }
        above = Some(step);
    }
}

/// Waits until all of `below` have received a signal from `above`, or none will come.
fn wait_until_passed_on(above: &Step, below: &[Held], processes: &Handles, signal: Signal, deadline: Instant) {
    let relays = above.members.iter().filter(|member| member.catches);
    let relays: Vec<&ProcessHandle> = relays.filter_map(|member| processes.get(&member.pid)).collect();
    let mut taken_at = None;
    while !below.iter().all(|process| process.was_asked(signal)) {
        let alive: Vec<_> = relays.iter().copied().filter(|relay| !relay.has_ended()).collect();
        let now = Instant::now();
        if alive.is_empty() || now >= deadline {
            return;
        }
        if taken_at.is_none() && !alive.iter().any(|relay| usage::awaits(relay.pid(), signal)) {
            taken_at = Some(now);
        }
        let is_over = taken_at.is_some_and(|taken_at| now.duration_since(taken_at) >= PASS_ON_PATIENCE);
        if is_over || pause(&alive, LOOK_EVERY).is_err() {
            return;
        }
    }
}

/// Used if the servers can't be held: the servers get the signal first. The wrappers above them, which might pass it on a second time, get
/// it only if they are still running after the servers have ended.
fn servers_first(steps: &[Step], processes: &Handles, signal: Signal, begun: impl FnOnce()) {
    let members = || steps.iter().flat_map(|step| &step.members);
    let of = |listens: bool| {
        let some = members().filter(move |member| member.listens == listens);
        some.filter_map(|member| processes.get(&member.pid)).collect::<Vec<_>>()
    };
    let (servers, wrappers) = (of(true), of(false));
    for server in &servers {
        send(server, signal);
    }
    begun();
    let deadline = Instant::now() + UNHELD_PATIENCE;
    loop {
        let alive: Vec<_> = servers.iter().copied().filter(|server| !server.has_ended()).collect();
        let left = deadline.saturating_duration_since(Instant::now());
        if alive.is_empty() {
            break;
        }
        if left.is_zero() || pause(&alive, left).is_err() {
            return;
        }
    }
    for wrapper in wrappers {
        send(wrapper, signal);
    }
}

fn handles<'a>(step: &'a Step, processes: &'a Handles) -> impl Iterator<Item = &'a ProcessHandle> {
    step.members.iter().filter_map(|member| processes.get(&member.pid))
}

fn send(process: &ProcessHandle, signal: Signal) {
    if let Err(error) = process.signal(signal) {
        tracing::warn!("{signal} to {}: {error}", process.pid());
    }
}

fn is_gone(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ESRCH) || error.kind() == io::ErrorKind::NotFound
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader},
        process::{Child, ChildStdout, Command, Stdio},
        thread,
    };

    use super::*;
    use crate::process::{handle::terminate, stop_plan::InstanceProcess};

    /// Counts SIGTERM, and ends a moment after the first one.
    const SERVER: &str = "import signal,os,time\nseen=0\ndef on(*_):\n global seen\n seen+=1\nsignal.signal(signal.SIGTERM,on)\n\
                          print('server',os.getpid(),flush=True)\n\
                          while not seen: signal.pause()\n\
                          end=time.monotonic()+0.4\nwhile time.monotonic()<end: time.sleep(0.05)\nprint('seen',seen,flush=True)";

    /// A parent that runs `on` when it gets SIGTERM, with the server as its child.
    fn wrapper(on: &str) -> Family {
        let script = format!(
            "import signal,os,subprocess,sys,threading\nchild=subprocess.Popen([sys.executable,'-c',sys.argv[1]])\n{on}\n\
             signal.signal(signal.SIGTERM,on)\nchild.wait()\nprint('end',flush=True)"
        );
        let mut parent = Command::new("/usr/bin/python3")
            .args(["-c", &script, SERVER])
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 runs");
        let mut output = BufReader::new(parent.stdout.take().expect("piped"));
        let line = next_line(&mut output);
        let server = line.strip_prefix("server ").and_then(|pid| pid.parse().ok());
        Family {
            server: server.expect("it says who it is"),
            parent,
            output,
        }
    }

    struct Family {
        parent: Child,
        server: u32,
        output: BufReader<ChildStdout>,
    }

    impl Drop for Family {
        fn drop(&mut self) {
            drop(terminate(self.server, Signal::SIGKILL));
            drop(self.parent.kill());
            drop(self.parent.wait());
        }
    }

    fn next_line(output: &mut impl BufRead) -> String {
        let mut line = String::new();
        output.read_line(&mut line).expect("a line");
        line.trim_end().to_owned()
    }

    /// Stops it with the plan for a wrapper and its server. Returns the time it took.
    fn stop(family: &Family) -> Duration {
        let member = |pid, listens| InstanceProcess {
            pid,
            parent: 0,
            listens,
            catches: true,
            image: 0,
        };
        let step = |member| Step { members: vec![member] };
        let (parent, server) = (family.parent.id(), family.server);
        let plan = StopPlan::Downwards(vec![step(member(parent, false)), step(member(server, true))]);
        let open = |pid| (pid, ProcessHandle::open(pid).expect("it lives"));
        let handles = Handles::from([open(parent), open(server)]);
        let began = Instant::now();
        thread::spawn(move || carry_out(&plan, &handles, Signal::SIGTERM, || ()))
            .join()
            .expect("it does not panic");
        began.elapsed()
    }

    #[test]
    fn a_server_sees_it_once_whatever_its_wrapper_does() {
        for (on, prompt) in [
            ("def on(*_): child.terminate()", true),
            // As tsx, after a while.
            ("def on(*_): threading.Timer(0.03, child.terminate).start()", true),
            ("def on(*_): child.terminate(); child.terminate()", true),
            ("def on(*_): child.terminate(); os._exit(0)", true),
            ("def on(*_): os._exit(0)", true),
            // Ignores the signal.
            ("def on(*_): pass", false),
        ] {
            let mut family = wrapper(on);
            let took = stop(&family);
            assert_eq!(next_line(&mut family.output), "seen 1", "{on}");
            assert_eq!(took < PASS_ON_PATIENCE, prompt, "{on}: {took:?}");
            assert!(took < HOLD_LIMIT, "{on}: {took:?}");
        }
    }

    #[test]
    fn a_wrapper_that_translates_the_signal_has_its_way() {
        let mut family = wrapper("def on(*_): child.send_signal(signal.SIGUSR1)");
        stop(&family);
        // Python dies of the signal, so `seen` was not printed.
        assert_eq!(next_line(&mut family.output), "end");
    }

    #[test]
    fn who_can_t_be_held_sees_it_once_all_the_same() {
        let mut family = wrapper("def on(*_): child.terminate()");
        let (server, (held, is_held), (release, end)) = (
            family.server,
            std::sync::mpsc::channel(),
            std::sync::mpsc::channel::<()>(),
        );
        // Another tracer, such as a debugger.
        let tracer = thread::spawn(move || {
            let process = ProcessHandle::open(server).expect("it lives");
            let seized = Held::new(&process).expect("nobody else traces it");
            held.send(()).expect("waited for");
            end.recv().expect_err("nobody sends");
            drop(seized);
        });
        is_held.recv().expect("it is held");
        let refused = ProcessHandle::open(server).and_then(|process| Held::new(&process).map(drop));
        assert_eq!(refused.expect_err("one tracer").raw_os_error(), Some(libc::EPERM));
        let releasing = thread::spawn(move || drop(release));
        stop(&family);
        releasing.join().expect("released");
        tracer.join().expect("it has let it go");
        assert_eq!(next_line(&mut family.output), "seen 1");
    }

    #[test]
    fn whoever_held_a_process_ends_and_it_goes_on() {
        let mut family = wrapper("def on(*_): pass");
        let server = family.server;
        let holder = thread::spawn(move || {
            let process = ProcessHandle::open(server).expect("it lives");
            let held = Held::new(&process).expect("nobody else traces it");
            process.signal(Signal::SIGTERM).expect("sent");
            assert!(held.was_asked(Signal::SIGTERM));
            // As if the thread had died: no destructor runs.
            std::mem::forget(held);
        });
        holder.join().expect("it ends");
        assert_eq!(next_line(&mut family.output), "seen 1");
    }
}
