//! A table that is the only value of a map, mapped into the controller's memory. Reading it costs no system call, and one field can be
//! written while the kernel goes on counting in others.

use std::{marker::PhantomData, num::NonZeroUsize, os::fd::AsFd, ptr::NonNull};

use aya::{
    Ebpf,
    maps::{Map, MapData, MapError},
};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use reuse_common::{
    app::{App, AppTable},
    cuts::{CutCounts, CutTable},
    group::{Group, GroupTable},
};

use super::{BpfError, in_map};

/// The only value, of type `T`, of an array map.
pub(super) struct MappedTable<T> {
    table: NonNull<T>,
    /// Programs are loaded with the numbers of their maps' descriptors, so the descriptor must stay open until then.
    _map: MapData,
    _owns: PhantomData<T>,
}

// SAFETY: the table is plain memory, accessed only by volatile and atomic reads and writes.
unsafe impl<T> Send for MappedTable<T> {}
// SAFETY: as above; a torn read of a counter can't happen, since each is one aligned word.
unsafe impl<T> Sync for MappedTable<T> {}

impl<T> MappedTable<T> {
    const SIZE: NonZeroUsize = NonZeroUsize::new(size_of::<T>()).expect("a table is not empty");

    pub(super) fn new(ebpf: &mut Ebpf, name: &'static str) -> Result<Self, BpfError> {
        let Some(Map::Array(data)) = ebpf.take_map(name) else {
            return Err(BpfError::Missing(name));
        };
        // SAFETY: a new mapping, at an address of the kernel's choice; its length is the value's.
        let mapped = unsafe {
            mmap(
                None,
                Self::SIZE,
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
                _owns: PhantomData,
            }),
            Err(errno) => Err(in_map(name)(MapError::IoError(errno.into()))),
        }
    }
}

impl MappedTable<AppTable> {
    /// A live view of the table.
    pub(super) fn view(&self) -> App {
        // SAFETY: the mapping is as large as the table, page-aligned, and lives as long as `self`. No view outlives it: views stay inside
        // the methods of `AppPrograms`, which owns this.
        unsafe { App::new(self.table.as_ptr()) }
    }
}

impl MappedTable<CutTable> {
    /// A live view of the table.
    pub(super) fn view(&self) -> CutCounts {
        // SAFETY: as for an app's.
        unsafe { CutCounts::new(self.table.as_ptr()) }
    }
}

impl MappedTable<GroupTable> {
    /// A live view of the table.
    pub(super) fn view(&self) -> Group {
        // SAFETY: as for an app's; views stay inside the methods of `GroupProgram`.
        unsafe { Group::new(self.table.as_ptr()) }
    }
}

impl<T> Drop for MappedTable<T> {
    fn drop(&mut self) {
        // SAFETY: nothing points into the mapping any more. Unmapping an existing mapping can't fail.
        let unmapped = unsafe { munmap(self.table.cast(), Self::SIZE.get()) };
        debug_assert!(unmapped.is_ok(), "the mapping exists");
    }
}
