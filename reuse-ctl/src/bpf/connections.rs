//! Lists an app's established connections as the kernel has them.

use std::{fs::File, io::Read as _};

use aya::{
    Btf, Ebpf,
    programs::{Iter, ProgramError},
};
use reuse_common::in_flight::Connection;

use super::{BpfError, program, refused};

/// The program's name in the object.
const NAME: &str = "connections";

/// Records for which a buffer is reserved, so that most lists take few reads.
const BUFFERED: usize = 1024;

/// Loads the program.
pub(super) fn load(ebpf: &mut Ebpf) -> Result<(), BpfError> {
    let types = Btf::from_sys_fs().map_err(|error| refused("load", NAME)(ProgramError::Btf(error)))?;
    let loaded: &mut Iter = program(ebpf, NAME)?;
    loaded.load("tcp", &types).map_err(refused("load", NAME))
}

/// Lists every established connection of a service of the app, in the network namespace of this thread. Connections that the client has
/// closed are included, those that the server has closed are not. Takes about a microsecond per TCP socket of the namespace.
pub(super) fn list(ebpf: &mut Ebpf) -> Result<Vec<Connection>, BpfError> {
    let loaded: &mut Iter = program(ebpf, NAME)?;
    let link = loaded.attach().and_then(|id| loaded.take_link(id));
    let link = link.map_err(refused("attach", NAME))?;
    let unreadable = |source: std::io::Error| BpfError::Unreadable { program: NAME, source };
    let mut file = link
        .into_file()
        .map_err(|error| unreadable(std::io::Error::other(error)))?;
    read_all(&mut file).map_err(unreadable)
}

fn read_all(file: &mut File) -> std::io::Result<Vec<Connection>> {
    const SIZE: usize = size_of::<Connection>();
    let mut bytes = Vec::with_capacity(SIZE * BUFFERED);
    file.read_to_end(&mut bytes)?;
    let records = bytes.chunks_exact(SIZE);
    // SAFETY: any bytes are a `Connection`; the read needs no alignment.
    Ok(records
        .map(|record| unsafe { record.as_ptr().cast::<Connection>().read_unaligned() })
        .collect())
}
