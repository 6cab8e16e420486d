//! Every map. All programs of an app share the first block, which the controller pins. The second block is per group: each group has its
//! own copy of `select` with its own tables.
#![expect(
    deprecated,
    reason = "what follows it came with Linux 6.2, and asks for a cgroup that these programs are not given"
)]

use aya_ebpf::{
    bindings::{
        BPF_F_CLONE, BPF_F_MMAPABLE, BPF_F_NO_PREALLOC, BPF_SK_STORAGE_GET_F_CREATE,
        bpf_map_type::BPF_MAP_TYPE_SK_STORAGE,
    },
    helpers::bpf_sk_storage_get,
    macros::{btf_map, map},
    maps::{Array, CgroupStorage, HashMap, LruHashMap, ReusePortSockArray, RingBuf},
};
use reuse_common::{
    app::{App, AppTable},
    client::{ClientKey, ClientRecord},
    cuts::{CutCounts, CutTable},
    group::{Group, GroupTable},
    ids::Row,
    limits::{MAX_KNOWN_LISTENERS, MEMBER_INDEXES},
    notice::Notice,
    settings::DirectedKey,
};

/// The app's settings and load table. The controller maps it into its memory.
#[map]
pub(crate) static APP: Array<AppTable> = Array::with_max_entries(1, BPF_F_MMAPABLE);
/// Client → its slot under `sticky`. The controller sets the capacity.
#[map]
pub(crate) static CLIENTS: LruHashMap<ClientKey, ClientRecord> = LruHashMap::with_max_entries(65536, 0);
/// Local end of a connection that the controller opens → the row that the connection must reach.
#[map]
pub(crate) static DIRECTED: HashMap<DirectedKey, u32> = HashMap::with_max_entries(1024, 0);
/// Cgroup id of an instance → its row of the load table.
#[map]
pub(crate) static INSTANCES: HashMap<u64, u32> = HashMap::with_max_entries(2048, 0);
/// Counters of cut connections, for instances that are being stopped. The controller maps it into its memory.
#[map]
static CUTS: Array<CutTable> = Array::with_max_entries(1, BPF_F_MMAPABLE);
/// Cookie of a listener → the row of its instance. It says whose connections move when the listener closes. The controller removes a listener
/// some time after it has closed. Nothing else does: if listeners pushed each other out, the counts of instances would drift apart.
#[map]
pub(crate) static LISTENERS: HashMap<u64, u32> =
    HashMap::with_max_entries(MAX_KNOWN_LISTENERS as u32, BPF_F_NO_PREALLOC);
/// Cookie of a moved connection → the row it moved to. The connection stays in the cgroup of the old instance.
#[map]
pub(crate) static MIGRATED: LruHashMap<u64, u32> = LruHashMap::with_max_entries(65536, 0);
#[map]
pub(crate) static NOTICES: RingBuf = RingBuf::with_byte_size(256 * 1024, 0);
/// The row of the instance whose cgroup a program runs for: one value for each cgroup that `track` is attached to.
#[map]
static ROWS: CgroupStorage<u32> = CgroupStorage::new();
/// Marks listeners whose group is not steered yet, and the connections made meanwhile. The controller removes a listener's mark when the
/// group is steered. Later connections have no storage, which saves a microsecond for each.
#[btf_map]
pub(crate) static UNSTEERED: MarkMap = MarkMap::new();

/// The group's tables. The controller maps them into its memory.
#[map]
pub(crate) static GROUP: Array<GroupTable> = Array::with_max_entries(1, BPF_F_MMAPABLE);
/// [`MemberIndex`](reuse_common::ids::MemberIndex) → listener.
#[map]
pub(crate) static MEMBERS: ReusePortSockArray = ReusePortSockArray::with_max_entries(MEMBER_INDEXES as u32, 0);

/// The app's settings and its live load table.
#[inline(always)]
pub(crate) fn app() -> Option<App> {
    // SAFETY: a map value lives as long as the program.
    APP.get_ptr_mut(0).map(|table| unsafe { App::new(table) })
}

/// The counters of cut connections.
#[inline(always)]
pub(crate) fn cuts() -> Option<CutCounts> {
    // SAFETY: a map value lives as long as the program.
    CUTS.get_ptr_mut(0).map(|table| unsafe { CutCounts::new(table) })
}

/// The tables of this group.
#[inline(always)]
pub(crate) fn group() -> Option<Group> {
    // SAFETY: a map value lives as long as the program.
    GROUP.get_ptr_mut(0).map(|table| unsafe { Group::new(table) })
}

/// The row of the instance whose cgroup this program runs for. Works in `track` only.
#[inline(always)]
pub(crate) fn row() -> Row {
    // SAFETY: the kernel made the value when the program was attached; it lives as long as that.
    Row::from_map(unsafe { *ROWS.get_ptr_mut() })
}

/// Socket storage that every connection inherits from its listener. Declared by hand, because aya-ebpf's own type can't set `BPF_F_CLONE`.
#[repr(C)]
pub(crate) struct MarkMap {
    r#type: *const [i32; BPF_MAP_TYPE_SK_STORAGE as usize],
    key: *const i32,
    value: *const u32,
    max_entries: *const [i32; 0],
    map_flags: *const [i32; (BPF_F_NO_PREALLOC | BPF_F_CLONE) as usize],
}

// SAFETY: nothing follows the pointers; they only describe the map to the loader.
unsafe impl Sync for MarkMap {}

impl MarkMap {
    const fn new() -> Self {
        Self {
            r#type: core::ptr::null(),
            key: core::ptr::null(),
            value: core::ptr::null(),
            max_entries: core::ptr::null(),
            map_flags: core::ptr::null(),
        }
    }

    /// Whether a socket is marked. The `bpf_sock` pointer must have been tested for null.
    #[inline(always)]
    pub(crate) fn has<T>(&self, socket: *mut T) -> bool {
        // SAFETY: the helper accepts any live socket.
        !unsafe { bpf_sk_storage_get(self.as_ptr(), socket.cast(), core::ptr::null_mut(), 0) }.is_null()
    }

    /// Marks a socket. If there is no memory, the socket stays unmarked and its connections count as steered.
    #[inline(always)]
    pub(crate) fn mark<T>(&self, socket: *mut T) {
        let flags = u64::from(BPF_SK_STORAGE_GET_F_CREATE);
        // SAFETY: as for `has`; a new value is all zeroes.
        unsafe { bpf_sk_storage_get(self.as_ptr(), socket.cast(), core::ptr::null_mut(), flags) };
    }

    #[inline(always)]
    fn as_ptr(&self) -> *mut core::ffi::c_void {
        core::ptr::from_ref(self).cast_mut().cast()
    }
}

/// Sends a notice to the controller. If the ring is full, the notice is lost; the controller finds the listener later when it looks at the
/// sockets.
#[inline(always)]
pub(crate) fn notify(notice: Notice) {
    if let Some(mut entry) = NOTICES.reserve::<Notice>(0) {
        entry.write(notice);
        entry.submit(0);
    }
}
