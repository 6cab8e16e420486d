//! A file system that does not answer: as NFS when its server is gone.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

/// What this thread and everything that it starts from now on see mounted; nobody else sees it.
#[derive(Debug)]
pub struct Mounts(());

impl Mounts {
    /// Leaves those of the machine.
    ///
    /// # Panics
    /// Without root.
    pub fn enter() -> Self {
        unshare(CloneFlags::CLONE_NEWNS).expect("unshare(CLONE_NEWNS)");
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>).expect("make all mounts private");
        Self(())
    }

    /// From now on whoever looks below this folder waits.
    ///
    /// # Panics
    /// Without FUSE in the kernel.
    pub fn freeze(&self, folder: &Path) -> Frozen {
        let device = File::options()
            .read(true)
            .write(true)
            .open("/dev/fuse")
            .expect("/dev/fuse");
        let options = format!(
            "fd={},rootmode=40000,user_id=0,group_id=0,allow_other",
            device.as_raw_fd()
        );
        mount(Some("frozen"), folder, Some("fuse"), MsFlags::empty(), Some(&*options))
            .expect("mount a FUSE file system");
        Frozen {
            folder: folder.to_owned(),
            _device: device,
        }
    }
}

/// A folder with a FUSE file system whose server, this process, never reads what it is asked for. Dropped, it fails all that waits, and what
/// was there before is seen again.
#[derive(Debug)]
pub struct Frozen {
    folder: PathBuf,
    /// Closing it ends the connection.
    _device: File,
}

impl Drop for Frozen {
    fn drop(&mut self) {
        if let Err(error) = umount2(&self.folder, MntFlags::MNT_DETACH) {
            eprintln!("umount {}: {error}", self.folder.display());
        }
    }
}
