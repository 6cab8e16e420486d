//! All groups of an app, and the BPF side.

use std::{
    collections::BTreeMap,
    fs::File,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::OwnedFd,
    path::Path,
    sync::Arc,
    time::Duration,
};

use reuse_common::{
    Policy, Share,
    cuts::Cuts,
    ids::{Row, Slot},
    in_flight::Connection,
    load::InstanceLoad,
    settings::DirectedKey,
};

use super::{Counters, GroupError, GroupView, Registry, neighbours, one::Group};
use crate::{
    bpf::{AppOptions, AppPrograms, BpfError, GroupProgram, Notices, UnverifiedProgram},
    process::cgroup::{AppCgroup, InstanceCgroup},
};

/// What is said once.
#[derive(Debug, Clone)]
pub struct GroupsOptions {
    /// For the programs.
    pub programs: AppOptions,
    /// The app's own cgroup, to tell other apps' listeners.
    pub cgroup: AppCgroup,
    /// The uid of every member.
    pub uid: u32,
    /// Whether the app keeps off every port on which anybody else listens.
    pub alone: bool,
    /// `--when-empty refuse`.
    pub refuse_when_empty: bool,
    /// `--listen`: groups that are there before any worker.
    pub listen: Vec<SocketAddr>,
}

/// Owns the groups, their members and the programs.
pub struct Groups {
    pub(super) app: AppPrograms,
    pub(super) groups: BTreeMap<SocketAddr, Group>,
    registry: Registry,
    pub(super) published: Vec<Choosable>,
    /// They are on their way out, and chosen where nobody else is on an address that the app leaves.
    pub(super) lingering: Vec<Choosable>,
    /// Loaded beforehand, so that the first listener of a cold start is steered as soon as it is seen.
    spare: Option<GroupProgram>,
    cgroup: AppCgroup,
    alone: bool,
    /// Where backstops are made.
    backstops: Arc<File>,
    uid: u32,
    refuse_when_empty: bool,
    /// Nobody will serve for the time being: connections are refused, whatever `refuse_when_empty` says.
    given_up: bool,
}

/// A published instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choosable {
    /// The slot it stands for.
    pub slot: Slot,
    /// Its row of the load table.
    pub row: Row,
    /// Its fixed share of new connections, if it has one.
    pub share: Option<Share>,
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
            cgroup: options.cgroup.clone(),
            alone: options.alone,
            backstops: app.backstops_cgroup(),
            app,
            groups: BTreeMap::new(),
            registry: Registry::default(),
            published: Vec::new(),
            lingering: Vec::new(),
            spare,
            uid: options.uid,
            refuse_when_empty: options.refuse_when_empty,
            given_up: false,
        };
        if options.alone {
            // Before there is a worker: a listener beside others gets connections from its first moment on.
            let taken = neighbours::taken_ports()?;
            taken.into_iter().for_each(|port| groups.app.keep_off(port));
        }
        for &addr in &options.listen {
            groups.open_group(addr, false, None)?;
            // Now it listens: of two apps that begin at the same time at least one sees the other.
            neighbours::refuse_taken(&groups.cgroup, addr, false)?;
        }
        Ok((groups, notices))
    }

    pub(super) fn open_group(
        &mut self,
        addr: SocketAddr,
        only_v6: bool,
        first: Option<&OwnedFd>,
    ) -> Result<&mut Group, GroupError> {
        neighbours::refuse_taken(&self.cgroup, addr, only_v6)?;
        if self.alone {
            neighbours::refuse_foreign(&self.cgroup, addr, only_v6)?;
        }
        let program = match self.spare.take() {
            Some(spare) => spare,
            None => GroupProgram::load(&self.app, self.refuses_when_empty())?,
        };
        let mut group = Group::open(addr, only_v6, &self.backstops, self.uid, &mut self.app, program, first)?;
        group.set_refuse_when_empty(self.refuses_when_empty());
        Ok(self.groups.entry(addr).or_insert(group))
    }

    /// What opens a spare program for the next group, to be called on another thread, if there is none.
    pub fn spare_loader(&self) -> Option<impl FnOnce() -> Result<UnverifiedProgram, BpfError> + Send + use<>> {
        match self.spare {
            Some(_) => None,
            None => Some(GroupProgram::loader(&self.app, self.refuses_when_empty())),
        }
    }

    /// Keeps it for the next group.
    pub fn set_spare(&mut self, mut spare: GroupProgram) {
        // It may have changed since the spare began to be loaded.
        spare.set_refuse_when_empty(self.refuses_when_empty());
        self.spare = Some(spare);
    }

    /// A row for a new instance of `slot` whose processes are going to be in this cgroup.
    ///
    /// # Errors
    /// A map can't be written, or there is no row.
    pub fn register(&mut self, slot: Slot, cgroup: &InstanceCgroup) -> Result<Row, GroupError> {
        let row = self
            .registry
            .allocate(slot, |row| self.app.load_of(row))
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
    pub fn unregister(&mut self, row: Row, cgroup_id: u64) {
        // Its seats go with its members, before the machine says so: nobody may take the group for served.
        self.published.retain(|published| published.row != row);
        self.lingering.retain(|lingering| lingering.row != row);
        for group in self.groups.values_mut() {
            group.forget(row);
            if let Err(error) = group.publish(&self.published, &self.lingering) {
                tracing::warn!("{}: {error}", group.addr());
            }
        }
        if let Err(error) = self.app.unregister(cgroup_id) {
            tracing::warn!("{error}");
        }
        self.registry.release(row);
    }

    /// From now on exactly these may be chosen, in every group in which they have a listener; and those that
    /// [linger](Self::set_lingering) in each that the app [leaves](Self::leave) and nobody else serves.
    ///
    /// # Errors
    /// The first map that can't be written; the other groups are published all the same.
    pub fn publish(&mut self, published: Vec<Choosable>) -> Result<(), GroupError> {
        self.published = published;
        let (published, lingering) = (&self.published, &self.lingering);
        first_error(
            self.groups
                .values_mut()
                .map(|group| group.publish(published, lingering)),
        )
    }

    /// Others linger, from the next [`publish`](Self::publish) on. Sorted by slot, each slot once.
    pub fn set_lingering(&mut self, lingering: Vec<Choosable>) {
        self.lingering = lingering;
    }

    /// Others linger, at once.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub fn linger(&mut self, lingering: Vec<Choosable>) -> Result<(), GroupError> {
        self.set_lingering(lingering);
        let published = std::mem::take(&mut self.published);
        self.publish(published)
    }

    /// The app's instances do not listen on these addresses any more; the old ones that do are on their way out. What this means ends as
    /// soon as somebody who listens there is published.
    pub fn leave(&mut self, addresses: &[SocketAddr]) {
        for addr in addresses {
            if let Some(group) = self.groups.get_mut(addr) {
                group.leave_address();
            }
        }
    }

    /// The same of all addresses on which nobody listens any more.
    pub fn leave_unserved(&mut self) {
        let unserved = self.groups.values_mut().filter(|group| group.members().is_empty());
        unserved.for_each(Group::leave_address);
    }

    /// Whether the instance in `row` is chosen somewhere because it lingers.
    pub fn lingers(&self, row: Row) -> bool {
        !self.left_to(row).is_empty()
    }

    /// The addresses that are left to the instance in `row`: the app leaves them, and nobody else serves there.
    pub fn left_to(&self, row: Row) -> Vec<SocketAddr> {
        let groups = self.groups.values().filter(|group| group.is_left_to(row));
        groups.map(Group::addr).collect()
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

    /// What the kernel has counted for the instance in `row`.
    pub fn load_of(&self, row: Row) -> InstanceLoad {
        self.app.load_of(row)
    }

    /// Every established connection of the app's services; see [`AppPrograms::connections`].
    ///
    /// # Errors
    /// When the kernel can't tell, now or ever.
    pub fn connections(&mut self) -> Result<Vec<Connection>, BpfError> {
        self.app.connections()
    }

    /// To which row a connection has moved, if it has.
    pub fn moved_to(&self, cookie: u64) -> Option<Row> {
        self.app.moved_to(cookie)
    }

    /// From now on these of the row's connections are counted when they end: see [`Cuts`].
    pub fn count_cuts(&self, row: Row, counting: u32) {
        self.app.count_cuts(row, counting);
    }

    /// What happens to the row's connections, each time they are listed: see [`Cuts`].
    pub fn hold(&self, row: Row, holding: u32) {
        self.app.hold(row, holding);
    }

    /// What was cut of the row's connections since it was registered.
    pub fn cuts_of(&self, row: Row) -> Cuts {
        self.app.cuts_of(row)
    }

    /// What a slot has counted in its life.
    pub fn counters(&self, slot: Slot) -> Counters {
        self.registry.counters(slot, |row| self.app.load_of(row))
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

    /// See [`AppPrograms::set_policy`].
    ///
    /// # Errors
    /// The map can't be written.
    pub fn set_policy(&mut self, policy: Policy) -> Result<(), BpfError> {
        self.app.set_policy(policy)
    }

    /// What happens to new connections while nobody is published; those that wait already go on waiting.
    pub fn set_refuse_when_empty(&mut self, refuse: bool) {
        self.refuse_when_empty = refuse;
        self.tell_whether_to_refuse();
    }

    /// Nobody will serve until a person does something: what waits is reset, and new connections are refused, so that clients can go
    /// elsewhere. Gives how many waited.
    ///
    /// # Errors
    /// A socket call or a map failed.
    pub fn give_up(&mut self) -> Result<u32, GroupError> {
        self.given_up = true;
        self.tell_whether_to_refuse();
        let mut reset = 0;
        let results: Vec<_> = self.groups.values_mut().map(Group::reset_parked).collect();
        first_error(results.into_iter().map(|result| result.map(|count| reset += count)))?;
        Ok(reset)
    }

    /// Somebody may serve again: as was configured.
    pub fn resume(&mut self) {
        self.given_up = false;
        self.tell_whether_to_refuse();
    }

    fn refuses_when_empty(&self) -> bool {
        self.refuse_when_empty || self.given_up
    }

    fn tell_whether_to_refuse(&mut self) {
        let refuse = self.refuses_when_empty();
        if let Some(spare) = &mut self.spare {
            spare.set_refuse_when_empty(refuse);
        }
        for group in self.groups.values_mut() {
            group.set_refuse_when_empty(refuse);
        }
    }

    /// See [`AppPrograms::set_ports`].
    pub fn set_service_ports(&mut self, ports: &[u16]) {
        self.app.set_ports(ports);
    }

    /// See [`AppPrograms::set_client_ttl`].
    pub fn set_client_ttl(&mut self, seconds: u64) {
        self.app.set_client_ttl(seconds);
    }

    /// See [`AppPrograms::direct`].
    ///
    /// # Errors
    /// The map can't be written.
    pub fn direct(&mut self, from: DirectedKey, row: Option<Row>) -> Result<(), BpfError> {
        self.app.direct(from, row)
    }

    /// See [`AppPrograms::set_queue`].
    pub fn set_queue(&mut self, row: Row, queue: u32) {
        self.app.set_queue(row, queue);
    }

    /// See [`AppPrograms::ask_for_wake`].
    pub fn ask_for_wake(&mut self) {
        self.app.ask_for_wake();
    }
}

/// Does everything, and returns the first error.
fn first_error(results: impl Iterator<Item = Result<(), GroupError>>) -> Result<(), GroupError> {
    results.fold(Ok(()), Result::and)
}

/// Where a connection to a listener on `addr` can be made from this machine, and where else if that is no address of it: a machine without
/// IPv6 may have listeners on `::` all the same.
pub(super) fn reachable(addr: SocketAddr) -> (SocketAddr, Option<SocketAddr>) {
    let v4 = (Ipv4Addr::LOCALHOST, addr.port()).into();
    match addr.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => (v4, None),
        IpAddr::V6(ip) if ip.is_unspecified() => ((Ipv6Addr::LOCALHOST, addr.port()).into(), Some(v4)),
        _ => (addr, None),
    }
}

/// inet_diag tells the interface of some sockets as a scope; it is no part of a group's name.
pub(super) fn without_scope(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip(), addr.port())
}
