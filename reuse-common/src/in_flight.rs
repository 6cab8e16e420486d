//! Whether a connection has a request in flight, judged from outside the server by the kernel's state of the TCP socket.
//!
//! A server owes an answer if the client sent data last. Bytes that are still unread or unsent are always in flight. The ticks of the last
//! data in each direction say which side sent last. Ticks are coarse (4 ms on many kernels), so a fast answer has the same tick as its
//! request. Then the sequence numbers decide: a client that has acknowledged everything, and sent data since, has sent another request.
//!
//! Two things can't be seen: a pause between the parts of one answer ([`History`] waits for the next part), and which of several streams of
//! an HTTP/2 connection is busy.

/// The fields of the kernel's TCP socket that tell. All sequence numbers and ticks wrap around.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flow {
    /// The next byte that the client will send (`rcv_nxt`).
    pub received: u32,
    /// The next byte that the process will read (`copied_seq`).
    pub read: u32,
    /// The next byte that the process will write (`write_seq`).
    pub written: u32,
    /// The next byte that the kernel will send (`snd_nxt`).
    pub sent: u32,
    /// The first byte that the client has not acknowledged (`snd_una`).
    pub acknowledged: u32,
    /// The first byte of the client's segment that last acknowledged anything (`snd_wl1`).
    pub acknowledged_at: u32,
    /// The tick at which data last arrived (`lrcvtime`).
    pub received_tick: u32,
    /// The tick at which data was last sent (`lsndtime`).
    pub sent_tick: u32,
    /// 1 if the client has closed its direction. Its FIN counts in `received`, and in `read` once the process has seen it.
    pub client_closed: u32,
    /// 1 if the process wants to write more than the socket's buffer holds (`SOCK_NOSPACE`).
    pub is_full: u32,
}

const _: () = assert!(size_of::<Flow>() == 40);

impl Flow {
    /// Whether killing the process now would cut a request short.
    #[inline(always)]
    pub const fn is_in_flight(&self) -> bool {
        self.written != self.sent || self.would_be_cut()
    }

    /// Whether closing the socket now would cut a request short. What the process has handed to the kernel is still sent then.
    #[inline(always)]
    pub const fn would_be_cut(&self) -> bool {
        self.has_unread() || self.is_full != 0 || self.owes_answer()
    }

    /// Whether bytes of the client wait to be read by the process.
    #[inline(always)]
    pub const fn has_unread(&self) -> bool {
        // An unread FIN counts as a byte, and is always the last one.
        self.received.wrapping_sub(self.read) > (self.client_closed != 0) as u32
    }

    /// Whether the client sent data last.
    #[inline(always)]
    const fn owes_answer(&self) -> bool {
        match self.sent_tick.wrapping_sub(self.received_tick).cast_signed() {
            0 => self.acknowledged == self.sent && self.received_since_acknowledged() > 0,
            later => later < 0,
        }
    }

    /// Number of bytes that arrived in or after the segment that last acknowledged anything. It means nothing while the client has not
    /// acknowledged the whole answer.
    #[inline(always)]
    const fn received_since_acknowledged(&self) -> i32 {
        let fin = (self.client_closed != 0) as u32;
        self.received
            .wrapping_sub(fin)
            .wrapping_sub(self.acknowledged_at)
            .cast_signed()
    }
}

/// One established connection, as the BPF program `connections` reports it.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Connection {
    /// The socket's cookie; 0 if nobody has asked for it yet.
    pub cookie: u64,
    /// The id of the cgroup in which its listener was created.
    pub cgroup: u64,
    /// When the last packet came or went, in microseconds of the kernel's monotonic clock.
    pub last_packet_us: u64,
    /// When this record was written, on the same clock.
    pub now_us: u64,
    /// The kernel's address of the socket. It tells connections apart that exist at the same time.
    pub socket: u64,
    /// 1 if the process is not woken for further requests.
    pub is_held: u64,
    /// The state of the exchange.
    pub flow: Flow,
}

const _: () = assert!(size_of::<Connection>() == 88);

crate::plain_data!(Flow, Connection);

/// An answer counts as complete after this many microseconds in which nothing was sent. Some servers send an answer in parts.
#[cfg(not(target_arch = "bpf"))]
pub const PAUSE_IN_ANSWER_US: u64 = 250_000;

/// A client is trusted to have its complete answer at once after this many requests, each of which was answered in one piece.
#[cfg(not(target_arch = "bpf"))]
const TRUSTED_AFTER: u32 = 2;

/// Fewer bytes than this are not a request: the shortest HTTP request with a host is longer, while HTTP/2's WINDOW_UPDATE and a WebSocket's
/// pong are shorter.
#[cfg(not(target_arch = "bpf"))]
const LEAST_REQUEST_BYTES: u32 = 24;

/// After an answer larger than this, a client is not trusted to have received the whole of it.
#[cfg(not(target_arch = "bpf"))]
const MOST_ANSWER_BYTES: u32 = 32 * 1024;

/// What successive looks have shown of one connection.
#[cfg(not(target_arch = "bpf"))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct History {
    last: Flow,
    /// Number of requests that came after an answer was seen.
    exchanges: u32,
    /// Whether every request seen so far was answered in one piece.
    is_plain: bool,
    /// The value of [`Flow::read`] when the connection was found held and answered.
    held_at: Option<u32>,
}

#[cfg(not(target_arch = "bpf"))]
impl History {
    /// Begins with the first look.
    pub const fn begin(connection: &Connection) -> Self {
        Self {
            last: connection.flow,
            exchanges: 0,
            is_plain: true,
            held_at: None,
        }
    }

    /// Takes in a further look.
    pub const fn look(&mut self, connection: &Connection) {
        let (before, now) = (self.last, connection.flow);
        let (received, written) = (
            now.received.wrapping_sub(before.received),
            now.written.wrapping_sub(before.written),
        );
        match (received, written) {
            (0, 0) => {}
            // Too short for a request: an HTTP/2 client makes room for more of an answer, or a WebSocket client answers a ping.
            (1..LEAST_REQUEST_BYTES, _) => self.is_plain = false,
            // A large answer may not be complete yet.
            (_, MOST_ANSWER_BYTES..) => self.is_plain = false,
            (0, _) if !before.is_in_flight() => self.is_plain = false,
            (0, _) => {}
            // An answer and the next request, whether or not a look fell between them.
            (_, 0) if before.is_in_flight() => {}
            (_, _) => self.exchanges += 1,
        }
        self.last = now;
        if connection.is_held == 0 {
            self.held_at = None;
        } else if !now.is_in_flight() {
            self.held_at = Some(now.read);
        }
    }

    /// Whether the only thing in flight is a request that the process was not woken for. If the connection ends now, its client sees an
    /// idle connection close, and sends the request again on another one.
    pub const fn is_held_back(&self, connection: &Connection) -> bool {
        match self.held_at {
            Some(read) => {
                connection.is_held != 0
                    && connection.flow.read == read
                    && connection.flow.written == connection.flow.sent
            }
            None => false,
        }
    }

    /// Whether the process may be told to stop as far as this connection is concerned: nothing is in flight, and the last answer is
    /// complete. A pause makes that certain. A client that sends its next request right after each answer leaves no pause. Once it has done
    /// so twice, and none of its answers ever paused, the end of the data written counts as the end of the answer.
    pub const fn is_quiet(&self, connection: &Connection) -> bool {
        let pause_us = connection.now_us.saturating_sub(connection.last_packet_us);
        !connection.flow.is_in_flight() && (pause_us >= PAUSE_IN_ANSWER_US || self.is_trusted())
    }

    /// Whether its client has shown that it takes the end of the data written as the end of an answer.
    pub const fn is_trusted(&self) -> bool {
        self.exchanges >= TRUSTED_AFTER && self.is_plain
    }
}

#[cfg(all(test, not(target_arch = "bpf")))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A connection that lives through what clients and servers do, as the kernel keeps books of it.
    #[derive(Debug, Clone, Copy)]
    struct Wire {
        flow: Flow,
        tick: u32,
        now_us: u64,
        last_packet_us: u64,
    }

    impl Wire {
        fn established(tick: u32) -> Self {
            let flow = Flow {
                received: 1001,
                read: 1001,
                written: 5001,
                sent: 5001,
                acknowledged: 5001,
                acknowledged_at: 1001,
                received_tick: tick,
                sent_tick: tick,
                client_closed: 0,
                is_full: 0,
            };
            Self {
                flow,
                tick,
                now_us: 1_000_000,
                last_packet_us: 1_000_000,
            }
        }

        /// A segment with so many bytes, which acknowledges what was sent.
        fn receive(&mut self, bytes: u32) {
            if self.flow.acknowledged != self.flow.sent {
                self.flow.acknowledged = self.flow.sent;
                self.flow.acknowledged_at = self.flow.received;
            }
            if bytes > 0 {
                self.flow.received = self.flow.received.wrapping_add(bytes);
                self.flow.received_tick = self.tick;
            }
            self.last_packet_us = self.now_us;
        }

        fn read(&mut self) {
            self.flow.read = self.flow.received;
        }

        fn answer(&mut self, bytes: u32) {
            self.flow.written = self.flow.written.wrapping_add(bytes);
            self.flow.sent = self.flow.written;
            self.flow.sent_tick = self.tick;
            self.last_packet_us = self.now_us;
        }

        fn pass(&mut self, us: u64) {
            let ticks = |us: u64| us / 4_000;
            let passed = ticks(self.now_us + us) - ticks(self.now_us);
            self.tick = self.tick.wrapping_add(u32::try_from(passed).expect("a short while"));
            self.now_us += us;
        }

        fn connection(&self) -> Connection {
            Connection {
                flow: self.flow,
                now_us: self.now_us,
                last_packet_us: self.last_packet_us,
                ..Connection::default()
            }
        }
    }

    #[test]
    fn a_fresh_connection_has_nothing_in_flight_and_a_request_has() {
        let mut wire = Wire::established(7);
        assert!(!wire.flow.is_in_flight());
        wire.receive(80);
        assert!(wire.flow.is_in_flight(), "not read yet");
        wire.read();
        assert!(wire.flow.is_in_flight(), "worked on");
        wire.answer(200);
        assert!(!wire.flow.is_in_flight(), "answered, in the same tick");
        wire.receive(0);
        assert!(!wire.flow.is_in_flight(), "and acknowledged");
    }

    #[test]
    fn a_slow_request_in_the_tick_of_the_answer_before_is_in_flight() {
        let mut wire = Wire::established(7);
        for acknowledged_alone in [true, false] {
            wire.receive(80);
            wire.read();
            wire.answer(200);
            if acknowledged_alone {
                wire.receive(0);
            }
            wire.receive(80);
            wire.read();
            assert!(wire.flow.is_in_flight(), "{acknowledged_alone}");
            wire.pass(10_000_000);
            assert!(wire.flow.is_in_flight(), "ten seconds later, too");
            wire.answer(1);
        }
    }

    #[test]
    fn what_was_not_sent_is_in_flight_but_no_longer_cut() {
        let mut wire = Wire::established(7);
        wire.receive(80);
        wire.read();
        wire.answer(200);
        wire.flow.written = wire.flow.written.wrapping_add(1);
        assert!(wire.flow.is_in_flight() && !wire.flow.would_be_cut());
        wire.flow.is_full = 1;
        assert!(wire.flow.would_be_cut(), "the process has more");
    }

    #[test]
    fn a_clients_fin_is_no_request() {
        let mut wire = Wire::established(7);
        wire.receive(80);
        wire.read();
        wire.answer(200);
        wire.receive(0);
        wire.flow.received += 1;
        wire.flow.client_closed = 1;
        assert!(!wire.flow.is_in_flight(), "the server has not read the FIN yet");
        wire.flow.read += 1;
        assert!(!wire.flow.is_in_flight());
        let mut half_closed = Wire::established(7);
        half_closed.receive(80);
        half_closed.flow.received += 1;
        half_closed.flow.client_closed = 1;
        assert!(half_closed.flow.is_in_flight(), "a request, then a FIN");
        half_closed.read();
        assert!(half_closed.flow.is_in_flight());
    }

    #[test]
    fn an_answer_in_parts_is_waited_for_until_it_pauses_for_long() {
        let mut wire = Wire::established(7);
        wire.receive(80);
        wire.read();
        let mut history = History::begin(&wire.connection());
        for _ in 0..20 {
            wire.answer(100);
            wire.receive(0);
            history.look(&wire.connection());
            assert!(!history.is_quiet(&wire.connection()), "just sent");
            wire.pass(100_000);
            history.look(&wire.connection());
            assert!(!history.is_quiet(&wire.connection()), "the next part may come");
        }
        wire.pass(PAUSE_IN_ANSWER_US);
        assert!(history.is_quiet(&wire.connection()));
    }

    #[test]
    fn a_busy_client_is_trusted_after_two_requests_unless_an_answer_paused() {
        for pauses in [false, true] {
            let mut wire = Wire::established(7);
            let mut history = History::begin(&wire.connection());
            for request in 0..4 {
                wire.receive(80);
                wire.read();
                history.look(&wire.connection());
                assert!(!history.is_quiet(&wire.connection()));
                if pauses {
                    wire.answer(10);
                    wire.pass(10_000);
                    history.look(&wire.connection());
                }
                wire.answer(200);
                wire.pass(10_000);
                history.look(&wire.connection());
                assert_eq!(history.is_quiet(&wire.connection()), request > 0 && !pauses);
            }
        }
    }

    proptest! {
        /// For a client that waits for each answer, whatever the ticks: in flight is what was asked and not answered.
        #[test]
        fn who_spoke_last_is_known_whatever_the_clock(
            first_tick in any::<u32>(),
            steps in proptest::collection::vec((0..3_u8, 1..5_000_u32, prop_oneof![0..3_000_u64, 0..20_000_000_u64]), 0..60),
        ) {
            let mut wire = Wire::established(first_tick);
            let mut asked = false;
            for (step, bytes, us) in steps {
                wire.pass(us);
                match step {
                    0 => wire.receive(0),
                    1 if !asked => {
                        wire.receive(bytes);
                        asked = true;
                    }
                    2 if asked => {
                        wire.read();
                        wire.answer(bytes);
                        asked = false;
                    }
                    _ => {}
                }
                prop_assert_eq!(wire.flow.is_in_flight(), asked, "{:?}", wire);
            }
        }
    }
}
