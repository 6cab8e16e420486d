//! What is measured on: one app, its programs on a cgroup, and groups of listeners without servers.

use std::{fs::File, path::Path, process::Command};

use anyhow::{Context as _, ensure};
use reuse_common::{Policy, client::ClientMask, ids::Row};
use reuse_ctl::{
    base::{InstanceId, SlotId},
    bpf::{AppOptions, AppPrograms},
    process::cgroup::AppCgroup,
};

use crate::group::{Chooser, Group, Traffic};

/// Everything that is measured.
pub(crate) struct Bed {
    pub(crate) app: AppPrograms,
    groups: Vec<Group>,
    cgroup: AppCgroup,
    /// By row: the backstops', and those of the workers. A connection is in its listener's.
    pub(crate) cgroups: Vec<File>,
}

impl Bed {
    /// Groups of these sizes, of each traffic, under each program. All groups of our program share one app, as the ports of one
    /// server would.
    pub(crate) fn new(sizes: &[u16]) -> anyhow::Result<Self> {
        let name = format!("bench-{}", std::process::id());
        let cgroup = AppCgroup::create(&name)?;
        let options = AppOptions {
            policy: Policy::Hash,
            client_mask: ClientMask::new(32, 64),
            client_ttl_s: 3600,
            client_capacity: 65_536,
            ports: Vec::new(),
            cgroup_level: cgroup.instance_level(),
            verbose: false,
        };
        let pins = Path::new("/sys/fs/bpf/reuse-ctl").join(&name);
        let (mut app, _notices) = AppPrograms::load(&pins, &cgroup.open()?, &options)?;
        let most = sizes.iter().copied().max().context("no size")?;
        let mut cgroups = vec![app.backstops_cgroup().try_clone()?];
        for row in 1..=most {
            let slot = SlotId(row - 1);
            let instance = cgroup.instance(slot, InstanceId(0))?;
            app.register(Row(row), slot, &instance)?;
            cgroups.push(File::open(instance.path())?);
        }
        let mut bed = Self {
            app,
            groups: Vec::new(),
            cgroup,
            cgroups,
        };
        for &size in sizes {
            for traffic in Traffic::ALL {
                for chooser in Chooser::PROGRAMS {
                    let group = match chooser {
                        Chooser::Ours => Group::steered(&mut bed.app, &bed.cgroups, size, traffic)?,
                        other => Group::compared(&mut bed.app, Some(&bed.cgroups), other, size, traffic)?,
                    };
                    bed.groups.push(group);
                }
            }
        }
        Ok(bed)
    }

    /// The group of this size and traffic under this program.
    pub(crate) fn group(&self, size: u16, traffic: Traffic, chooser: Chooser) -> &Group {
        self.groups
            .iter()
            .find(|group| (group.size, group.traffic, group.chooser) == (size, traffic, chooser))
            .expect("there is one of each")
    }

    /// Leaves nothing behind.
    pub(crate) fn end(self) -> anyhow::Result<()> {
        let Self {
            app, groups, cgroup, ..
        } = self;
        drop((groups, app));
        cgroup.remove().context("remove the bench's cgroup")
    }
}

/// A fresh network namespace has its loopback device down.
pub(crate) fn loopback_up() -> anyhow::Result<()> {
    let status = Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status()
        .context("run ip")?;
    ensure!(status.success(), "ip link set lo up: {status}");
    Ok(())
}
