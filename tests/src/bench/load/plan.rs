//! What is sent when: decided before the first request, from a seed, so that every peer of a round meets the same arrivals.

use std::net::{Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::clock;

/// What a run of the generator does. It goes to the generator's process as JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) target: SocketAddr,
    /// When it begins, on `CLOCK_MONOTONIC`.
    pub(crate) start_ns: u64,
    pub(crate) seconds: f64,
    /// Requests per second, on average: arrivals are a Poisson process, as those of many independent clients are.
    pub(crate) rate: f64,
    pub(crate) seed: u64,
    pub(crate) mix: Vec<Class>,
    /// How many addresses the requests come from.
    pub(crate) clients: u16,
    /// After so long a request has failed.
    pub(crate) patience_ms: u64,
}

/// A kind of request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Class {
    pub(crate) path: String,
    /// Its share of the requests is this over the sum of all weights.
    pub(crate) weight: f64,
}

impl Class {
    pub(crate) fn new(path: &str, weight: f64) -> Self {
        Self {
            path: path.to_owned(),
            weight,
        }
    }
}

/// One request, as intended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Request {
    /// After the start.
    pub(crate) at_ns: u64,
    /// Its number in the mix.
    pub(crate) class: usize,
    pub(crate) from: Ipv4Addr,
}

impl Plan {
    /// All requests, in the order of time.
    pub(crate) fn requests(&self) -> Vec<Request> {
        let mut random = fastrand::Rng::with_seed(self.seed);
        let weights: f64 = self.mix.iter().map(|class| class.weight).sum();
        let mut requests = Vec::new();
        let mut at = 0.0;
        loop {
            // 1 − x, because x may be 0.
            at += -(1.0 - random.f64()).ln() / self.rate;
            if at >= self.seconds {
                return requests;
            }
            let mut left = random.f64() * weights;
            let class = self.mix.iter().position(|class| {
                left -= class.weight;
                left < 0.0
            });
            let client = random.u16(0..self.clients);
            requests.push(Request {
                at_ns: clock::nanoseconds(at),
                class: class.unwrap_or(0),
                from: address(client),
            });
        }
    }
}

/// Loopback addresses 127.1.0.1, 127.1.0.2, …
fn address(client: u16) -> Ipv4Addr {
    let [high, low] = (client / 250 * 256 + client % 250 + 1).to_be_bytes();
    Ipv4Addr::new(127, 1, high, low)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(seed: u64) -> Plan {
        Plan {
            target: SocketAddr::from(([127, 0, 0, 1], 8080)),
            start_ns: 0,
            seconds: 100.0,
            rate: 200.0,
            seed,
            mix: vec![Class::new("/block/1", 0.9), Class::new("/block/100", 0.1)],
            clients: 1000,
            patience_ms: 1000,
        }
    }

    #[test]
    fn rate_and_mix_are_as_asked_for() {
        let requests = plan(7).requests();
        // 20,000 ± 4 standard deviations of √20,000.
        assert!((19_400..20_600).contains(&requests.len()), "{}", requests.len());
        let long = requests.iter().filter(|request| request.class == 1).count();
        assert!((1800..2200).contains(&long), "{long}");
        assert!(requests.is_sorted_by_key(|request| request.at_ns));
        // The gaps of a Poisson process are as long as their standard deviation; those of a metronome have none.
        let gaps: Vec<f64> = requests
            .windows(2)
            .map(|pair| (pair[1].at_ns - pair[0].at_ns) as f64)
            .collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        assert!((0.9..1.1).contains(&(variance.sqrt() / mean)));
    }

    #[test]
    fn a_seed_means_the_same_requests_to_every_peer() {
        assert_eq!(plan(7).requests(), plan(7).requests());
        assert_ne!(plan(7).requests(), plan(8).requests());
    }

    #[test]
    fn a_thousand_clients_have_a_thousand_addresses() {
        let mut addresses: Vec<_> = (0..1000).map(address).collect();
        addresses.dedup();
        assert_eq!(addresses.len(), 1000);
        assert!(addresses.iter().all(|address| !matches!(address.octets()[3], 0 | 255)));
    }
}
