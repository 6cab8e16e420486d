//! All groups of an app, and the BPF side.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsFd, OwnedFd},
    path::Path,
    sync::Arc,
    time::Duration,
};

use reuse_common::{Policy, load::InstanceLoad, settings::DirectedKey};
use socket2::SockRef;

use super::{Counters, GroupError, GroupView, Registry, diag::Listener, discover, member, one::Group};
use crate::{
    bpf::{AppOptions, AppPrograms, BpfError, GroupProgram, Notices},
    process::cgroup::InstanceCgroup,
};

/// What is said once.
#[derive(Debug, Clone)]
pub struct GroupsOptions {
    /// For the programs.
    pub programs: AppOptions,
    /// The uid of every member.
    pub uid: u32,
    /// `--when-empty refuse`.
    pub refuse_when_empty: bool,
    /// `--listen`: groups that are there before any worker.
    pub listen: Vec<SocketAddr>,
}

/// Owns the groups, their members and the programs.
pub struct Groups {
    app: AppPrograms,
    groups: BTreeMap<SocketAddr, Group>,
    registry: Registry,
    /// What may be chosen: (slot, row).
    published: Vec<(u16, u16)>,
    /// Loaded beforehand, so that the first listener of a cold start is steered as soon as it is seen.
    spare: Option<GroupProgram>,
    /// Where lots are made.
    lots: Arc<File>,
    uid: u32,
    refuse_when_empty: bool,
}

/// What became of a listener that appeared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appeared {
    /// It is a member of the group on this address.
    Member(SocketAddr),
    /// It has closed again, or its process has ended.
    Gone,
}

impl Groups {
    /// Loads the programs, attaches them to the app's cgroup, and opens the groups of `--listen`.
    ///
    /// # Errors
    /// The kernel refuses a program, or an address is taken.
    pub fn open(pins: &Path, cgroup: File, options: &GroupsOptions) -> Result<(Self, Notices), GroupError> {
        let (app, notices) = AppPrograms::load(pins, &cgroup, &options.programs)?;
        let spare = Some(GroupProgram::load(&app, options.refuse_when_empty)?);
        let mut groups = Self {
            lots: app.lots_cgroup(),
            app,
            groups: BTreeMap::new(),
            registry: Registry::default(),
            published: Vec::new(),
            spare,
            uid: options.uid,
            refuse_when_empty: options.refuse_when_empty,
        };
        for &addr in &options.listen {
            groups.open_group(addr, false, None)?;
        }
        Ok((groups, notices))
    }

    fn open_group(
        &mut self,
        addr: SocketAddr,
        only_v6: bool,
        first: Option<&OwnedFd>,
    ) -> Result<&mut Group, GroupError> {
        let program = match self.spare.take() {
            Some(spare) => spare,
            None => GroupProgram::load(&self.app, self.refuse_when_empty)?,
        };
        let group = Group::open(addr, only_v6, &self.lots, self.uid, &mut self.app, program, first)?;
        Ok(self.groups.entry(addr).or_insert(group))
    }

    /// Has a spare program ready for the next group; called when there is time.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub fn prepare(&mut self) -> Result<(), BpfError> {
        if self.spare.is_none() {
            self.spare = Some(GroupProgram::load(&self.app, self.refuse_when_empty)?);
        }
        Ok(())
    }

    /// A row for a new instance of `slot` whose processes are going to be in this cgroup.
    ///
    /// # Errors
    /// A map can't be written, or there is no row.
    pub fn register(&mut self, slot: u16, cgroup: &InstanceCgroup) -> Result<u16, GroupError> {
        let row = self
            .registry
            .allocate(slot, |index| self.app.load_of(index))
            .ok_or(BpfError::Missing("free row"))?;
        match self.app.register(row, slot, cgroup) {
            Ok(()) => Ok(row),
            Err(error) => {
                self.registry.release(row);
                Err(error.into())
            }
        }
    }

    /// The instance has ended, nothing of it is left.
    pub fn unregister(&mut self, row: u16, cgroup_id: u64) {
        // Its seats go with its members, before the machine says so: nobody may take the group for served.
        self.published.retain(|&(_, published)| published != row);
        for group in self.groups.values_mut() {
            group.forget(row);
            if let Err(error) = group.publish(&self.published) {
                tracing::warn!("{}: {error}", group.addr());
            }
        }
        if let Err(error) = self.app.unregister(cgroup_id) {
            tracing::warn!("{error}");
        }
        self.registry.release(row);
    }

    /// A listener of the instance in `row`, one of `pids`, listens now.
    ///
    /// # Errors
    /// It can't be a member; the reason is the listener's own (another uid, too many, …).
    pub fn appeared(&mut self, row: u16, pids: &[u32], cookie: u64) -> Result<Appeared, GroupError> {
        let duplicate = member::duplicate(pids, cookie).map_err(|error| GroupError::Socket {
            call: "pidfd_getfd",
            source: error.source,
        })?;
        let Some(listener) = duplicate else {
            return Ok(Appeared::Gone);
        };
        let addr = discover::local_addr(listener.as_fd()).map_err(GroupError::socket("getsockname"))?;
        let addr = without_scope(addr);
        if !self.groups.contains_key(&addr) {
            let only_v6 = addr.is_ipv6() && SockRef::from(&listener).only_v6().unwrap_or(false);
            self.open_group(addr, only_v6, Some(&listener))?;
        }
        let group = self.groups.get_mut(&addr).expect("opened above");
        group.join(row, cookie, &listener)?;
        self.app.steered(&listener, cookie, row)?;
        let group = self.groups.get_mut(&addr).expect("opened above");
        group.publish(&self.published)?;
        Ok(Appeared::Member(addr))
    }

    /// A listener has closed; `pids_of` tells the processes of an instance's row.
    ///
    /// # Errors
    /// A map can't be written.
    pub fn disappeared(&mut self, cookie: u64, pids_of: impl Fn(u16) -> Vec<u32>) -> Result<(), GroupError> {
        for group in self.groups.values_mut() {
            if !group.members().iter().any(|member| member.cookie == cookie) {
                continue;
            }
            let gap = group.leave(cookie);
            // Fewer first: the last number is selectable no more from here on.
            group.publish(&self.published)?;
            if let Some(gap) = gap
                && let Ok(Some(listener)) = member::duplicate(&pids_of(gap.last.instance), gap.last.cookie)
            {
                group.renumber(&gap, &listener)?;
            }
        }
        Ok(())
    }

    /// From now on exactly these (slot, row) may be chosen, in every group in which they have a listener.
    ///
    /// # Errors
    /// The first map that can't be written; the other groups are published all the same.
    pub fn publish(&mut self, published: Vec<(u16, u16)>) -> Result<(), GroupError> {
        self.published = published;
        let published = &self.published;
        first_error(self.groups.values_mut().map(|group| group.publish(published)))
    }

    /// What takes time to be seen: connections that are parked although somebody is published (see `release_parked` of a group), and
    /// addresses on which nobody has listened for `hold` while the app is served elsewhere. Those are given up, so that clients are
    /// refused there as they expect. While nobody at all is published, addresses are held: a restart is under way.
    ///
    /// # Errors
    /// A socket call or a map failed.
    pub fn tend(&mut self, hold: Duration) -> Result<(), GroupError> {
        let served_elsewhere = self.groups.values().any(Group::is_served);
        self.groups
            .retain(|_, group| !group.is_abandoned(served_elsewhere, hold));
        first_error(self.groups.values_mut().map(Group::release_parked))
    }

    /// Members whose listener is not among these: it has closed, or these were listed in the instant before it listened.
    pub fn unseen<'a>(&'a self, listeners: &'a [Listener]) -> impl Iterator<Item = u64> + 'a {
        let members = self
            .groups
            .values()
            .flat_map(Group::members)
            .map(|member| member.cookie);
        members.filter(|cookie| !listeners.iter().any(|listener| listener.cookie == *cookie))
    }

    /// Whether this listener is on an address that a worker serves, or may come to serve, and is no member yet.
    pub fn is_missed(&self, listener: &Listener) -> bool {
        self.app.knows_listener(listener.cookie)
            && !self.groups.values().any(|group| {
                group.is_lot(listener.cookie) || group.members().iter().any(|member| member.cookie == listener.cookie)
            })
    }

    /// The addresses on which the instance in `row` listens.
    pub fn served_by(&self, row: u16) -> BTreeSet<SocketAddr> {
        self.groups
            .values()
            .filter(|group| group.listeners_of(row) > 0)
            .map(Group::addr)
            .collect()
    }

    /// How many connections of the instance have not been accepted, by what the kernel says of all listeners now.
    pub fn queue_of(&self, row: u16, listeners: &[Listener]) -> u32 {
        let find = member::by_cookie(listeners);
        let members = self
            .groups
            .values()
            .flat_map(Group::members)
            .filter(|member| member.instance == row);
        members
            .filter_map(|member| find(member.cookie))
            .map(|listener| listener.queue)
            .sum()
    }

    /// Listeners in our groups that are neither ours nor a lot: their cookies' owners are looked up by the caller.
    pub fn strangers<'a>(&self, listeners: &'a [Listener]) -> Vec<(SocketAddr, &'a Listener)> {
        let is_ours = |group: &Group, listener: &Listener| {
            group.is_lot(listener.cookie) || group.members().iter().any(|member| member.cookie == listener.cookie)
        };
        let candidates = listeners.iter().filter_map(|listener| {
            let addr = without_scope(listener.addr);
            let group = self.groups.get(&addr)?;
            (!is_ours(group, listener)).then_some((addr, listener))
        });
        candidates.collect()
    }

    /// What the kernel has counted for the instance in `row`.
    pub fn load_of(&self, row: u16) -> InstanceLoad {
        self.app.load_of(row)
    }

    /// What a slot has counted in its life.
    pub fn counters(&self, slot: u16) -> Counters {
        self.registry.counters(slot, |index| self.app.load_of(index))
    }

    /// The groups, by address.
    ///
    /// # Errors
    /// A map can't be read.
    pub fn views(&self) -> Result<Vec<GroupView>, GroupError> {
        self.groups.values().map(Group::view).collect()
    }

    /// The addresses of all groups.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.groups.keys().copied().collect()
    }

    /// The listener cookies of the instance on this address.
    pub fn cookies_of(&self, row: u16, addr: SocketAddr) -> Vec<u64> {
        let members = self.groups.get(&addr).map(Group::members).unwrap_or_default();
        members
            .iter()
            .filter(|member| member.instance == row)
            .map(|member| member.cookie)
            .collect()
    }

    /// See [`AppPrograms::set_policy`].
    ///
    /// # Errors
    /// The map can't be written.
    pub fn set_policy(&mut self, policy: Policy) -> Result<(), BpfError> {
        self.app.set_policy(policy)
    }

    /// See [`AppPrograms::direct`].
    ///
    /// # Errors
    /// The map can't be written.
    pub fn direct(&mut self, from: DirectedKey, row: Option<u16>) -> Result<(), BpfError> {
        self.app.direct(from, row)
    }
}

/// Does everything, and returns the first error.
fn first_error(results: impl Iterator<Item = Result<(), GroupError>>) -> Result<(), GroupError> {
    results.fold(Ok(()), Result::and)
}

/// Where a connection to a listener on `addr` can be made from this machine.
pub(super) fn reachable(addr: SocketAddr) -> SocketAddr {
    match addr.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => (Ipv4Addr::LOCALHOST, addr.port()).into(),
        IpAddr::V6(ip) if ip.is_unspecified() => (Ipv6Addr::LOCALHOST, addr.port()).into(),
        _ => addr,
    }
}

/// inet_diag tells the interface of some sockets as a scope; it is no part of a group's name.
fn without_scope(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip(), addr.port())
}
