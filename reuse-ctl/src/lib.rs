//! `reuse-ctl`: many processes of any server on one Linux port, steered by eBPF.
//!
//! The folders follow the data: [`cli`] parses and asks over a unix socket, [`server`] answers there, [`supervisor`] decides what
//! happens to each worker, [`process`] starts and ends processes, [`group`] finds and steers their listeners, [`bpf`] is the
//! only code that touches BPF objects. ARCHITECTURE.md has the picture.

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
