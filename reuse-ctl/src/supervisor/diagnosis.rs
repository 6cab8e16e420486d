//! Explains why a worker does not serve.

use crate::base::{InstanceId, OutputOf};
use reuse_common::notice::Notice;
use std::{
    collections::{HashMap, VecDeque},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
};

/// Lines of a failed worker's output that are shown. Node takes ten to twenty for an error that nobody has caught, and the one that says
/// what it was stands above the stack.
pub(crate) const OUTPUT_LINES: usize = 20;

/// Of these, so many are of its standard error where it shares its files with another instance.
pub(crate) const COMPLAINT_LINES: usize = 15;

/// So many failures are remembered after their instance is gone, for answers that are still to be given.
const REMEMBERED: usize = 64;

/// What was wrong with instances that failed, by instance.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    pub(crate) known: HashMap<InstanceId, Failure>,
    order: VecDeque<InstanceId>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Failure {
    pub(crate) problem: Option<String>,
    pub(crate) output: LastOutput,
    /// What else might be meant, for a person.
    pub(crate) advice: Option<&'static str>,
}

/// It listens, but elsewhere, where nothing fixes the address.
pub(crate) const ELSEWHERE: &str = "if that is intended, use `reuse-ctl reload --new-address` or `apply --new-address`; the old address is served until the end";

/// The last lines that were written while a worker lived which failed.
#[derive(Debug, Clone, Default)]
pub(crate) struct LastOutput {
    pub(crate) lines: Vec<String>,
    /// Absent: the worker wrote them.
    pub(crate) of: Option<OutputOf>,
}

impl Failures {
    pub(crate) fn remember(&mut self, id: InstanceId, failure: Failure) {
        if self.known.insert(id, failure).is_none() {
            self.order.push_back(id);
        }
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

/// The address of a notice.
pub(crate) fn address_of(notice: &Notice) -> SocketAddr {
    let port = u16::try_from(notice.port).unwrap_or(0);
    if notice.family == 2 {
        return (Ipv4Addr::from(notice.address[3].to_ne_bytes()), port).into();
    }
    let mut octets = [0; 16];
    for (bytes, word) in octets.chunks_exact_mut(4).zip(notice.address) {
        bytes.copy_from_slice(&word.to_ne_bytes());
    }
    (Ipv6Addr::from(octets), port).into()
}
