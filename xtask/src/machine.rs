//! Sets up what the tests and the demo need on this machine; what is there is not touched.

use crate::run::{Workspace, output_of, run, step};
use anyhow::{Context, Result, bail};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

/// The packages that tests and benchmarks compare with.
pub(crate) const PEERS: &str = "tests/servers/bench-peers";

/// Where pinned BPF objects live.
const BPF_FILESYSTEM: &str = "/sys/fs/bpf";

/// The programs that the tests run, and the Debian packages that bring each.
const PROGRAMS: [(&str, &[&str]); 18] = [
    ("cc", &["gcc", "libc6-dev"]),
    ("curl", &["curl"]),
    ("go", &["golang-go"]),
    ("gunicorn", &["gunicorn"]),
    ("ip", &["iproute2"]),
    ("java", &["openjdk-17-jre-headless"]),
    ("javac", &["openjdk-17-jdk-headless"]),
    ("journalctl", &["systemd"]),
    ("nginx", &["nginx-light"]),
    ("node", &["nodejs"]),
    ("npm", &["npm"]),
    ("php", &["php-cli"]),
    ("python3", &["python3"]),
    ("socat", &["socat"]),
    ("ssh", &["openssh-client"]),
    ("sshd", &["openssh-server"]),
    ("unicorn", &["unicorn"]),
    ("unshare", &["util-linux"]),
];

/// Says whether this process may do everything.
///
/// # Errors
/// When there is no /proc.
pub(crate) fn is_root() -> Result<bool> {
    // The owner of a process's own folder is its effective user.
    let folder = fs::metadata("/proc/self").context("could not read /proc/self (this needs Linux)")?;
    Ok(folder.uid() == 0)
}

/// Refuses to go on without root; `task` is what was called.
///
/// # Errors
/// Says how to call it.
pub(crate) fn require_root(task: &str) -> Result<()> {
    if is_root()? {
        return Ok(());
    }
    bail!(
        "`cargo xtask {task}` needs root: its tests load BPF programs, make cgroups and network namespaces\n\
         run `sudo -E env PATH=$PATH cargo xtask {task}`"
    );
}

/// Installs, with apt, those programs that the tests run and that this machine lacks.
///
/// # Errors
/// Names what is missing where there is no apt.
pub(crate) fn install_programs() -> Result<()> {
    let mut missing: Vec<_> = PROGRAMS
        .into_iter()
        .filter(|(program, _)| !is_on_path(program))
        .collect();
    if !makes_python_environments() {
        missing.push(("python3 -m venv", &["python3", "python3-venv"]));
    }
    if missing.is_empty() {
        return Ok(());
    }
    let programs: Vec<&str> = missing.iter().map(|(program, _)| *program).collect();
    if !is_on_path("apt-get") {
        bail!(
            "the tests run {}, which this machine lacks, and it has no apt-get: install them with its own package manager",
            programs.join(", ")
        );
    }
    step(&format!("installing {}", programs.join(", ")));
    apt_install(missing.iter().flat_map(|(_, packages)| *packages).copied())
}

/// Debian's Python does so only with one package more.
fn makes_python_environments() -> bool {
    let mut python = Command::new("python3");
    python.args(["-c", "import ensurepip, venv"]);
    output_of(&mut python).is_ok()
}

/// Installs Debian packages, and lets none of them start a service.
///
/// # Errors
/// When apt fails.
pub(crate) fn apt_install<'a>(packages: impl IntoIterator<Item = &'a str>) -> Result<()> {
    let _no_services = NoServices::begin()?;
    run(Command::new("apt-get").args(["-qq", "update"]))?;
    run(Command::new("apt-get")
        .args(["-qq", "-y", "--no-install-recommends", "install"])
        .args(packages)
        .env("PATH", search_path())
        .env("DEBIAN_FRONTEND", "noninteractive"))
}

/// Debian asks this program whether an installation may start a service.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// While this lives, no installation starts a service: a web server on port 80 is not what was asked for.
struct NoServices {
    /// Another one's policy stays.
    is_ours: bool,
}

impl NoServices {
    fn begin() -> Result<Self> {
        let created = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o755)
            .open(POLICY);
        match created {
            Ok(mut file) => {
                io::Write::write_all(&mut file, b"#!/bin/sh\nexit 101\n").with_context(|| format!("write {POLICY}"))?;
                Ok(Self { is_ours: true })
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Self { is_ours: false }),
            Err(error) => Err(error).with_context(|| format!("create {POLICY}")),
        }
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.is_ours
            && let Err(error) = fs::remove_file(POLICY)
        {
            eprintln!("could not remove {POLICY}, which keeps services from starting: {error}");
        }
    }
}

/// Says whether a program of this name would be found.
pub(crate) fn is_on_path(program: &str) -> bool {
    std::env::split_paths(&search_path()).any(|folder| folder.join(program).is_file())
}

/// Where root finds sshd, nginx and what dpkg needs. An ordinary user's PATH, which `sudo env PATH=$PATH` keeps, lacks them on Debian.
const ROOTS_FOLDERS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// The PATH for programs that are looked for here, and for what is run as root.
pub(crate) fn search_path() -> OsString {
    with_roots_folders(&std::env::var_os("PATH").unwrap_or_default())
}

fn with_roots_folders(path: &OsStr) -> OsString {
    let own = std::env::split_paths(path);
    let all = own.chain(ROOTS_FOLDERS.map(PathBuf::from));
    std::env::join_paths(all).expect("no folder of a PATH has a colon")
}

/// Installs the server runtimes of `tests/servers`, and the PM2 that tests compare with, when they are not there or older than their lock files.
///
/// # Errors
/// When npm fails.
pub(crate) fn install_runtimes(workspace: &Workspace) -> Result<()> {
    install_packages(workspace, "tests/servers")?;
    install_packages(workspace, PEERS)?;
    install_python_packages(workspace)
}

/// Installs Python's packages of `tests/servers/requirements.txt` into an environment of their own, when they are not there or others.
fn install_python_packages(workspace: &Workspace) -> Result<()> {
    let environment = workspace.root.join("target/test-servers/python");
    let wanted = workspace.root.join("tests/servers/requirements.txt");
    // The tests look at this copy, too; it is written last.
    let installed = environment.join("requirements.txt");
    let packages = fs::read(&wanted).with_context(|| format!("read {}", wanted.display()))?;
    if fs::read(&installed).is_ok_and(|installed| installed == packages) {
        return Ok(());
    }
    step("installing the packages of tests/servers/requirements.txt");
    run(Command::new("python3")
        .args(["-m", "venv", "--clear"])
        .arg(&environment))?;
    run(Command::new(environment.join("bin/python"))
        .args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
        ])
        .arg("--requirement")
        .arg(&wanted))?;
    fs::write(&installed, packages).with_context(|| format!("write {}", installed.display()))
}

/// Installs npm's packages of a folder of the workspace when they are not there or older than its lock file.
///
/// # Errors
/// When npm fails.
pub(crate) fn install_packages(workspace: &Workspace, folder: &str) -> Result<()> {
    let name = folder;
    let folder = workspace.root.join(folder);
    let lock = folder.join("package-lock.json");
    // npm writes this one last.
    let installed = folder.join("node_modules/.package-lock.json");
    if is_current(modified(&installed), modified(&lock)) {
        return Ok(());
    }
    step(&format!("installing the packages of {name}"));
    run(Command::new("npm").arg("ci").current_dir(&folder))
}

fn is_current(installed: Option<SystemTime>, wanted: Option<SystemTime>) -> bool {
    match (installed, wanted) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(installed), Some(wanted)) => installed >= wanted,
    }
}

fn modified(path: &Path) -> Option<SystemTime> {
    path.metadata().and_then(|metadata| metadata.modified()).ok()
}

/// Mounts the BPF file system where it is not mounted; asks sudo where this process may not.
///
/// # Errors
/// When mount fails.
pub(crate) fn mount_bpf_filesystem() -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("could not read /proc/self/mounts")?;
    if is_bpf_mounted(&mounts) {
        return Ok(());
    }
    step(&format!("mounting {BPF_FILESYSTEM}"));
    run(as_root("mount")?.args(["-t", "bpf", "-o", "mode=700", "bpf", BPF_FILESYSTEM]))
}

/// Reads rows of `/proc/self/mounts`: source, place, type, options.
fn is_bpf_mounted(mounts: &str) -> bool {
    mounts.lines().any(|row| {
        let mut words = row.split(' ').skip(1);
        words.next() == Some(BPF_FILESYSTEM) && words.next() == Some("bpf")
    })
}

/// The program, through sudo when this process is not root.
///
/// # Errors
/// When there is neither root nor sudo.
pub(crate) fn as_root(program: &str) -> Result<Command> {
    if is_root()? {
        return Ok(Command::new(program));
    }
    if !is_on_path("sudo") {
        bail!("`{program}` needs root, and there is no sudo: run this as root");
    }
    let mut command = Command::new("sudo");
    command.arg(program);
    Ok(command)
}

/// Under sudo, gives back to the person what was built or written as root, so that their own `cargo build` still works.
///
/// # Errors
/// When chown fails.
pub(crate) fn give_back(workspace: &Workspace) -> Result<()> {
    let (Some(user), Some(group)) = (std::env::var_os("SUDO_UID"), std::env::var_os("SUDO_GID")) else {
        return Ok(());
    };
    let built: Vec<PathBuf> = [
        "docs/benchmarks",
        "target",
        "tests/servers/bench-peers/node_modules",
        "tests/servers/node_modules",
    ]
    .iter()
    .map(|folder| workspace.root.join(folder))
    .filter(|folder| folder.exists())
    .collect();
    let mut owner = user;
    owner.push(":");
    owner.push(group);
    run(Command::new("chown")
        .args(["--recursive", "--no-dereference", "--from=0"])
        .arg(owner)
        .args(built))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn only_a_bpf_file_system_at_its_place_counts() {
        assert!(is_bpf_mounted(
            "proc /proc proc rw 0 0\nbpf /sys/fs/bpf bpf rw,mode=700 0 0"
        ));
        assert!(!is_bpf_mounted("none /sys/fs/bpf tmpfs rw 0 0"));
        assert!(!is_bpf_mounted("bpf /sys/fs/bpf2 bpf rw 0 0"));
        assert!(!is_bpf_mounted(""));
    }

    #[test]
    fn roots_folders_are_searched_last() {
        assert_eq!(
            with_roots_folders(OsStr::new("/home/me/bin:/usr/bin")),
            "/home/me/bin:/usr/bin:/usr/local/sbin:/usr/sbin:/sbin"
        );
    }

    #[test]
    fn runtimes_are_installed_when_absent_or_older_than_the_lock_file() {
        let older = SystemTime::UNIX_EPOCH;
        let newer = older + Duration::from_secs(1);
        assert!(!is_current(None, Some(older)));
        assert!(!is_current(Some(older), Some(newer)));
        assert!(is_current(Some(newer), Some(older)));
        assert!(is_current(Some(older), Some(older)));
        assert!(is_current(None, None), "no lock file: nothing to install");
    }
}
