//! `reuse-ctl`: many processes of any server on one Linux port, steered by eBPF.
//!
//! The folders follow the data: [`cli`] parses and asks over a unix socket, [`api`] answers there, [`supervisor`] decides what
//! happens to each worker, [`process`] starts and ends processes, [`group`] finds and steers their listeners, [`bpf`] is the
//! only code that touches BPF objects. ARCHITECTURE.md has the picture.

#[cfg(not(target_os = "linux"))]
compile_error!("reuse-ctl steers connections with Linux eBPF and builds on Linux only");

pub mod api;
pub mod bpf;
pub mod cli;
pub mod doctor;
pub mod group;
pub mod process;
pub mod supervisor;
