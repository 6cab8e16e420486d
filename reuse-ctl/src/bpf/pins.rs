//! The folder below `/sys/fs/bpf` in which an app's shared maps are pinned.

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

/// Makes sure that `/sys/fs/bpf` is a BPF file system. systemd mounts it at boot; containers and new mount namespaces lack it.
///
/// # Errors
/// Fails if it is missing and can't be mounted.
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

/// The folder of pins. Dropping this removes it with everything in it.
#[derive(Debug)]
pub struct Pins {
    folder: PathBuf,
}

impl Pins {
    /// Creates an empty folder. Pins left by an earlier controller of the same app are removed; the caller holds the app's lock.
    ///
    /// # Errors
    /// Fails if the folder can't be created.
    pub fn create(folder: &Path) -> Result<Self, BpfError> {
        mount_bpffs()?;
        Self::remove(folder);
        shared_folder::create(folder).map_err(|source| BpfError::Pins {
            path: folder.into(),
            source,
        })?;
        Ok(Self { folder: folder.into() })
    }

    /// The path where the map with this name is pinned.
    pub fn path(&self, map: &str) -> PathBuf {
        self.folder.join(map)
    }

    /// Removes an app's folder, and the folder of all apps if that is empty then. A missing folder is no error.
    pub fn remove(folder: &Path) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            // A file that can't be removed makes the removal of the folder fail below.
            drop(fs::remove_file(entry.path()));
        }
        match fs::remove_dir(folder) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!("{}: {error}", folder.display()),
        }
        if let Some(all_apps) = folder.parent() {
            // Fails, as it should, while another app has pins.
            drop(fs::remove_dir(all_apps));
        }
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        Self::remove(&self.folder);
    }
}
