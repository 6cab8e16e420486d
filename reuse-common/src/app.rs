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
    reserved: u32,
    settings: Settings,
    loads: LoadTable,
}

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
        app.loads().set_queue(7, 3);
        assert_eq!(app.loads().copy(7).queue(), 3);
    }
}
