//! Types and decisions that the BPF programs and the controller share.
//!
//! Everything here is pure: it compiles for the BPF target (without `std`), and has unit and property tests that run on the host.
//!
//! - [`ids`]: the numbers of slots, rows, places, buckets and members, and the tables that they index
//! - [`choose`]: the four policies; [`seats`] and [`places`]: the tables that they read and the controller writes; [`rendezvous`]: which
//!   slot owns a key
//! - [`load`]: what the kernel counts per instance; [`app`] and [`group`]: the map values; [`client`]: what counts as one client
//! - [`in_flight`]: whether a connection has a request in flight; [`tcp_layout`]: where the kernel keeps the fields that tell
//! - [`stall`]: which workers are hung; [`withhold`]: which faulty workers are withdrawn. Only the controller and the simulator use these
//!   two
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
