//! PM2's bus: events of workers, their messages and their output, for every reader.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::process::channel::{Offer, Outbox, SizeInBytes};
use crate::wire::Packet;

/// Publishes packets. Callers don't create packets while there is no reader.
#[derive(Debug, Clone, Default)]
pub struct Bus(Arc<Readers>);

/// When the last publisher is dropped, each reader gets the packets that wait for it, then the end.
#[derive(Debug, Default)]
struct Readers(Mutex<Vec<Outbox<Arc<Packet>>>>);

/// A reader's end. Packets that it doesn't take in time are lost for this reader only.
#[derive(Debug)]
pub struct BusReader {
    outbox: Outbox<Arc<Packet>>,
    /// Size of the last packet handed out, in bytes.
    given_out: Option<usize>,
}

/// What a reader gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// The next packet.
    Packet(Arc<Packet>),
    /// Number of packets lost at this point, because the reader was too slow.
    Missed(u64),
}

impl SizeInBytes for Arc<Packet> {
    fn bytes(&self) -> usize {
        self.name.len() + self.data.len()
    }
}

impl Bus {
    /// Whether there is a reader.
    pub fn is_heard(&self) -> bool {
        self.readers().iter().any(Outbox::is_open)
    }

    /// Sends the packet to all readers.
    pub fn publish(&self, packet: Packet) {
        let packet = Arc::new(packet);
        self.readers()
            .retain(|reader| reader.offer(Arc::clone(&packet)) != Offer::Closed);
    }

    /// A reader of everything that is published from now on.
    pub fn subscribe(&self) -> BusReader {
        let outbox = Outbox::new();
        let mut readers = self.readers();
        readers.retain(Outbox::is_open);
        readers.push(outbox.clone());
        BusReader {
            outbox,
            given_out: None,
        }
    }

    fn readers(&self) -> MutexGuard<'_, Vec<Outbox<Arc<Packet>>>> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        for reader in self.0.get_mut().unwrap_or_else(PoisonError::into_inner) {
            reader.finish();
        }
    }
}

impl BusReader {
    /// The next packet. Cancel-safe.
    pub async fn next(&mut self) -> Option<Heard> {
        if let Some(bytes) = self.given_out.take()
            && let Some(missed) = self.outbox.passed_on(1, bytes)
        {
            return Some(Heard::Missed(missed));
        }
        let packet = self.outbox.take().await?;
        self.given_out = Some(packet.bytes());
        Some(Heard::Packet(packet))
    }
}

impl Drop for BusReader {
    fn drop(&mut self) {
        self.outbox.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(data: impl Into<String>) -> Packet {
        Packet {
            name: "t".into(),
            data: data.into(),
        }
    }

    #[tokio::test]
    async fn each_listener_hears_everything_or_how_much_it_has_missed() {
        let bus = Bus::default();
        assert!(!bus.is_heard());
        let (mut fast, mut slow) = (bus.subscribe(), bus.subscribe());
        let long = "x".repeat(20_000_000);
        for number in 0..3 {
            bus.publish(packet(long.clone()));
            bus.publish(packet(number.to_string()));
            assert!(matches!(fast.next().await, Some(Heard::Packet(packet)) if packet.data == long));
            assert_eq!(
                fast.next().await,
                Some(Heard::Packet(packet(number.to_string()).into()))
            );
        }
        assert!(matches!(slow.next().await, Some(Heard::Packet(packet)) if packet.data == long));
        assert_eq!(slow.next().await, Some(Heard::Packet(packet("0").into())));
        assert_eq!(slow.next().await, Some(Heard::Missed(4)));
        bus.publish(packet("after"));
        assert_eq!(slow.next().await, Some(Heard::Packet(packet("after").into())));
        drop(slow);
        assert!(bus.is_heard());
        drop(fast);
        assert!(!bus.is_heard());
        let mut last = bus.subscribe();
        bus.publish(packet("end"));
        drop(bus);
        assert_eq!(last.next().await, Some(Heard::Packet(packet("end").into())));
        assert_eq!(last.next().await, None);
    }
}
