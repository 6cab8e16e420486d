//! The folder below `/sys/fs/bpf` where an app's shared maps are pinned.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use nix::{
    mount::{MsFlags, mount},
    sys::statfs::{BPF_FS_MAGIC, statfs},
};

use super::BpfError;
use crate::process::shared_folder;

const BPFFS: &str = "/sys/fs/bpf";

/// Makes sure that `/sys/fs/bpf` is a BPF file system. systemd mounts it at boot; containers and fresh mount namespaces lack it.
///
/// # Errors
/// When it is not there and can't be mounted.
pub fn mount_bpffs() -> Result<(), BpfError> {
    let fail = |source: io::Error| BpfError::Pins {
        path: BPFFS.into(),
        source,
    };
    match statfs(BPFFS) {
        Ok(stat) if stat.filesystem_type() == BPF_FS_MAGIC => Ok(()),
        Ok(_) => mount(Some("bpf"), BPFFS, Some("bpf"), MsFlags::empty(), Some("mode=0700"))
            .map_err(|errno| fail(errno.into())),
        Err(errno) => Err(fail(errno.into())),
    }
}

/// The folder, which is removed with everything in it when this is dropped.
#[derive(Debug)]
pub struct Pins {
    folder: PathBuf,
}

impl Pins {
    /// Makes an empty folder; what an earlier controller of the same name left there is removed (the caller holds the app's lock).
    ///
    /// # Errors
    /// When the folder can't be made.
    pub fn create(folder: &Path) -> Result<Self, BpfError> {
        mount_bpffs()?;
        Self::remove(folder);
        shared_folder::create(folder).map_err(|source| BpfError::Pins {
            path: folder.into(),
            source,
        })?;
        Ok(Self { folder: folder.into() })
    }

    /// Where the map of this name is pinned.
    pub fn path(&self, map: &str) -> PathBuf {
        self.folder.join(map)
    }

    /// Removes an app's folder, and the folder of all apps when it was the last. Nothing to remove is fine.
    pub fn remove(folder: &Path) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            // What can't be removed shows when the folder itself can't.
            drop(fs::remove_file(entry.path()));
        }
        match fs::remove_dir(folder) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!("{}: {error}", folder.display()),
        }
        if let Some(all_apps) = folder.parent() {
            // Fails while another app has pins, as it should.
            drop(fs::remove_dir(all_apps));
        }
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        Self::remove(&self.folder);
    }
}
