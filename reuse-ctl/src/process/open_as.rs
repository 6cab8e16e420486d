//! Opens files with the permissions of another user: root must not read for a user what that user may not read.

use std::fs::File;
use std::io;
use std::thread;

use nix::errno::Errno;

use super::identity::Identity;

/// Calls `open` with the user's file permissions, in a thread of its own that has no others.
///
/// # Errors
/// As `open`. EAGAIN if no thread could be started.
pub fn open_as<Open>(identity: &Identity, open: Open) -> io::Result<File>
where
    Open: FnOnce() -> io::Result<File> + Send,
{
    thread::scope(|scope| {
        let opening = thread::Builder::new().spawn_scoped(scope, || {
            become_user(identity)?;
            open()
        })?;
        opening.join().unwrap_or_else(|_| Err(Errno::EAGAIN.into()))
    })
}

/// Changes only this thread: raw system calls, because the C library's functions change all threads.
fn become_user(identity: &Identity) -> io::Result<()> {
    // SAFETY: the kernel reads as many numbers as it is told there are.
    let groups = unsafe { libc::syscall(libc::SYS_setgroups, identity.groups.len(), identity.groups.as_ptr()) };
    Errno::result(groups)?;
    // The second call of each pair shows whether the first one worked: it changes nothing and returns the current id.
    for (number, id) in [(libc::SYS_setfsgid, identity.gid), (libc::SYS_setfsuid, identity.uid)] {
        // SAFETY: integers; u32::MAX is no user.
        let now = unsafe {
            libc::syscall(number, id);
            libc::syscall(number, u32::MAX)
        };
        if now != i64::from(id) {
            return Err(Errno::EPERM.into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_thread_alone_has_the_users_rights() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let path = std::env::temp_dir().join(format!("reuse-ctl-open-as-{}", std::process::id()));
        fs::write(&path, "secret").expect("room");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("ours");
        let nobody = Identity::decide(Some("nobody"), |_| None).expect("every Linux has nobody");
        let refused = open_as(&nobody, || File::open(&path)).expect_err("it is root's");
        assert_eq!(refused.raw_os_error(), Some(libc::EACCES));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("ours");
        assert!(open_as(&nobody, || File::open(&path)).is_ok());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("ours");
        assert!(File::open(&path).is_ok(), "this thread has its rights still");
        fs::remove_file(&path).expect("ours");
    }
}
