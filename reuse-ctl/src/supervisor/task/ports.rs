//! What the task does about [`ports`](crate::supervisor::ports).

use crate::supervisor::ports::*;
use crate::supervisor::task::Task;
use crate::{app::options::RunOptions, base::Failure, supervisor::preparing::service_ports};

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
