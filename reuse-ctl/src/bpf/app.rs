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
    ids::{Row, Slot},
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

/// What the programs are told at the start.
#[derive(Debug, Clone)]
pub struct AppOptions {
    /// How workers are chosen.
    pub policy: Policy,
    /// Which prefix of an address makes a client under `sticky`.
    pub client_mask: ClientMask,
    /// Seconds until an idle client is forgotten; 0 is never.
    pub client_ttl_s: u64,
    /// How many clients are remembered, at least 1.
    pub client_capacity: u32,
    /// Service ports, at most [`MAX_PORTS`]; empty: every port that a worker binds, but 0.
    pub ports: Vec<u16>,
    /// Depth of an instance's cgroup below the root.
    pub cgroup_level: u32,
    /// Whether programs log rare events.
    pub verbose: bool,
}

/// Where backstops are made, below the app's cgroup. The folder keeps the name that it had in earlier versions.
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

/// The hooks, attached to the app's cgroup as long as this lives; `track`, attached to the cgroup of each instance as long as that lives;
/// and the shared maps.
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
    /// Where backstops are to be made.
    backstops: Arc<File>,
    shared: Arc<SharedMaps>,
    /// Whether connections can be looked at, or why not.
    sight: Result<(), String>,
    /// Keeps the programs and their links; detached when dropped.
    programs: Ebpf,
}

impl AppPrograms {
    /// Loads the programs and attaches them to `cgroup` (an open folder of a cgroup v2 hierarchy), below which it makes a cgroup for the
    /// backstops. Maps are pinned below `pins_folder`.
    ///
    /// # Errors
    /// When the kernel refuses any of it.
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
        // Without it all else works: what is in flight is not seen then, and every connection is waited for.
        programs.sight = match layout {
            Ok(_) => connections::load(&mut programs.programs).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        Ok((programs, notices))
    }

    fn attach(&mut self, cgroup: &File) -> Result<(), BpfError> {
        // With links, which all kernels that we run on have, `Single` stands for "no flags", and several programs may be attached.
        let mode = CgroupAttachMode::Single;
        let loaded: &mut SockOps = program(&mut self.programs, "track")?;
        loaded.load().map_err(refused("load", "track"))?;
        // A value that was never written is the backstops' row.
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

    /// The cgroup in which backstops are to be made, so that their connections are counted in row [`Row::BACKSTOP`].
    pub fn backstops_cgroup(&self) -> Arc<File> {
        Arc::clone(&self.backstops)
    }

    /// What a group's copy of `select` needs to share this app's maps.
    pub(super) fn shared(&self) -> &Arc<SharedMaps> {
        &self.shared
    }

    /// Changes the policy for all groups at once.
    ///
    /// # Errors
    /// None at present: the programs read it from memory that is mapped here.
    pub fn set_policy(&mut self, policy: Policy) -> Result<(), BpfError> {
        self.settings.policy = policy as u32;
        self.write_settings();
        Ok(())
    }

    /// Changes which ports are service ports: at most [`MAX_PORTS`], the others are dropped; empty: every port that a worker binds, but 0.
    /// It counts for sockets that are bound from now on.
    pub fn set_ports(&mut self, ports: &[u16]) {
        (self.settings.ports, self.settings.port_count) = port_table(ports);
        self.write_settings();
    }

    /// From now on no worker can bind this port: somebody else listens there.
    pub fn keep_off(&self, port: u16) {
        self.table.view().keep_off(port);
    }

    /// Changes how long `sticky` remembers a client that is not seen.
    pub fn set_client_ttl(&mut self, seconds: u64) {
        self.settings.client_ttl_ticks = ClientRecord::ticks(seconds);
        self.write_settings();
    }

    fn write_settings(&mut self) {
        self.table.view().set_settings(self.settings);
    }

    /// Every established connection of the app's services, in the network namespace of this thread; one that the client has closed counts,
    /// one that the server has closed does not. The kernel walks all TCP sockets of the namespace for it.
    ///
    /// # Errors
    /// When the kernel has no type information, has refused the program, or refuses to tell now.
    pub fn connections(&mut self) -> Result<Vec<Connection>, BpfError> {
        match &self.sight {
            Ok(()) => connections::list(&mut self.programs),
            Err(why) => Err(BpfError::Blind(why.clone())),
        }
    }

    /// To which row a connection of this cookie has moved, if it has; else it is that of its cgroup's instance.
    pub fn moved_to(&self, cookie: u64) -> Option<Row> {
        if cookie == 0 {
            return None;
        }
        self.migrated.get(&cookie, 0).ok().map(Row::from_map)
    }

    /// From now on these of the row's connections are counted when they end: see [`Cuts`].
    pub fn count_cuts(&self, row: Row, counting: u32) {
        self.cuts.view().count(row, counting);
    }

    /// What happens to the row's connections, each time they are listed: see [`Cuts`].
    pub fn hold(&self, row: Row, holding: u32) {
        self.cuts.view().hold(row, holding);
    }

    /// What was cut of the row's connections since it was registered. Costs no system call.
    pub fn cuts_of(&self, row: Row) -> Cuts {
        self.cuts.view().copy(row)
    }

    /// So many connections wait to be accepted by the instance of this row: `least-loaded` counts them in. Costs no system call.
    pub fn set_queue(&self, row: Row, connections: u32) {
        self.table.view().loads().set_queue(row, connections);
    }

    /// Asks for one [`Traffic`](reuse_common::notice::NoticeKind::Traffic) notice at the next connection that is established on any row, the
    /// backstop's included. Counters must be read once more after this call and before a sleep: what came before it is not told. Costs no
    /// system call.
    pub fn ask_for_wake(&self) {
        self.table.view().ask_for_wake();
    }

    /// Begins `row` anew for an instance of `slot`, and says that whatever binds in its cgroup belongs to it.
    ///
    /// # Errors
    /// When `track` can't be attached there, or a map can't be written.
    pub fn register(&mut self, row: Row, slot: Slot, cgroup: &InstanceCgroup) -> Result<(), BpfError> {
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
        // The value is there since the program is attached; nothing runs in the cgroup yet.
        let value = CgroupStorageKey::new(cgroup.id(), attach::SOCK_OPS);
        self.rows.insert(value, row.to_map(), 0).map_err(in_map("ROWS"))?;
        self.instances
            .insert(cgroup.id(), row.to_map(), 0)
            .map_err(in_map("INSTANCES"))
    }

    /// Forgets the cgroup; the row stays until it is registered again, for connections that outlive it by an instant.
    ///
    /// # Errors
    /// When the map can't be written; an id that is not there is fine.
    pub fn unregister(&mut self, cgroup_id: u64) -> Result<(), BpfError> {
        removed(self.instances.remove(&cgroup_id), "INSTANCES")
    }

    /// A copy of a row. Costs no system call.
    pub fn load_of(&self, row: Row) -> InstanceLoad {
        self.table.view().loads().copy(row)
    }

    /// A listener (through any descriptor of it) of the instance in `row` is steered: so are its connections from now on. A backstop must be
    /// told of before it listens.
    ///
    /// # Errors
    /// When the socket is gone or has no port, or a map can't be written.
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

    /// From now until the same call with `None`, connections from this local end go to the instance in this row.
    ///
    /// # Errors
    /// When a map can't be written.
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

    /// Whether the listener of this cookie is one of the app's, on a service port.
    pub fn knows_listener(&self, cookie: u64) -> bool {
        self.listeners.get(&cookie, 0).is_ok()
    }

    /// How many clients `sticky` remembers now. Walks the map: not for a hot path.
    pub fn client_count(&self) -> usize {
        self.clients.keys().filter_map(Result::ok).count()
    }
}

/// What loading another copy of the object takes.
pub(super) struct SharedMaps {
    pins: Pins,
    client_capacity: u32,
    verbose: bool,
}

impl SharedMaps {
    /// Loads the object's maps: shared ones are those that are pinned already, or get pinned now.
    /// `layout` is for those that look at connections.
    pub(super) fn load_object(&self, layout: &TcpLayout) -> Result<Ebpf, BpfError> {
        let mut loader = EbpfLoader::new();
        // There is nothing to relocate against the kernel's types; reading them would take longer than all the rest.
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

    /// Starts to pass on what the programs of this copy log, where they may log.
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

/// Makes and opens the cgroup of the backstops; one that a dead controller has left will do.
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

/// As the programs read them, and how many there are.
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

/// What the programs tell about listeners.
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

    /// Waits for notices and returns all that are there. Cancel-safe: nothing is taken before the wait is over.
    ///
    /// # Errors
    /// When the ring can't be waited on any more.
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
