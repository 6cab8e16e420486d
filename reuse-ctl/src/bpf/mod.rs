//! The only code that touches BPF objects: loads the embedded object, owns its maps, programs and links, and speaks of instances,
//! seats and stamps instead of map names.
//!
//! [`AppPrograms`] is one per app: `track` and the hooks on the app's cgroup, and the maps that all programs share. It pins those maps,
//! so that each [`GroupProgram`] (one `select` per group, with tables of its own) is loaded onto the same ones.

mod app;
mod error;
mod group;
mod mapped;
mod pins;

use aya::{
    Ebpf,
    maps::{Map, MapError},
    programs::{Program, ProgramError},
};

pub use app::{AppOptions, AppPrograms, Notices};
pub use error::BpfError;
pub use group::GroupProgram;
pub use pins::{Pins, mount_bpffs};

/// `cargo xtask build-ebpf` puts it there, from `reuse-ebpf`.
pub(crate) static OBJECT: &[u8] = aya::include_bytes_aligned!("reuse.bpf.o");

/// Takes a map out of the loaded object, as its type.
fn take<M: TryFrom<Map, Error = MapError>>(ebpf: &mut Ebpf, name: &'static str) -> Result<M, BpfError> {
    ebpf.take_map(name)
        .ok_or(BpfError::Missing(name))?
        .try_into()
        .map_err(in_map(name))
}

/// The program of this name, as its type.
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
