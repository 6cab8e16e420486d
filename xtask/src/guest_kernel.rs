//! What tests boot in a virtual machine: QEMU, and a kernel of Debian's, which is unpacked into `target/` and not installed.

use crate::machine::{apt_install, is_on_path};
use crate::run::{Workspace, output_of, run, step};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Depends on whatever kernel is the present one, for machines that have no hardware to speak of.
const NAME: &str = "linux-image-cloud-amd64";

const QEMU: (&str, &str) = ("qemu-system-x86_64", "qemu-system-x86");

/// Brings what is missing; on other architectures no test boots anything.
///
/// # Errors
/// Says how to bring it otherwise where there is no apt, or no such package.
pub(crate) fn set_up(workspace: &Workspace) -> Result<()> {
    if !cfg!(target_arch = "x86_64") {
        return Ok(());
    }
    let (program, package) = QEMU;
    if !is_on_path(program) {
        if !is_on_path("apt-get") {
            bail!(
                "the tests run {program}, which this machine lacks, and it has no apt-get: install it with its own package manager"
            );
        }
        step(&format!("installing {program}"));
        apt_install([package])?;
    }
    let folder = workspace.root.join("target/guest-kernel");
    let unpacked = folder.join("unpacked");
    if unpacked.is_dir() || std::env::var_os("REUSE_GUEST_KERNEL").is_some() {
        return Ok(());
    }
    step("fetching a kernel for the virtual machines of the tests");
    fetch(&folder, &unpacked).context(
        "no kernel to boot: REUSE_GUEST_KERNEL may name a folder with boot/vmlinuz-… and lib/modules, the content of another distribution's package",
    )
}

fn fetch(folder: &Path, unpacked: &Path) -> Result<()> {
    if !is_on_path("apt-get") || !is_on_path("dpkg-deb") {
        bail!("this machine has no apt-get");
    }
    run(Command::new("apt-get").args(["-qq", "update"]))?;
    let depends = output_of(
        Command::new("apt-cache")
            .args(["depends", "--important", NAME])
            .env("LC_ALL", "C"),
    )?;
    let package = package_in(&depends).with_context(|| format!("{NAME} depends on no kernel:\n{depends}"))?;
    let download = folder.join("download");
    if download.exists() {
        fs::remove_dir_all(&download).with_context(|| format!("remove {}", download.display()))?;
    }
    fs::create_dir_all(&download).with_context(|| format!("create {}", download.display()))?;
    run(Command::new("apt-get")
        .args(["-qq", "download", package])
        // Root may write where apt's own user may not.
        .args(["-o", "APT::Sandbox::User=root"])
        .current_dir(&download))?;
    let archive = only_file(&download)?;
    let content = download.join("content");
    run(Command::new("dpkg-deb").arg("-x").args([&archive, &content]))?;
    // Last and in one step: what was interrupted is done again.
    fs::rename(&content, unpacked).with_context(|| format!("rename {}", content.display()))?;
    fs::remove_dir_all(&download).with_context(|| format!("remove {}", download.display()))
}

/// Reads what `apt-cache depends` says.
fn package_in(depends: &str) -> Option<&str> {
    depends
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .find(|package| package.starts_with("linux-image-"))
}

fn only_file(folder: &Path) -> Result<PathBuf> {
    let mut entries = fs::read_dir(folder).with_context(|| format!("could not list {}", folder.display()))?;
    let first = entries
        .next()
        .with_context(|| format!("{} is empty", folder.display()))?;
    Ok(first
        .with_context(|| format!("could not list {}", folder.display()))?
        .path())
}

#[cfg(test)]
mod tests {
    use super::package_in;

    #[test]
    fn the_present_kernel_is_what_the_general_name_depends_on() {
        let depends = "linux-image-cloud-amd64\n  Depends: linux-image-6.1.0-56-cloud-amd64\n";
        assert_eq!(package_in(depends), Some("linux-image-6.1.0-56-cloud-amd64"));
        assert_eq!(package_in("linux-image-cloud-amd64\n"), None);
    }
}
