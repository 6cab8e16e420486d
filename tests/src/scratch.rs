//! A folder that goes away with its owner.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use nix::unistd::mkdtemp;

/// A fresh folder in /tmp that everyone may read; removed on drop.
#[derive(Debug)]
pub struct Scratch {
    folder: PathBuf,
}

impl Scratch {
    /// Makes one.
    ///
    /// # Panics
    /// When /tmp can't be written.
    #[expect(clippy::new_without_default, reason = "making a folder is not a default value")]
    pub fn new() -> Self {
        let folder = mkdtemp("/tmp/reuse-test-XXXXXX").expect("mkdtemp in /tmp");
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).expect("chmod of a folder just made");
        Self { folder }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// Writes a file into it, atomically, and says where it is.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        self.write_with_mode(name, text, 0o644)
    }

    /// Writes an executable file into it, atomically: whoever executes it gets the old or the new text, never half of one.
    pub fn write_executable(&self, name: &str, text: &str) -> PathBuf {
        self.write_with_mode(name, text, 0o755)
    }

    fn write_with_mode(&self, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = self.folder.join(name);
        let fresh = self.folder.join(format!("{name}.new"));
        fs::write(&fresh, text).expect("write a scratch file");
        fs::set_permissions(&fresh, fs::Permissions::from_mode(mode)).expect("chmod of a file just written");
        fs::rename(&fresh, &path).expect("rename within one folder");
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nothing is lost when a folder in /tmp stays, and a test that fails must show its own reason.
        drop(fs::remove_dir_all(&self.folder));
    }
}
