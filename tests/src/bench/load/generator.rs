//! The generator: sends each request when the plan says, whatever became of those before.
//!
//! Open loop, one connection per request, and latency from the *intended* moment: a server that stops for a second makes a second of
//! requests wait, and all of them are counted ("coordinated omission" is what a client hides that waits with its server). One thread on
//! an epoll instance and a timer of the kernel, in a process of its own with a better priority than the servers': nothing else then
//! delays a request, and how late each one really was is in its sample.
//!
//! Looked at before this was written: `wrk2` corrects for coordinated omission but keeps its connections; `oha` can do both
//! (`--disable-keepalive -q N --latency-correction`), but has no source addresses, so that `sticky` would see one client, does not say
//! which process answered nor when a failure happened, and can't repeat the same arrivals against another server. It also pulls in a TLS
//! stack.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use crate::clock;
use crate::load::connection::{self, Connection};
use crate::load::plan::{Plan, Request};
use crate::load::sample::{RequestOutcome, Sample};

/// The timer's mark among the connections' numbers.
const TIMER: u64 = u64::MAX;

/// Between the servers' 0 and what the kernel itself needs.
const NICENESS: libc::c_int = -10;

/// Reads a plan, and writes the samples, as JSON.
pub(crate) fn main() -> anyhow::Result<()> {
    let plan: Plan = serde_json::from_reader(io::stdin()).context("read the plan")?;
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).context("getrlimit")?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most).context("setrlimit")?;
    // SAFETY: a bare system call on this process.
    if unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICENESS) } != 0 {
        return Err(io::Error::last_os_error()).context("setpriority");
    }
    let samples = Generator::new(&plan)?.run()?;
    serde_json::to_writer(io::stdout(), &samples).context("write the samples")
}

struct Generator<'a> {
    plan: &'a Plan,
    requests: Vec<Request>,
    /// How many of them have been sent.
    sent: usize,
    /// By request number; when it was really begun, and the connection while it is under way.
    begun: Vec<(u64, Option<Connection>)>,
    under_way: usize,
    /// Those sent, in the order of their deadlines.
    deadlines: VecDeque<usize>,
    samples: Vec<Sample>,
    epoll: Epoll,
    timer: TimerFd,
}

impl<'a> Generator<'a> {
    fn new(plan: &'a Plan) -> anyhow::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).context("epoll_create1")?;
        let timer = TimerFd::new(
            ClockId::CLOCK_MONOTONIC,
            TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK,
        )
        .context("timerfd_create")?;
        epoll
            .add(&timer, EpollEvent::new(EpollFlags::EPOLLIN, TIMER))
            .context("epoll_ctl")?;
        let requests = plan.requests();
        Ok(Self {
            plan,
            sent: 0,
            begun: Vec::with_capacity(requests.len()),
            under_way: 0,
            deadlines: VecDeque::new(),
            samples: Vec::with_capacity(requests.len()),
            requests,
            epoll,
            timer,
        })
    }

    fn run(mut self) -> anyhow::Result<Vec<Sample>> {
        let mut events = [EpollEvent::empty(); 256];
        while self.sent < self.requests.len() || self.under_way > 0 {
            self.send_what_is_due()?;
            self.give_up_what_is_overdue();
            self.set_timer()?;
            let count = match self.epoll.wait(&mut events, EpollTimeout::NONE) {
                Err(nix::errno::Errno::EINTR) => 0,
                result => result.context("epoll_wait")?,
            };
            for event in &events[..count] {
                if let Ok(number) = usize::try_from(event.data())
                    && event.data() != TIMER
                {
                    self.proceed(number);
                }
            }
        }
        Ok(self.samples)
    }

    fn send_what_is_due(&mut self) -> anyhow::Result<()> {
        while let Some(request) = self.requests.get(self.sent).copied() {
            let now = clock::now_ns();
            if self.plan.start_ns + request.at_ns > now {
                break;
            }
            let number = self.sent;
            self.sent += 1;
            self.begun.push((now, None));
            match Connection::open(self.plan.target, request.from) {
                Ok(connection) => {
                    let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLET;
                    let number_as_data = u64::try_from(number).context("a number")?;
                    self.epoll
                        .add(connection.stream(), EpollEvent::new(flags, number_as_data))
                        .context("epoll_ctl")?;
                    self.begun[number].1 = Some(connection);
                    self.under_way += 1;
                    self.deadlines.push_back(number);
                }
                Err(error) => self.note(number, connection::outcome_of(&error)),
            }
        }
        Ok(())
    }

    fn give_up_what_is_overdue(&mut self) {
        while let Some(&number) = self.deadlines.front() {
            if self.begun[number].1.is_some() {
                if self.deadline_ns(number) > clock::now_ns() {
                    return;
                }
                self.end(number, RequestOutcome::TimedOut);
            }
            self.deadlines.pop_front();
        }
    }

    fn set_timer(&self) -> anyhow::Result<()> {
        let next = self
            .requests
            .get(self.sent)
            .map(|request| self.plan.start_ns + request.at_ns);
        let deadline = self.deadlines.front().map(|&number| self.deadline_ns(number));
        let Some(at) = next.into_iter().chain(deadline).min() else {
            return Ok(());
        };
        let at = TimeSpec::from(Duration::from_nanos(at));
        self.timer
            .set(Expiration::OneShot(at), TimerSetTimeFlags::TFD_TIMER_ABSTIME)
            .context("timerfd_settime")
    }

    fn proceed(&mut self, number: usize) {
        let path = &self.plan.mix[self.requests[number].class].path;
        let outcome = self.begun[number]
            .1
            .as_mut()
            .and_then(|connection| connection.proceed(path));
        if let Some(outcome) = outcome {
            self.end(number, outcome);
        }
    }

    fn end(&mut self, number: usize, outcome: RequestOutcome) {
        // Closing it takes it out of the epoll instance.
        self.begun[number].1 = None;
        self.under_way -= 1;
        self.note(number, outcome);
    }

    fn note(&mut self, number: usize, outcome: RequestOutcome) {
        let request = self.requests[number];
        let intended = self.plan.start_ns + request.at_ns;
        self.samples.push(Sample {
            at_us: request.at_ns / 1000,
            late_us: (self.begun[number].0 - intended) / 1000,
            latency_us: (clock::now_ns() - intended) / 1000,
            class: request.class,
            outcome,
        });
    }

    fn deadline_ns(&self, number: usize) -> u64 {
        self.plan.start_ns + self.requests[number].at_ns + self.plan.patience_ms * 1_000_000
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{SocketAddr, TcpListener};
    use std::thread;

    use super::*;
    use crate::load::plan::Class;

    fn plan(target: SocketAddr) -> Plan {
        Plan {
            target,
            start_ns: clock::now_ns() + 20_000_000,
            seconds: 1.0,
            rate: 200.0,
            seed: 3,
            mix: vec![Class::new("/", 1.0)],
            clients: 10,
            patience_ms: 2000,
        }
    }

    /// Answers one request after the other; after `answers` it does nothing for `stall`, once.
    fn serve(listener: &TcpListener, requests: usize, answers: usize, stall: Duration) {
        for nth in 0..requests {
            if nth == answers {
                #[expect(clippy::disallowed_methods, reason = "a server that stalls")]
                thread::sleep(stall);
            }
            let (mut stream, _) = listener.accept().expect("accept");
            let length = stream.read(&mut [0; 512]).expect("a request");
            assert!(length > 0);
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n- 7\n")
                .expect("send");
        }
    }

    #[test]
    fn who_was_to_be_sent_during_a_stall_waited_for_its_end() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let plan = plan(listener.local_addr().expect("bound"));
        let requests = plan.requests().len();
        let server = thread::spawn(move || serve(&listener, requests, 50, Duration::from_millis(400)));
        let samples = Generator::new(&plan).expect("a generator").run().expect("a run");
        server.join().expect("the server ends");
        assert_eq!(samples.len(), requests);
        assert!(
            samples
                .iter()
                .all(|sample| sample.outcome == RequestOutcome::Answered(7))
        );
        // 80 requests in 400 ms: a client that waits with its server would have seen one.
        let waited = samples.iter().filter(|sample| sample.latency_us > 40_000).count();
        assert!((40..160).contains(&waited), "{waited} waited for more than 40 ms");
        let longest = samples.iter().map(|sample| sample.latency_us).max();
        assert!(longest > Some(350_000), "{longest:?}");
    }

    #[test]
    fn nobody_listening_is_a_refusal_each() {
        let nobody = TcpListener::bind("127.0.0.1:0").expect("bind");
        let plan = plan(nobody.local_addr().expect("bound"));
        drop(nobody);
        let samples = Generator::new(&plan).expect("a generator").run().expect("a run");
        assert_eq!(samples.len(), plan.requests().len());
        assert!(samples.iter().all(|sample| sample.outcome == RequestOutcome::Refused));
    }
}
