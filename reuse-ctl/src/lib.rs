//! `reuse-ctl`: many processes of any server on one Linux port, steered by eBPF.
//!
//! The folders are layers. Each may import those below it and no other, and `tests/layers.rs` checks every import:
//!
//! - [`cli`]: arguments and verbs
//! - [`controller`]: makes what an app needs, runs it, and takes everything away again
//! - [`server`]: HTTP on the control socket
//! - [`supervisor`]: owns all mutable state, and carries out what the machine says; [`client`]: asks over the control socket; [`doctor`]: what works
//!   on this machine
//! - [`config`]: `reuse.toml`; [`group`]: listeners and who may be chosen; [`wire`]: requests and replies as data
//! - [`app`]: what an app is asked to be; [`bpf`]: the only code that touches BPF objects; [`import`]: PM2's files
//! - [`process`]: starts and ends processes
//! - [`base`]: what all of them use
//!
//! What happens to each worker is decided by the crate `reuse-machine`, which has no process, socket or clock inside. ARCHITECTURE.md has the picture.

// The modules and the dependencies are left out elsewhere, so that this line is all that the compiler says.
#[cfg(not(target_os = "linux"))]
compile_error!("reuse-ctl steers connections with Linux eBPF and builds on Linux only");

#[cfg(target_os = "linux")]
pub mod app;
#[cfg(target_os = "linux")]
pub mod base;
#[cfg(target_os = "linux")]
pub mod bpf;
#[cfg(target_os = "linux")]
pub mod cli;
#[cfg(target_os = "linux")]
pub mod client;
#[cfg(target_os = "linux")]
pub mod config;
#[cfg(target_os = "linux")]
pub mod controller;
#[cfg(target_os = "linux")]
pub mod doctor;
#[cfg(target_os = "linux")]
pub mod group;
#[cfg(target_os = "linux")]
pub mod import;
#[cfg(target_os = "linux")]
pub mod process;
#[cfg(target_os = "linux")]
pub mod server;
#[cfg(target_os = "linux")]
pub mod supervisor;
#[cfg(target_os = "linux")]
pub mod wire;
