//! Types and decisions that the BPF programs and the controller share.
//!
//! Everything here is pure: it compiles for the BPF target (without `std`) and is unit- and property-tested on the host.
//! [`ids`] says what slots, rows, seats, places, buckets and members are, and which table each of them indexes;
//! [`choose`] holds the four policies; [`seats`] and [`places`] the tables that they read and that the controller writes; [`rendezvous`]
//! whose a key is;
//! [`load`] what the kernel counts per instance; [`app`] and [`group`] where all of that stands; [`client`] who counts as one client.
//! [`in_flight`] says whether a connection has a request in flight, [`tcp_layout`] where the kernel keeps what tells it.
//! [`stall`] says who is hung, [`withhold`] who is withdrawn for a fault: only the controller and the simulator ask them.
#![cfg_attr(target_arch = "bpf", no_std)]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch, core_intrinsics))]
#![cfg_attr(
    target_arch = "bpf",
    expect(internal_features, reason = "AtomicU64::fetch_add does not exist on the BPF target")
)]

pub mod app;
pub mod cell;
pub mod choose;
pub mod client;
pub mod cuts;
pub mod group;
pub mod ids;
pub mod in_flight;
pub mod limits;
pub mod load;
pub mod notice;
pub mod places;
pub mod policy;
pub mod portion;
pub mod rendezvous;
pub mod seats;
pub mod settings;
pub mod share;
#[cfg(not(target_arch = "bpf"))]
pub mod stall;
pub mod tcp_layout;
pub mod verdict;
#[cfg(not(target_arch = "bpf"))]
pub mod withhold;

pub use policy::Policy;
pub use share::Share;

/// Implements `aya::Pod` for types that user space exchanges with maps.
macro_rules! plain_data {
    ($($name:ty),+ $(,)?) => {$(
        // SAFETY: the type is `repr(C)`, made of integers only, and has no implicit padding (asserted beside each type).
        #[cfg(feature = "user")]
        unsafe impl aya::Pod for $name {}
    )+};
}
use plain_data;
