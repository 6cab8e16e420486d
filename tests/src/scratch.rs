//! A folder that goes away with its owner.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

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
        let mut install = Install::into(&self.folder, name, "/dev/stdin".as_ref());
        let mut process = install.command.stdin(Stdio::piped()).spawn().expect("coreutils");
        let mut input = process.stdin.take().expect("it is piped");
        input.write_all(text.as_bytes()).expect("it reads");
        drop(input);
        install.finish(process.wait())
    }

    /// Copies a program into it, atomically, where everybody may execute it.
    ///
    /// # Panics
    /// When it can't be copied.
    pub fn copy_program(&self, from: &Path, name: &str) -> PathBuf {
        let mut install = Install::into(&self.folder, name, from);
        let status = install.command.status();
        install.finish(status)
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

/// Makes an executable file, by a process of its own: what this one has open for writing, a child that another test forks at this moment has
/// open as well, and the kernel executes no file that anybody may write to ("text file busy").
struct Install {
    command: Command,
    fresh: PathBuf,
    path: PathBuf,
}

impl Install {
    fn into(folder: &Path, name: &str, from: &Path) -> Self {
        let fresh = folder.join(format!("{name}.new"));
        let mut command = Command::new("install");
        command.args(["-m", "755"]).arg(from).arg(&fresh);
        Self {
            command,
            fresh,
            path: folder.join(name),
        }
    }

    fn finish(self, status: io::Result<ExitStatus>) -> PathBuf {
        assert!(status.expect("coreutils").success(), "{:?}", self.command);
        fs::rename(&self.fresh, &self.path).expect("rename within one folder");
        self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nothing is lost when a folder in /tmp stays, and a test that fails must show its own reason.
        drop(fs::remove_dir_all(&self.folder));
    }
}
