//! The ports of `--port`: which of the workers' sockets are the app's, and what holds a port while nobody listens there.

use std::{collections::BTreeMap, fs::File};

use reuse_common::limits::MAX_PORTS;

use super::task::Task;
use crate::{
    app::options::RunOptions,
    base::Failure,
    group::{Guard, diag::Diag},
    supervisor::preparing::{address_taken, service_ports},
};

/// A guard for each port.
#[derive(Debug, Default)]
pub(crate) struct Guards(BTreeMap<u16, Guard>);

impl Guards {
    /// Holds these ports for workers of this user.
    ///
    /// # Errors
    /// Somebody else has one of them.
    pub(crate) fn hold(ports: &[u16], cgroup: &File, uid: u32, diag: &mut Diag) -> Result<Self, Failure> {
        let mut guards = Self::default();
        guards.add(ports, cgroup, uid, diag)?;
        Ok(guards)
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

    /// Lets go of all others.
    fn keep(&mut self, ports: &[u16]) {
        self.0.retain(|port, _| ports.contains(port));
    }
}

impl Task {
    /// While a version is rolled out that has other ports, those of both are the app's.
    ///
    /// # Errors
    /// Somebody else has one of the new ones.
    pub(crate) fn open_ports(&mut self, old: &RunOptions, new: &RunOptions) -> Result<(), Failure> {
        if old.ports == new.ports {
            return Ok(());
        }
        let cgroup = self
            .template
            .cgroup
            .open()
            .map_err(|error| Failure::failed(format!("{}: {error}", self.template.cgroup.path().display()), ""))?;
        let uid = self.template.identity.uid;
        if let Err(failure) = self.guards.add(&new.ports, &cgroup, uid, &mut self.diag) {
            self.guards.keep(&old.ports);
            return Err(failure);
        }
        self.groups
            .set_service_ports(&both(&service_ports(old), &service_ports(new)));
        Ok(())
    }

    /// It was rolled out, or taken back: these are the app's ports from now on.
    pub(crate) fn settle_ports(&mut self, options: &RunOptions) {
        self.guards.keep(&options.ports);
        self.groups.set_service_ports(&service_ports(options));
    }
}

/// Those of either; none means all.
fn both(old: &[u16], new: &[u16]) -> Vec<u16> {
    if old.is_empty() || new.is_empty() {
        return Vec::new();
    }
    // What is there already keeps its place: the programs read the table while it is written.
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
