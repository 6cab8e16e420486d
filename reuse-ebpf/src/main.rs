//! The kernel side. Each program reads its context, asks `reuse-common` what to do, and does it.
//!
//! [`select`] picks a listener for every new connection and for every connection that must move. [`track`] counts established connections
//! per row and records sticky clients. [`hooks`] makes any server's listener a member of its group. [`connections`] lists the established
//! connections.
#![no_std]
#![no_main]

mod connections;
mod hooks;
mod maps;
mod select;
mod tcp;
mod track;

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // Never linked into a program that the verifier accepts: the decisions can't panic.
    loop {}
}
