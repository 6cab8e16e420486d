//! The map value that the controller and an app's BPF programs share. The controller maps it into its own memory.
//!
//! A program finds everything with one map look-up, and the controller reads and writes without a system call.

use crate::{
    cell,
    load::{LoadTable, Loads},
    settings::Settings,
};

/// The whole map value. The fields that every connection reads are in the first cache line.
#[repr(C, align(64))]
pub struct AppTable {
    /// Not 0 while the controller wants to be told of the next connection.
    wake: u32,
    /// Not 0 once a connection has moved to an instance other than the one whose cgroup the connection is in.
    moved: u32,
    settings: Settings,
    loads: LoadTable,
    /// The state of each port: 0 (unknown to the app), [`SERVICE`] or [`FOREIGN`].
    ports: [u8; 1 << 16],
}

/// A listener of the app was bound to this port.
const SERVICE: u8 = 1;
/// Another program listens on this port, so the app must not bind it.
const FOREIGN: u8 = 2;

const _: () = assert!(core::mem::offset_of!(AppTable, loads) == 128);
const _: () = assert!(core::mem::offset_of!(AppTable, settings) == 8 && core::mem::offset_of!(Settings, ports) <= 56);

/// A live view of the table, which every CPU and the controller write to.
#[derive(Clone, Copy)]
pub struct App {
    table: *mut AppTable,
}

impl App {
    /// A view of `table`.
    ///
    /// # Safety
    /// `table` must stay valid for reads and writes as long as the view is used.
    #[inline(always)]
    pub const unsafe fn new(table: *mut AppTable) -> Self {
        Self { table }
    }

    /// The settings that the controller last wrote.
    #[inline(always)]
    pub fn settings<'a>(&self) -> &'a Settings {
        // SAFETY: valid by the promise at `new`. The words may change meanwhile; any value is valid for the programs.
        unsafe { &(*self.table).settings }
    }

    /// Replaces the settings. A program that runs at the same time may see a mix of old and new fields.
    pub fn set_settings(&self, settings: Settings) {
        // SAFETY: valid by the promise at `new`.
        unsafe { cell::write(&raw mut (*self.table).settings, settings) };
    }

    /// The live load table.
    #[inline(always)]
    pub fn loads(&self) -> Loads {
        // SAFETY: valid by the promise at `new`.
        unsafe { Loads::new(&raw mut (*self.table).loads) }
    }

    /// Marks the port (host byte order) as a service: its listeners and their connections are tracked from now on.
    #[inline(always)]
    pub fn serve(&self, port: u16) {
        // SAFETY: valid by the promise at `new`; there is a place for each port.
        unsafe { cell::write(self.port(port), SERVICE) };
    }

    /// Whether the port (host byte order) is a service of the app.
    #[inline(always)]
    pub fn is_service(&self, port: u16) -> bool {
        // SAFETY: as for `serve`.
        unsafe { cell::read(self.port(port)) == SERVICE }
    }

    /// Forbids the app to bind this port (host byte order), because another program listens on it.
    pub fn keep_off(&self, port: u16) {
        // SAFETY: as for `serve`.
        unsafe { cell::write(self.port(port), FOREIGN) };
    }

    /// Whether the app must not bind this port.
    #[inline(always)]
    pub fn is_foreign(&self, port: u16) -> bool {
        // SAFETY: as for `serve`.
        unsafe { cell::read(self.port(port)) == FOREIGN }
    }

    #[inline(always)]
    fn port(&self, port: u16) -> *mut u8 {
        // SAFETY: valid by the promise at `new`; there is a place for each port.
        unsafe { (&raw mut (*self.table).ports).cast::<u8>().add(port as usize) }
    }

    /// Records that a connection has moved, so that code that counts connections must look for moved ones.
    #[inline(always)]
    pub fn note_move(&self) {
        // SAFETY: valid by the promise at `new`. Every writer writes the same value.
        unsafe { cell::write(&raw mut (*self.table).moved, 1) };
    }

    /// Whether any connection has ever moved.
    #[inline(always)]
    pub fn has_moved(&self) -> bool {
        // SAFETY: valid by the promise at `new`.
        unsafe { cell::read(&raw const (*self.table).moved) != 0 }
    }

    /// Asks for a notice at the next connection. The caller must look for connections that were established earlier after this call.
    pub fn ask_for_wake(&self) {
        // SAFETY: valid by the promise at `new`. An exchange, because it is a barrier too: no later read comes before it.
        unsafe { cell::exchange_u32(&raw mut (*self.table).wake, 1) };
    }

    /// Takes the controller's request for a notice, if there is one: true for one connection per request.
    #[inline(always)]
    pub fn take_wake(&self) -> bool {
        // SAFETY: valid by the promise at `new`.
        unsafe {
            let wake = &raw mut (*self.table).wake;
            cell::read(wake) != 0 && cell::exchange_u32(wake, 0) != 0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Row;

    #[test]
    fn told_once_for_each_asking() {
        // SAFETY: a table of integers may be all zeroes.
        let mut table = unsafe { Box::<AppTable>::new_zeroed().assume_init() };
        // SAFETY: the table outlives the view.
        let app = unsafe { App::new(&raw mut *table) };
        assert!(!app.take_wake());
        app.ask_for_wake();
        app.ask_for_wake();
        assert!(app.take_wake() && !app.take_wake());
        assert!(!app.has_moved() && !app.is_service(80));
        app.note_move();
        app.serve(80);
        app.serve(u16::MAX);
        app.keep_off(81);
        assert!(app.has_moved() && app.is_service(80) && app.is_service(u16::MAX) && !app.is_service(81));
        assert!(app.is_foreign(81) && !app.is_foreign(80) && !app.is_foreign(82));
        app.loads().set_queue(Row(7), 3);
        assert_eq!(app.loads().copy(Row(7)).queue(), 3);
    }
}
