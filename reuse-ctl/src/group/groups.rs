//! All groups of an app, and its BPF programs.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::OwnedFd,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use reuse_common::{
    Policy, Share,
    cuts::Cuts,
    ids::{Row, SlotId},
    in_flight::Connection,
    load::{InstanceLoad, InstanceTotals},
    settings::DirectedKey,
};

use super::{GroupError, GroupView, Registry, closed::ClosedListeners, neighbours, one::Group};
use crate::{
    bpf::{AppOptions, AppPrograms, BpfError, GroupProgram, Notices, UnverifiedProgram},
    process::cgroup::{AppCgroup, InstanceCgroup},
};

/// The options that are fixed when the groups are opened.
#[derive(Debug, Clone)]
pub struct GroupsOptions {
    /// Options for the programs.
    pub programs: AppOptions,
    /// The app's own cgroup, to recognise listeners of others.
    pub cgroup: AppCgroup,
    /// The uid of every member.
    pub uid: u32,
    /// Whether the app stays away from every port on which another program listens.
    pub alone: bool,
    /// `--when-empty refuse`.
    pub refuse_when_empty: bool,
    /// `--listen`: groups that exist before any worker.
    pub listen: Vec<SocketAddr>,
}

/// Owns the groups, their members and the programs.
pub struct Groups {
    pub(super) app: AppPrograms,
    pub(super) groups: BTreeMap<SocketAddr, Group>,
    registry: Registry,
    pub(super) published: Vec<Choosable>,
    /// Instances that are being stopped. They are still chosen on an address that the app leaves, if no other instance serves it.
    pub(super) lingering: Vec<Choosable>,
    /// A program loaded in advance, so that the first listener of a cold start is steered as soon as it is seen.
    spare: Option<GroupProgram>,
    cgroup: AppCgroup,
    alone: bool,
    /// The cgroup in which backstops are created.
    backstops: Arc<File>,
    uid: u32,
    refuse_when_empty: bool,
    pub(super) closed: ClosedListeners,
    reset_parked: Vec<(SocketAddr, u32)>,
    /// No instance will serve for now: connections are refused, whatever `refuse_when_empty` says.
    given_up: bool,
}

/// A published instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choosable {
    /// The slot it stands for.
    pub slot: SlotId,
    /// Its row of the load table.
    pub row: Row,
    /// Its fixed share of new connections, if it has one.
    pub share: Option<Share>,
}

impl Groups {
    /// Loads the programs, attaches them to the app's cgroup, and opens the groups of `--listen`.
    ///
    /// # Errors
    /// Fails if the kernel refuses a program, or an address is taken.
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
            closed: ClosedListeners::default(),
            reset_parked: Vec::new(),
            spare,
            uid: options.uid,
            refuse_when_empty: options.refuse_when_empty,
            given_up: false,
        };
        if options.alone {
            // Before any worker starts: a listener beside others gets connections from its first moment on.
            let taken = neighbours::taken_ports()?;
            taken.into_iter().for_each(|port| groups.app.keep_off(port));
        }
        for &addr in &options.listen {
            groups.open_group(addr, false, None)?;
            // Checked while listening: of two apps that start at the same time, at least one sees the other.
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

    /// Whether another group takes the connections to `addr` if nobody listens on exactly that address.
    fn is_covered(&self, addr: SocketAddr) -> bool {
        self.groups.values().any(|group| group.covers(addr))
    }

    /// Drops groups without a worker on an address that another group covers: a port finder listens on one address for a moment, and clients
    /// of that address must not wait for its return. What waits there can't move to the other group, so it is reset.
    pub(super) fn drop_covered(&mut self) {
        let empty = self.groups.values().filter(|group| group.is_empty());
        let covered: Vec<SocketAddr> = empty.map(Group::addr).filter(|&addr| self.is_covered(addr)).collect();
        for addr in covered {
            let reset = self.groups.remove(&addr).map_or(0, |group| group.parked());
            if reset > 0 {
                self.reset_parked.push((addr, reset));
            }
        }
    }

    /// The connections that waited on an address and were reset since the last call, because another group covers the address.
    pub fn take_reset_parked(&mut self) -> Vec<(SocketAddr, u32)> {
        std::mem::take(&mut self.reset_parked)
    }

    /// A function that loads a spare program for the next group, which may run on another thread. `None` if there is a spare already.
    pub fn spare_loader(&self) -> Option<impl FnOnce() -> Result<UnverifiedProgram, BpfError> + Send + use<>> {
        match self.spare {
            Some(_) => None,
            None => Some(GroupProgram::loader(&self.app, self.refuses_when_empty())),
        }
    }

    /// Keeps the spare program for the next group.
    pub fn set_spare(&mut self, mut spare: GroupProgram) {
        // The setting may have changed since the spare began to load.
        spare.set_refuse_when_empty(self.refuses_when_empty());
        self.spare = Some(spare);
    }

    /// Allocates a row for a new instance of `slot` whose processes will be in this cgroup.
    ///
    /// # Errors
    /// Fails if a map can't be written, or there is no free row.
    pub fn register(&mut self, slot: SlotId, cgroup: &InstanceCgroup) -> Result<Row, GroupError> {
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

    /// Forgets an instance that has ended completely.
    pub fn unregister(&mut self, row: Row, cgroup_id: u64) {
        // Its seats go together with its members, before the machine unpublishes it, so that no group seems served by it.
        self.published.retain(|published| published.row != row);
        self.lingering.retain(|lingering| lingering.row != row);
        for group in self.groups.values_mut() {
            self.closed
                .add(group.members().of(row).iter().map(|member| member.cookie));
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

    /// Publishes exactly these instances, in every group in which they have a listener. In a group that the app [leaves](Self::leave_addresses) and
    /// nobody else serves, the [lingering](Self::set_lingering) instances are published.
    ///
    /// # Errors
    /// The first map that can't be written. The other groups are published anyway.
    pub fn publish(&mut self, published: Vec<Choosable>) -> Result<(), GroupError> {
        self.published = published;
        let (published, lingering) = (&self.published, &self.lingering);
        first_error(
            self.groups
                .values_mut()
                .map(|group| group.publish(published, lingering)),
        )
    }

    /// Sets the lingering instances, from the next [`publish`](Self::publish) on. Sorted by slot, each slot once.
    pub fn set_lingering(&mut self, lingering: Vec<Choosable>) {
        self.lingering = lingering;
    }

    /// Sets the lingering instances and publishes them at once.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub fn linger(&mut self, lingering: Vec<Choosable>) -> Result<(), GroupError> {
        self.set_lingering(lingering);
        let published = std::mem::take(&mut self.published);
        self.publish(published)
    }

    /// Marks these addresses as left: the app's instances don't listen there any more, except old ones that are being stopped. The mark is
    /// removed when an instance that listens there is published.
    pub fn leave_addresses(&mut self, addresses: &[SocketAddr]) {
        for addr in addresses {
            if let Some(group) = self.groups.get_mut(addr) {
                group.leave();
            }
        }
    }

    /// Marks all addresses as left on which no instance listens any more.
    pub fn leave_unserved(&mut self) {
        let unserved = self.groups.values_mut().filter(|group| group.members().is_empty());
        unserved.for_each(Group::leave);
    }

    /// Whether the instance in `row` is published in some group only because it lingers.
    pub fn lingers(&self, row: Row) -> bool {
        !self.left_to(row).is_empty()
    }

    /// The addresses that only the instance in `row` still serves, because the app leaves them.
    pub fn left_to(&self, row: Row) -> Vec<SocketAddr> {
        let groups = self.groups.values().filter(|group| group.is_left_to(row));
        groups.map(Group::addr).collect()
    }

    /// Does what depends on time. Releases connections that are parked although an instance is published (see `release_parked` of a group).
    /// Gives up addresses on which no worker has listened for `hold` while the app is served elsewhere, so that clients are refused there.
    /// While nobody at all is published, addresses are kept: a restart is under way.
    ///
    /// # Errors
    /// Fails if a socket call or a map access failed.
    pub fn tend(&mut self, hold: Duration) -> Result<(), GroupError> {
        let served_elsewhere = self.groups.values().any(Group::is_served);
        self.groups
            .retain(|_, group| !group.is_abandoned(served_elsewhere, hold));
        let released = first_error(self.groups.values_mut().map(Group::release_parked));
        released.and(self.forget_closed())
    }

    /// Has the programs forget listeners that closed a while ago.
    fn forget_closed(&mut self) -> Result<(), GroupError> {
        let now = Instant::now();
        let mut over = self.closed.take_over(now);
        if self.closed.must_look_through(now) {
            let mut known: BTreeSet<u64> = self.app.known_listeners().into_iter().collect();
            known.retain(|&cookie| {
                let is_used = |group: &Group| group.is_backstop(cookie) || group.members().get(cookie).is_some();
                !self.groups.values().any(is_used)
            });
            over.extend(self.closed.unclaimed_twice(known));
        }
        first_error(over.into_iter().map(|cookie| Ok(self.app.forget_listener(cookie)?)))
    }

    /// The kernel's counters of the instance in `row`.
    pub fn load_of(&self, row: Row) -> InstanceLoad {
        self.app.load_of(row)
    }

    /// Every established connection of the app's services; see [`AppPrograms::connections`].
    ///
    /// # Errors
    /// Fails if the kernel can't list connections, now or at all.
    pub fn connections(&mut self) -> Result<Vec<Connection>, BpfError> {
        self.app.connections()
    }

    /// The row that a connection has moved to, if it has moved.
    pub fn moved_to(&self, cookie: u64) -> Option<Row> {
        self.app.moved_to(cookie)
    }

    /// Sets which of the row's connections are counted when they end: see [`Cuts`].
    pub fn count_cuts(&self, row: Row, counting: u32) {
        self.app.count_cuts(row, counting);
    }

    /// Sets what happens to the row's connections each time they are listed: see [`Cuts`].
    pub fn hold(&self, row: Row, holding: u32) {
        self.app.hold(row, holding);
    }

    /// The counters of connections of this row that were cut since it was registered.
    pub fn cuts_of(&self, row: Row) -> Cuts {
        self.app.cuts_of(row)
    }

    /// The counters of a slot over all its instances.
    pub fn totals(&self, slot: SlotId) -> InstanceTotals {
        self.registry.totals(slot, |row| self.app.load_of(row))
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

    /// Sets whether new connections are refused while nobody is published. Connections that wait already go on waiting.
    pub fn set_refuse_when_empty(&mut self, refuse: bool) {
        self.refuse_when_empty = refuse;
        self.tell_whether_to_refuse();
    }

    /// Gives up until a user intervenes: resets waiting connections and refuses new ones, so that clients can go elsewhere. Returns how
    /// many connections waited.
    ///
    /// # Errors
    /// Fails if a socket call or a map access failed.
    pub fn give_up(&mut self) -> Result<u32, GroupError> {
        self.given_up = true;
        self.tell_whether_to_refuse();
        let mut reset = 0;
        let results: Vec<_> = self.groups.values_mut().map(Group::reset_parked).collect();
        first_error(results.into_iter().map(|result| result.map(|count| reset += count)))?;
        Ok(reset)
    }

    /// Ends [`give_up`](Self::give_up): back to what was configured.
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

/// Runs everything, and returns the first error.
fn first_error(results: impl Iterator<Item = Result<(), GroupError>>) -> Result<(), GroupError> {
    results.fold(Ok(()), Result::and)
}

/// An address through which a listener on `addr` can be reached from this machine, and a second one to try if the first is not an address
/// of it: a machine without IPv6 may still have listeners on `::`.
pub(super) fn reachable(addr: SocketAddr) -> (SocketAddr, Option<SocketAddr>) {
    let v4 = (Ipv4Addr::LOCALHOST, addr.port()).into();
    match addr.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => (v4, None),
        IpAddr::V6(ip) if ip.is_unspecified() => ((Ipv6Addr::LOCALHOST, addr.port()).into(), Some(v4)),
        _ => (addr, None),
    }
}

/// Removes the scope: inet_diag reports the interface of some sockets as a scope, which is no part of a group's address.
pub(super) fn without_scope(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip(), addr.port())
}
