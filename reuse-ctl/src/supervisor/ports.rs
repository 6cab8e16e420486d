//! The ports of `--port`: which sockets of the workers belong to the app, and the guards that hold a port while nobody listens on it.

use super::{
    preparing::{address_taken, service_ports},
    template::Template,
};
use crate::{
    app::options::RunOptions,
    base::Failure,
    group::{Groups, Guard, diag::Diag},
};
use reuse_common::limits::MAX_PORTS;
use std::{collections::BTreeMap, fs::File};

/// A guard for each port.
#[derive(Debug, Default)]
pub(crate) struct Guards(BTreeMap<u16, Guard>);

impl Guards {
    /// Holds these ports for workers of this user.
    ///
    /// # Errors
    /// Fails if another program has one of them.
    pub(crate) fn hold(ports: &[u16], cgroup: &File, uid: u32, diag: &mut Diag) -> Result<Self, Failure> {
        let mut guards = Self::default();
        guards.add(ports, cgroup, uid, diag)?;
        Ok(guards)
    }

    /// While a version is rolled out that has other ports, those of both are the app's.
    ///
    /// # Errors
    /// Somebody else has one of the new ones.
    pub(crate) fn open(
        &mut self,
        old: &RunOptions,
        new: &RunOptions,
        template: &Template,
        groups: &mut Groups,
        diag: &mut Diag,
    ) -> Result<(), Failure> {
        if old.ports == new.ports {
            return Ok(());
        }
        let cgroup = template
            .cgroup
            .open()
            .map_err(|error| Failure::failed(format!("{}: {error}", template.cgroup.path().display()), ""))?;
        if let Err(failure) = self.add(&new.ports, &cgroup, template.identity.uid, diag) {
            self.keep(&old.ports);
            return Err(failure);
        }
        groups.set_service_ports(&both(&service_ports(old), &service_ports(new)));
        Ok(())
    }

    /// It was rolled out, or taken back: these are the app's ports from now on.
    pub(crate) fn keep_only(&mut self, options: &RunOptions, groups: &mut Groups) {
        self.keep(&options.ports);
        groups.set_service_ports(&service_ports(options));
    }

    /// Holds these as well.
    fn add(&mut self, ports: &[u16], cgroup: &File, uid: u32, diag: &mut Diag) -> Result<(), Failure> {
        for &port in ports {
            if self.0.contains_key(&port) {
                continue;
            }
            let guard = Guard::hold(port, cgroup, uid);
            let guard = guard.map_err(|error| address_taken(([0, 0, 0, 0], port).into(), &error, uid, diag))?;
            self.0.insert(port, guard);
        }
        Ok(())
    }

    /// Releases all other ports.
    fn keep(&mut self, ports: &[u16]) {
        self.0.retain(|port, _| ports.contains(port));
    }
}

/// The union of both. An empty list means all ports.
fn both(old: &[u16], new: &[u16]) -> Vec<u16> {
    if old.is_empty() || new.is_empty() {
        return Vec::new();
    }
    // Existing ports keep their position, because programs read the table while it is written.
    let more = new.iter().filter(|port| !old.contains(port));
    let ports: Vec<u16> = old.iter().chain(more).copied().collect();
    if ports.len() > MAX_PORTS { Vec::new() } else { ports }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ports_of_both_versions_are_served_during_a_rollout() {
        assert_eq!(both(&[80], &[81]), [80, 81]);
        assert_eq!(both(&[80, 443], &[443, 80]), [80, 443]);
        assert_eq!(both(&[], &[80]), [0; 0], "all were the app's, and still are");
        assert_eq!(both(&[80], &[]), [0; 0]);
    }
}
