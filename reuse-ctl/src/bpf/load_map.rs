//! The load table, mapped into the controller's memory: reading it costs no system call, and a single row can be written while the
//! kernel goes on adding to the others.

use std::{num::NonZeroUsize, os::fd::AsFd, ptr::NonNull};

use aya::{
    Ebpf,
    maps::{Map, MapData, MapError},
};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use reuse_common::{
    limits::MAX_INSTANCES,
    load::{InstanceLoad, LoadTable},
};

use super::{BpfError, in_map};

pub(super) struct LoadMap {
    rows: NonNull<InstanceLoad>,
    /// Programs are loaded with the numbers of their maps' descriptors: these must stay open till then.
    _map: MapData,
}

// SAFETY: the rows are plain memory that is only read and written by volatile accesses.
unsafe impl Send for LoadMap {}
// SAFETY: as above; a torn read of a counter can't happen, since each is one aligned word.
unsafe impl Sync for LoadMap {}

const SIZE: NonZeroUsize = NonZeroUsize::new(size_of::<LoadTable>()).expect("the table has rows");

impl LoadMap {
    pub(super) fn new(ebpf: &mut Ebpf) -> Result<Self, BpfError> {
        let Some(Map::Array(data)) = ebpf.take_map("LOADS") else {
            return Err(BpfError::Missing("LOADS"));
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
                rows: address.cast(),
                _map: data,
            }),
            Err(errno) => Err(in_map("LOADS")(MapError::IoError(errno.into()))),
        }
    }

    pub(super) fn read(&self, index: u16) -> InstanceLoad {
        // SAFETY: the masked index is inside the mapping.
        unsafe { self.rows.add(index as usize & (MAX_INSTANCES - 1)).read_volatile() }
    }

    pub(super) fn write(&mut self, index: u16, row: InstanceLoad) {
        // SAFETY: the masked index is inside the mapping.
        unsafe { self.rows.add(index as usize & (MAX_INSTANCES - 1)).write_volatile(row) }
    }
}

impl Drop for LoadMap {
    fn drop(&mut self) {
        // SAFETY: nothing points into the mapping any more. It can't fail for a mapping that exists.
        let unmapped = unsafe { munmap(self.rows.cast(), SIZE.get()) };
        debug_assert!(unmapped.is_ok(), "the mapping exists");
    }
}
