//! The programs and maps that an app has once.
#![expect(
    deprecated,
    reason = "cgroup storage: what follows it came with Linux 6.2, and asks for a cgroup that `track` is not given"
)]

use std::{
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd},
    path::Path,
    sync::Arc,
};

use aya::{
    Ebpf, EbpfLoader,
    maps::{CgroupStorage, CgroupStorageKey, HashMap, MapData, MapError, RingBuf, SkStorage},
    programs::{CgroupAttachMode, CgroupSock, CgroupSockAddr, SockOps},
};
use nix::{
    errno::Errno,
    fcntl::{OFlag, openat},
    sys::stat::{Mode, mkdirat},
};
use reuse_common::{
    Policy,
    app::AppTable,
    client::{ClientKey, ClientMask, ClientRecord},
    cuts::{CutTable, Cuts},
    ids::{Row, SlotId},
    in_flight::Connection,
    limits::MAX_PORTS,
    load::InstanceLoad,
    notice::Notice,
    settings::{DirectedKey, Settings},
    tcp_layout::TcpLayout,
};
use socket2::SockRef;
use tokio::io::unix::AsyncFd;

use crate::process::cgroup::InstanceCgroup;

use super::{
    BpfError, OBJECT, Pins, attach, connections, in_map, kernel_types::tcp_layout, mapped::MappedTable, program,
    quiet::Undisturbed, refused, removed, take,
};

/// Settings for the programs when they are loaded.
#[derive(Debug, Clone)]
pub struct AppOptions {
    /// How workers are chosen.
    pub policy: Policy,
    /// The address prefix that counts as one client under `sticky`.
    pub client_mask: ClientMask,
    /// Seconds until an idle client is forgotten; 0 means never.
    pub client_ttl_s: u64,
    /// Number of clients that are remembered, at least 1.
    pub client_capacity: u32,
    /// Service ports, at most [`MAX_PORTS`]. If empty, every port that a worker binds, except 0.
    pub ports: Vec<u16>,
    /// Depth of an instance's cgroup below the root.
    pub cgroup_level: u32,
    /// Whether programs log rare events.
    pub verbose: bool,
}

/// The cgroup of the backstops, below the app's cgroup. It keeps its name from earlier versions.
const BACKSTOPS: &str = "lots";

/// The maps that every loaded copy of the object shares, through their pins.
const SHARED: [&str; 10] = [
    "APP",
    "CLIENTS",
    "CUTS",
    "DIRECTED",
    "INSTANCES",
    "LISTENERS",
    "MIGRATED",
    "NOTICES",
    "ROWS",
    "UNSTEERED",
];

/// The programs of one app and the maps that they share. The hooks are attached to the app's cgroup until this is dropped. `track` is
/// attached to the cgroup of each instance until that cgroup is gone.
pub struct AppPrograms {
    settings: Settings,
    table: MappedTable<AppTable>,
    cuts: MappedTable<CutTable>,
    clients: HashMap<MapData, ClientKey, ClientRecord>,
    directed: HashMap<MapData, DirectedKey, u32>,
    instances: HashMap<MapData, u64, u32>,
    listeners: HashMap<MapData, u64, u32>,
    migrated: HashMap<MapData, u64, u32>,
    rows: CgroupStorage<MapData, u32>,
    unsteered: SkStorage<MapData, u32>,
    /// The cgroup in which backstops are created.
    backstops: Arc<File>,
    shared: Arc<SharedMaps>,
    /// Whether connections can be listed; if not, the reason.
    sight: Result<(), String>,
    /// Keeps the programs and their links; detached when dropped.
    programs: Ebpf,
}

impl AppPrograms {
    /// Loads the programs and attaches them to `cgroup` (an open folder of a cgroup v2 hierarchy), below which it creates a cgroup for the
    /// backstops. Maps are pinned below `pins_folder`.
    ///
    /// # Errors
    /// Fails if the kernel refuses any step.
    pub fn load(pins_folder: &Path, cgroup: &File, options: &AppOptions) -> Result<(Self, Notices), BpfError> {
        let _undisturbed = Undisturbed::begin();
        let shared = Arc::new(SharedMaps {
            pins: Pins::create(pins_folder)?,
            client_capacity: options.client_capacity,
            verbose: options.verbose,
        });
        let layout = tcp_layout();
        let mut ebpf = shared.load_object(layout.as_ref().unwrap_or(&TcpLayout::UNKNOWN))?;
        let notices = Notices::new(take(&mut ebpf, "NOTICES")?)?;
        let mut programs = Self {
            settings: settings_of(options),
            table: MappedTable::new(&mut ebpf, "APP")?,
            cuts: MappedTable::new(&mut ebpf, "CUTS")?,
            sight: Ok(()),
            clients: take(&mut ebpf, "CLIENTS")?,
            directed: take(&mut ebpf, "DIRECTED")?,
            instances: take(&mut ebpf, "INSTANCES")?,
            listeners: take(&mut ebpf, "LISTENERS")?,
            migrated: take(&mut ebpf, "MIGRATED")?,
            rows: take(&mut ebpf, "ROWS")?,
            unsteered: take(&mut ebpf, "UNSTEERED")?,
            backstops: Arc::new(backstops_below(cgroup)?),
            shared,
            programs: ebpf,
        };
        programs.write_settings();
        programs.attach(cgroup)?;
        // Everything else works without this program: requests in flight are not seen then, and every connection is waited for.
        programs.sight = match layout {
            Ok(_) => connections::load(&mut programs.programs).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        Ok((programs, notices))
    }

    fn attach(&mut self, cgroup: &File) -> Result<(), BpfError> {
        // All supported kernels attach by links, where `Single` means "no flags" and several programs may be attached.
        let mode = CgroupAttachMode::Single;
        let loaded: &mut SockOps = program(&mut self.programs, "track")?;
        loaded.load().map_err(refused("load", "track"))?;
        // A value that was never written is row 0, the row of the backstops.
        loaded
            .attach(&*self.backstops, mode)
            .map_err(refused("attach", "track"))?;
        for name in ["bind4", "bind6"] {
            let loaded: &mut CgroupSockAddr = program(&mut self.programs, name)?;
            loaded.load().map_err(refused("load", name))?;
            loaded.attach(cgroup, mode).map_err(refused("attach", name))?;
        }
        let loaded: &mut CgroupSock = program(&mut self.programs, "no_mptcp")?;
        loaded.load().map_err(refused("load", "no_mptcp"))?;
        loaded.attach(cgroup, mode).map_err(refused("attach", "no_mptcp"))?;
        Ok(())
    }

    /// The cgroup in which backstops must be created, so that their connections are counted in row [`Row::BACKSTOP`].
    pub fn backstops_cgroup(&self) -> Arc<File> {
        Arc::clone(&self.backstops)
    }

    /// The parts that a group's copy of `select` needs to share this app's maps.
    pub(super) fn shared(&self) -> &Arc<SharedMaps> {
        &self.shared
    }

    /// Changes the policy for all groups at once.
    ///
    /// # Errors
    /// Never fails at present: the settings are in mapped memory.
    pub fn set_policy(&mut self, policy: Policy) -> Result<(), BpfError> {
        self.settings.policy = policy as u32;
        self.write_settings();
        Ok(())
    }

    /// Sets the service ports: at most [`MAX_PORTS`], further ones are dropped. If empty, every port that a worker binds, except 0. Applies
    /// to sockets that are bound from now on.
    pub fn set_ports(&mut self, ports: &[u16]) {
        (self.settings.ports, self.settings.port_count) = port_table(ports);
        self.write_settings();
    }

    /// Forbids workers to bind this port, because another program listens on it.
    pub fn keep_off(&self, port: u16) {
        self.table.view().keep_off(port);
    }

    /// Changes how long `sticky` remembers an idle client.
    pub fn set_client_ttl(&mut self, seconds: u64) {
        self.settings.client_ttl_ticks = ClientRecord::ticks(seconds);
        self.write_settings();
    }

    fn write_settings(&mut self) {
        self.table.view().set_settings(self.settings);
    }

    /// Lists every established connection of the app's services in the network namespace of this thread. Connections that the client has
    /// closed are included, those that the server has closed are not. The kernel walks all TCP sockets of the namespace.
    ///
    /// # Errors
    /// Fails if the kernel has no type information, has refused the program, or can't list connections now.
    pub fn connections(&mut self) -> Result<Vec<Connection>, BpfError> {
        match &self.sight {
            Ok(()) => connections::list(&mut self.programs),
            Err(why) => Err(BpfError::Blind(why.clone())),
        }
    }

    /// The row that the connection with this cookie has moved to. `None` if it has not moved: it then belongs to the instance of its
    /// cgroup.
    pub fn moved_to(&self, cookie: u64) -> Option<Row> {
        if cookie == 0 {
            return None;
        }
        self.migrated.get(&cookie, 0).ok().map(Row::from_map)
    }

    /// Sets which of the row's connections are counted when they end: see [`Cuts`].
    pub fn count_cuts(&self, row: Row, counting: u32) {
        self.cuts.view().count(row, counting);
    }

    /// Sets what happens to the row's connections each time they are listed: see [`Cuts`].
    pub fn hold(&self, row: Row, holding: u32) {
        self.cuts.view().hold(row, holding);
    }

    /// The counters of connections of this row that were cut since it was registered. Costs no system call.
    pub fn cuts_of(&self, row: Row) -> Cuts {
        self.cuts.view().copy(row)
    }

    /// Sets the number of connections that wait to be accepted by the row's instance, for `least-loaded`. Costs no system call.
    pub fn set_queue(&self, row: Row, connections: u32) {
        self.table.view().loads().set_queue(row, connections);
    }

    /// Asks for one [`Traffic`](reuse_common::notice::NoticeKind::Traffic) notice at the next connection that is established on any row,
    /// including that of the backstops. Read the counters once more after this call and before sleeping: earlier connections cause no
    /// notice. Costs no system call.
    pub fn ask_for_wake(&self) {
        self.table.view().ask_for_wake();
    }

    /// Clears `row` for an instance of `slot`, and assigns every listener bound in its cgroup to that row.
    ///
    /// # Errors
    /// Fails if `track` can't be attached there, or a map can't be written.
    pub fn register(&mut self, row: Row, slot: SlotId, cgroup: &InstanceCgroup) -> Result<(), BpfError> {
        self.table.view().loads().reset(row, InstanceLoad::new(slot));
        self.cuts.view().reset(row);
        let failed = |source| BpfError::Cgroup {
            path: cgroup.path().to_owned(),
            source,
        };
        let folder = File::open(cgroup.path()).map_err(failed)?;
        let track: &mut SockOps = program(&mut self.programs, "track")?;
        let track = track.fd().map_err(refused("attach", "track"))?;
        attach::to_sockets_of(&folder, track.as_fd()).map_err(failed)?;
        // The value exists because the program is attached, and nothing runs in the cgroup yet.
        let value = CgroupStorageKey::new(cgroup.id(), attach::SOCK_OPS);
        self.rows.insert(value, row.to_map(), 0).map_err(in_map("ROWS"))?;
        self.instances
            .insert(cgroup.id(), row.to_map(), 0)
            .map_err(in_map("INSTANCES"))
    }

    /// Forgets the cgroup. The row's counters stay until it is registered again, for connections that end slightly later.
    ///
    /// # Errors
    /// Fails if the map can't be written. An unknown id is no error.
    pub fn unregister(&mut self, cgroup_id: u64) -> Result<(), BpfError> {
        removed(self.instances.remove(&cgroup_id), "INSTANCES")
    }

    /// A copy of a row. Costs no system call.
    pub fn load_of(&self, row: Row) -> InstanceLoad {
        self.table.view().loads().copy(row)
    }

    /// Marks a listener (through any descriptor of it) of the instance in `row` as steered, and with it its connections from now on. A
    /// backstop must be marked before it listens.
    ///
    /// # Errors
    /// Fails if the socket is closed or has no port, or a map can't be written.
    pub fn steered(&mut self, listener: &impl AsFd, cookie: u64, row: Row) -> Result<(), BpfError> {
        let address = SockRef::from(listener)
            .local_addr()
            .ok()
            .and_then(|address| address.as_socket());
        let address = address.ok_or(BpfError::Missing("a listener's port"))?;
        self.table.view().serve(address.port());
        removed(self.unsteered.remove(&listener.as_fd().as_raw_fd()), "UNSTEERED")?;
        self.listeners
            .insert(cookie, row.to_map(), 0)
            .map_err(in_map("LISTENERS"))
    }

    /// Directs connections from this local end to the instance in `row`, until the same call with `None`.
    ///
    /// # Errors
    /// Fails if a map can't be written.
    pub fn direct(&mut self, from: DirectedKey, row: Option<Row>) -> Result<(), BpfError> {
        match row {
            Some(row) => {
                self.directed
                    .insert(from, row.to_map(), 0)
                    .map_err(in_map("DIRECTED"))?;
                self.settings.directed += 1;
            }
            None => {
                self.settings.directed = self.settings.directed.saturating_sub(1);
                removed(self.directed.remove(&from), "DIRECTED")?;
            }
        }
        self.write_settings();
        Ok(())
    }

    /// Whether the listener with this cookie belongs to the app and is on a service port.
    pub fn knows_listener(&self, cookie: u64) -> bool {
        self.listeners.get(&cookie, 0).is_ok()
    }

    /// Forgets whose a listener was, once no connection can move from it any more.
    ///
    /// # Errors
    /// Fails if the map can't be written. An unknown cookie is no error.
    pub fn forget_listener(&mut self, cookie: u64) -> Result<(), BpfError> {
        removed(self.listeners.remove(&cookie), "LISTENERS")
    }

    /// Every listener whose instance the programs know, by its cookie. Two system calls for each.
    pub fn known_listeners(&self) -> Vec<u64> {
        self.listeners.keys().filter_map(Result::ok).collect()
    }

    /// Number of clients that `sticky` remembers now. Walks the whole map, so not for a hot path.
    pub fn client_count(&self) -> usize {
        self.clients.keys().filter_map(Result::ok).count()
    }
}

/// The data needed to load another copy of the object.
pub(super) struct SharedMaps {
    pins: Pins,
    client_capacity: u32,
    verbose: bool,
}

impl SharedMaps {
    /// Loads the object. Shared maps are taken from their pins, or pinned now if there are none. `layout` is for the programs that read TCP
    /// sockets.
    pub(super) fn load_object(&self, layout: &TcpLayout) -> Result<Ebpf, BpfError> {
        let mut loader = EbpfLoader::new();
        // The object needs no relocations against the kernel's types, and reading them would take longer than everything else.
        loader.btf(None);
        loader.map_max_entries("CLIENTS", self.client_capacity.max(1));
        let log_level = if self.verbose { aya_log::Level::Debug as u8 } else { 0 };
        loader.override_global(aya_log::LEVEL, &log_level, false);
        loader.override_global("LAYOUT", layout, true);
        for map in SHARED {
            loader.map_pin_path(map, self.pins.path(map));
        }
        loader.load(OBJECT).map_err(|source| BpfError::Load {
            source: Box::new(source),
        })
    }

    /// Forwards the log messages of this copy's programs, if logging is enabled.
    pub(super) fn follow_logs(&self, ebpf: &mut Ebpf) {
        if !self.verbose {
            return;
        }
        let logger = match aya_log::EbpfLogger::init(ebpf) {
            Ok(logger) => logger,
            Err(error) => return tracing::warn!("the programs' log can't be read: {error}"),
        };
        // SAFETY: the logger owns its descriptor and keeps it open as long as it lives.
        let logger = unsafe { AsyncFd::register_with_interest(logger, tokio::io::Interest::READABLE) };
        let Ok(mut logger) = logger else { return };
        tokio::spawn(async move {
            while let Ok(mut ready) = logger.readable_mut().await {
                ready.get_inner_mut().flush();
                ready.clear_ready();
            }
        });
    }
}

/// Creates and opens the cgroup of the backstops. One left by a dead controller is used again.
fn backstops_below(cgroup: &File) -> Result<File, BpfError> {
    let failed = |errno: Errno| BpfError::Cgroup {
        path: BACKSTOPS.into(),
        source: errno.into(),
    };
    match mkdirat(cgroup, BACKSTOPS, Mode::from_bits_truncate(0o755)) {
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(errno) => return Err(failed(errno)),
    }
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    openat(cgroup, BACKSTOPS, flags, Mode::empty())
        .map(File::from)
        .map_err(failed)
}

/// The ports as the programs read them, and their number.
fn port_table(ports: &[u16]) -> ([u16; MAX_PORTS], u32) {
    let mut table = [0; MAX_PORTS];
    let count = ports.len().min(MAX_PORTS);
    table[..count].copy_from_slice(&ports[..count]);
    (table, u32::try_from(count).expect("at most MAX_PORTS"))
}

fn settings_of(options: &AppOptions) -> Settings {
    let (ports, port_count) = port_table(&options.ports);
    Settings {
        policy: options.policy as u32,
        directed: 0,
        client_mask: options.client_mask,
        client_ttl_ticks: ClientRecord::ticks(options.client_ttl_s),
        cgroup_level: options.cgroup_level,
        port_count,
        ports,
    }
}

/// The notices of the programs about listeners.
pub struct Notices {
    ring: AsyncFd<RingBuf<MapData>>,
}

impl Notices {
    fn new(ring: RingBuf<MapData>) -> Result<Self, BpfError> {
        // SAFETY: the ring owns its descriptor and keeps it open as long as it lives.
        let ring = unsafe { AsyncFd::register_with_interest(ring, tokio::io::Interest::READABLE) }
            .map_err(|error| in_map("NOTICES")(MapError::IoError(error.into())))?;
        Ok(Self { ring })
    }

    /// Waits for notices and returns all that have arrived. Cancel-safe: nothing is taken before the wait is over.
    ///
    /// # Errors
    /// Fails if the ring can't be waited on any more.
    pub async fn next(&mut self) -> io::Result<Vec<Notice>> {
        loop {
            let mut ready = self.ring.readable_mut().await?;
            let mut notices = Vec::new();
            while let Some(item) = ready.get_inner_mut().next() {
                if item.len() >= size_of::<Notice>() {
                    // SAFETY: at least that many bytes are there, and any bytes are a notice; the read needs no alignment.
                    notices.push(unsafe { item.as_ptr().cast::<Notice>().read_unaligned() });
                }
            }
            ready.clear_ready();
            if !notices.is_empty() {
                return Ok(notices);
            }
        }
    }
}
