//! What is to happen when: a heap of events in virtual time. Events of one moment come in the order in which they were noted, so that a
//! run is the same on every machine.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use reuse_common::ids::Row;

/// Nanoseconds in a millisecond.
pub(crate) const MILLISECOND: u64 = 1_000_000;
/// Nanoseconds in a second.
pub(crate) const SECOND: u64 = 1_000_000_000;

/// Something that is to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// The next client's SYN.
    Arrival,
    /// The next SYN of the flood, whose handshake never completes.
    Flood,
    /// The handshake of this connection completes.
    Established(u32),
    /// The worker in this row has finished what it was doing.
    Finished(Row),
    /// A keep-alive connection sends its next request.
    Request(u32),
    /// This connection ends.
    End(u32),
    /// The worker in this row goes on after a hang.
    Thaw(Row),
    /// The controller looks at the accept queues.
    Look,
    /// The balance is measured.
    Sample,
    /// This line of the script.
    Act(u32),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    at_ns: u64,
    nth: u32,
    event: Event,
}

impl Ord for Entry {
    /// The earliest is the greatest: the heap gives the greatest first.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at_ns, other.nth).cmp(&(self.at_ns, self.nth))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// All that is to happen.
#[derive(Debug, Default)]
pub(crate) struct Agenda {
    heap: BinaryHeap<Entry>,
    noted: u32,
}

impl Agenda {
    /// Notes an event.
    pub(crate) fn note(&mut self, at_ns: u64, event: Event) {
        let nth = self.noted;
        self.noted = nth.wrapping_add(1);
        self.heap.push(Entry { at_ns, nth, event });
    }

    /// Takes the next event and its time.
    pub(crate) fn next(&mut self) -> Option<(u64, Event)> {
        self.heap.pop().map(|entry| (entry.at_ns, entry.event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_and_then_by_order() {
        let mut agenda = Agenda::default();
        agenda.note(5, Event::Look);
        agenda.note(3, Event::End(1));
        agenda.note(5, Event::Sample);
        agenda.note(3, Event::End(0));
        let order: Vec<_> = std::iter::from_fn(|| agenda.next()).collect();
        assert_eq!(
            order,
            [
                (3, Event::End(1)),
                (3, Event::End(0)),
                (5, Event::Look),
                (5, Event::Sample)
            ]
        );
    }
}
