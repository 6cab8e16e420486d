//! Types and decisions that the BPF programs and the controller share.
//!
//! Everything here is pure: it compiles for the BPF target (without `std`) and is unit- and property-tested on the host.
#![cfg_attr(target_arch = "bpf", no_std)]

pub mod policy_name;

pub use policy_name::Policy;
