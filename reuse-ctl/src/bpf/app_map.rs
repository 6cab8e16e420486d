//! The app's table, mapped into the controller's memory: reading it costs no system call, and a single row can be written while the
//! kernel goes on adding to the others.

use std::{num::NonZeroUsize, os::fd::AsFd, ptr::NonNull};

use aya::{
    Ebpf,
    maps::{Map, MapData, MapError},
};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use reuse_common::app::{App, AppTable};

use super::{BpfError, in_map};

pub(super) struct AppMap {
    table: NonNull<AppTable>,
    /// Programs are loaded with the numbers of their maps' descriptors: these must stay open till then.
    _map: MapData,
}

// SAFETY: the table is plain memory that is only read and written by volatile and atomic accesses.
unsafe impl Send for AppMap {}
// SAFETY: as above; a torn read of a counter can't happen, since each is one aligned word.
unsafe impl Sync for AppMap {}

const SIZE: NonZeroUsize = NonZeroUsize::new(size_of::<AppTable>()).expect("the table has rows");

impl AppMap {
    pub(super) fn new(ebpf: &mut Ebpf) -> Result<Self, BpfError> {
        let Some(Map::Array(data)) = ebpf.take_map("APP") else {
            return Err(BpfError::Missing("APP"));
        };
        // SAFETY: a new mapping, at an address of the kernel's choice; its length is the value's.
        let mapped = unsafe {
            mmap(
                None,
                SIZE,
                ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
                MapFlags::MAP_SHARED,
                data.fd().as_fd(),
                0,
            )
        };
        match mapped {
            Ok(address) => Ok(Self {
                table: address.cast(),
                _map: data,
            }),
            Err(errno) => Err(in_map("APP")(MapError::IoError(errno.into()))),
        }
    }

    /// The live table.
    pub(super) fn view(&self) -> App {
        // SAFETY: the mapping is as large as the table, page-aligned, and lives as long as `self`, which no view outlives: views stay
        // inside the methods of `AppPrograms`, which owns this.
        unsafe { App::new(self.table.as_ptr()) }
    }
}

impl Drop for AppMap {
    fn drop(&mut self) {
        // SAFETY: nothing points into the mapping any more. It can't fail for a mapping that exists.
        let unmapped = unsafe { munmap(self.table.cast(), SIZE.get()) };
        debug_assert!(unmapped.is_ok(), "the mapping exists");
    }
}
