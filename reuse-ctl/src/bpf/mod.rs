//! The only code that touches BPF objects. It loads the embedded object, owns its maps, programs and links, and offers an interface of rows
//! and seats instead of map names.
//!
//! An app has one [`AppPrograms`]: the hooks on the app's cgroup, `track` on the cgroups of its instances, and the maps that all programs
//! share. It pins those maps, so that each [`GroupProgram`] (one `select` per group, with tables of its own) is loaded onto the same ones.

mod app;
mod attach;
mod connections;
mod error;
mod group;
mod kernel_types;
mod mapped;
mod pins;
mod quiet;

use aya::{
    Ebpf,
    maps::{Map, MapError},
    programs::{Program, ProgramError},
};

pub use app::{AppOptions, AppPrograms, Notices};
pub use attach::create_any_map;
pub use error::BpfError;
pub use group::{GroupProgram, UnverifiedProgram};
pub use pins::{Pins, mount_bpffs};

/// Built from `reuse-ebpf` by `cargo xtask build-ebpf`.
pub(crate) static OBJECT: &[u8] = aya::include_bytes_aligned!("reuse.bpf.o");

/// Takes a map out of the loaded object, with its type.
fn take<M: TryFrom<Map, Error = MapError>>(ebpf: &mut Ebpf, name: &'static str) -> Result<M, BpfError> {
    ebpf.take_map(name)
        .ok_or(BpfError::Missing(name))?
        .try_into()
        .map_err(in_map(name))
}

/// The program with this name, with its type.
fn program<'a, P>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut P, BpfError>
where
    &'a mut P: TryFrom<&'a mut Program>,
{
    ebpf.program_mut(name)
        .and_then(|program| program.try_into().ok())
        .ok_or(BpfError::Missing(name))
}

fn in_map(map: &'static str) -> impl Fn(MapError) -> BpfError {
    move |source| BpfError::Map {
        map,
        source: Box::new(source),
    }
}

fn refused(action: &'static str, program: &'static str) -> impl Fn(ProgramError) -> BpfError {
    move |source| BpfError::Program {
        action,
        program,
        source: Box::new(source),
    }
}

/// Treats "nothing to remove" as success.
fn removed(result: Result<(), MapError>, map: &'static str) -> Result<(), BpfError> {
    match result {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        result => result.map_err(in_map(map)),
    }
}
