//! What the controller and an app's programs have in common: one map value, mapped into the controller's memory.
//!
//! One look-up serves a program for all of it, and the controller reads and writes without a system call.

use crate::{
    cell,
    load::{LoadTable, Loads},
    settings::Settings,
};

/// The whole value. What every connection reads stands in its first cache line.
#[repr(C, align(64))]
pub struct AppTable {
    /// Not 0: the controller wants to be told of the next connection.
    wake: u32,
    /// Not 0: some connection has moved to another instance than the one whose cgroup it is in.
    moved: u32,
    settings: Settings,
    loads: LoadTable,
    /// What each port is to the app: 0 (nothing), [`SERVICE`] or [`FOREIGN`].
    ports: [u8; 1 << 16],
}

/// A listener of the app's was bound to the port as a service.
const SERVICE: u8 = 1;
/// The port is somebody else's, and the app must not bind it.
const FOREIGN: u8 = 2;

const _: () = assert!(core::mem::offset_of!(AppTable, loads) == 128);
const _: () = assert!(core::mem::offset_of!(AppTable, settings) == 8 && core::mem::offset_of!(Settings, ports) <= 56);

/// A live view of the table, in memory that every processor and the controller write.
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

    /// What the controller has told the programs.
    #[inline(always)]
    pub fn settings<'a>(&self) -> &'a Settings {
        // SAFETY: valid by the promise at `new`. Words may change meanwhile; the programs act on any.
        unsafe { &(*self.table).settings }
    }

    /// Tells the programs. A program that runs at this moment may see a part of it.
    pub fn set_settings(&self, settings: Settings) {
        // SAFETY: valid by the promise at `new`.
        unsafe { cell::write(&raw mut (*self.table).settings, settings) };
    }

    /// What the kernel counts.
    #[inline(always)]
    pub fn loads(&self) -> Loads {
        // SAFETY: valid by the promise at `new`.
        unsafe { Loads::new(&raw mut (*self.table).loads) }
    }

    /// Listeners on this port (host byte order), and their connections, concern us from now on.
    #[inline(always)]
    pub fn serve(&self, port: u16) {
        // SAFETY: valid by the promise at `new`; there is a place for each port.
        unsafe { cell::write(self.port(port), SERVICE) };
    }

    /// Whether they do.
    #[inline(always)]
    pub fn is_service(&self, port: u16) -> bool {
        // SAFETY: as for `serve`.
        unsafe { cell::read(self.port(port)) == SERVICE }
    }

    /// The app must not bind this port (host byte order): somebody else listens there.
    pub fn keep_off(&self, port: u16) {
        // SAFETY: as for `serve`.
        unsafe { cell::write(self.port(port), FOREIGN) };
    }

    /// Whether the app must not bind it.
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

    /// A connection has moved: who counts connections must look where it is.
    #[inline(always)]
    pub fn note_move(&self) {
        // SAFETY: valid by the promise at `new`. Nobody ever writes anything else there.
        unsafe { cell::write(&raw mut (*self.table).moved, 1) };
    }

    /// Whether any has.
    #[inline(always)]
    pub fn has_moved(&self) -> bool {
        // SAFETY: valid by the promise at `new`.
        unsafe { cell::read(&raw const (*self.table).moved) != 0 }
    }

    /// Wants to be told of the next connection. What was established before must be looked for after this call.
    pub fn ask_for_wake(&self) {
        // SAFETY: valid by the promise at `new`. An exchange, because it is a barrier too: no later read comes before it.
        unsafe { cell::exchange_u32(&raw mut (*self.table).wake, 1) };
    }

    /// Whether somebody has asked to be told of the next connection, and this is the one: true once for each asking.
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
