//! Finds or fetches the core library's source for the pinned rustc: from rustup, or from Debian, which packages the same
//! source (the BPF object comes out byte-identical from either). `REUSE_EBPF_RUST_SRC=auto|rustup|debian` chooses.

use crate::run::{Workspace, output_of, run, step};
use crate::toolchain::{Rustc, replace_link};
use anyhow::{Context, Result, bail};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The suites that are asked for the package; each holds one version.
const SUITES: [&str; 4] = ["trixie-backports", "sid", "forky", "trixie"];

/// Where the source is inside of a sysroot.
const IN_SYSROOT: &str = "lib/rustlib/src/rust/library";

/// The source of `core` on this machine.
#[derive(Debug)]
pub(crate) struct RustSrc {
    /// The folder that holds `core/Cargo.toml`.
    pub(crate) library: PathBuf,
    /// The compiler whose sysroot it is inside of, where that is not the pinned toolchain itself.
    pub(crate) rustc: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Choice {
    Auto,
    Rustup,
    Debian,
}

/// Makes sure that the source is on this machine, and returns the folder that holds `core/Cargo.toml`.
///
/// # Errors
/// Says how to install it by hand when neither way works.
pub(crate) fn set_up(workspace: &Workspace, rustc: &Rustc, cache: &Path) -> Result<RustSrc> {
    match choice()? {
        Choice::Rustup => from_rustup(workspace, rustc),
        Choice::Debian => from_debian(workspace, rustc, cache),
        Choice::Auto => from_rustup(workspace, rustc).or_else(|rustup_error| {
            step(&format!("rust-src: not from rustup ({rustup_error:#}); trying Debian"));
            from_debian(workspace, rustc, cache)
        }),
    }
}

fn choice() -> Result<Choice> {
    match std::env::var("REUSE_EBPF_RUST_SRC").as_deref() {
        Err(_) | Ok("auto") => Ok(Choice::Auto),
        Ok("rustup") => Ok(Choice::Rustup),
        Ok("debian") => Ok(Choice::Debian),
        Ok(other) => bail!("REUSE_EBPF_RUST_SRC is `{other}`; it can be auto, rustup or debian"),
    }
}

fn from_rustup(workspace: &Workspace, rustc: &Rustc) -> Result<RustSrc> {
    let library = rustc.sysroot.join(IN_SYSROOT);
    if is_library(&library) {
        step("rust-src: present");
    } else {
        step("rust-src: asking rustup");
        // Without the limit an unreachable server would hold us for minutes.
        run(workspace
            .rust_tool("timeout")
            .args(["120", "rustup", "component", "add", "rust-src"]))?;
        if !is_library(&library) {
            bail!("rustup installed it, but {} has no core/Cargo.toml", library.display());
        }
    }
    Ok(RustSrc { library, rustc: None })
}

fn from_debian(workspace: &Workspace, rustc: &Rustc, cache: &Path) -> Result<RustSrc> {
    let sysroot = cache.join(format!("debian-sysroot-{}", rustc.release));
    let library = sysroot.join(IN_SYSROOT);
    if is_library(&library) {
        step("rust-src: present (Debian's)");
    } else {
        step(&format!("rust-src: fetching {} from Debian", rustc.release));
        fetch_from_debian(workspace, rustc, cache, &library)?;
    }
    let rustc = shadow(rustc, &sysroot)?;
    Ok(RustSrc {
        library,
        rustc: Some(rustc),
    })
}

/// Makes `folder` a sysroot that has everything of the real one but its source, and returns a compiler that lives in it.
///
/// Cargo hashes core's folder, relative to the sysroot, into every symbol's name. So the source must be inside of a sysroot,
/// or the bytes would depend on where the cache is; and writing into rustup's own would trip a later rustup.
fn shadow(rustc: &Rustc, folder: &Path) -> Result<PathBuf> {
    link_entries(&rustc.sysroot.join("lib"), &folder.join("lib"), "rustlib")?;
    link_entries(&rustc.sysroot.join("lib/rustlib"), &folder.join("lib/rustlib"), "src")?;
    let wrapper = folder.join("rustc");
    let text = format!(
        "#!/bin/sh\nexec '{}' --sysroot '{}' \"$@\"\n",
        rustc.sysroot.join("bin/rustc").display(),
        folder.display()
    );
    // Written only when it is new: cargo rebuilds everything after the compiler's time has changed.
    if fs::read_to_string(&wrapper).is_ok_and(|found| found == text) {
        return Ok(wrapper);
    }
    fs::write(&wrapper, text).with_context(|| format!("could not write {}", wrapper.display()))?;
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("could not make {} executable", wrapper.display()))?;
    Ok(wrapper)
}

fn link_entries(from: &Path, to: &Path, without: &str) -> Result<()> {
    for entry in fs::read_dir(from).with_context(|| format!("could not list {}", from.display()))? {
        let path = entry
            .with_context(|| format!("could not list {}", from.display()))?
            .path();
        match path.file_name() {
            Some(name) if name != without => replace_link(&path, &to.join(name))?,
            _ => {}
        }
    }
    Ok(())
}

fn fetch_from_debian(workspace: &Workspace, rustc: &Rustc, cache: &Path, library: &Path) -> Result<()> {
    let apt = Apt::prepare(cache)?;
    run(apt.command("apt-get").args(["-qq", "update"]))?;
    let listed = output_of(apt.command("apt-cache").args(["madison", "rust-src"]))?;
    let version = package_version(&listed, &rustc.release).with_context(|| {
        format!(
            "Debian has no rust-src {}: run `rustup component add rust-src` where rustup works",
            rustc.release
        )
    })?;
    run(apt
        .command("apt-get")
        .args(["-qq", "download", &format!("rust-src={version}")])
        .current_dir(&apt.folder))?;
    let package = only_entry(&apt.folder, ".deb")?;
    let unpacked = apt.folder.join("unpacked");
    run(workspace.rust_tool("dpkg-deb").arg("-x").args([&package, &unpacked]))?;
    let source = only_entry(&unpacked.join("usr/src"), "")?.join("library");
    if !is_library(&source) {
        bail!("Debian's package has no library/core/Cargo.toml");
    }
    let folder = library.parent().context("the library has no parent folder")?;
    fs::create_dir_all(folder).with_context(|| format!("could not create {}", folder.display()))?;
    // Moved in one step and last, so that an interrupted set-up is done again.
    fs::rename(&source, library).with_context(|| format!("could not move {}", source.display()))?;
    fs::remove_dir_all(&apt.folder).with_context(|| format!("could not remove {}", apt.folder.display()))
}

fn is_library(folder: &Path) -> bool {
    folder.join("core/Cargo.toml").exists()
}

/// The first version of `apt-cache madison`'s rows (`package | version | where`) that is of this release.
fn package_version<'a>(listed: &'a str, release: &str) -> Option<&'a str> {
    listed
        .lines()
        .filter_map(|line| line.split('|').nth(1).map(str::trim))
        .find(|version| version.split(['+', '-', '~']).next() == Some(release))
}

/// An apt of its own: its lists and sources are in a folder of ours, so that the machine's stay as they are.
struct Apt {
    folder: PathBuf,
}

impl Apt {
    fn prepare(cache: &Path) -> Result<Self> {
        let repository = debian_repository()?;
        let folder = cache.join("apt");
        for part in ["lists/partial", "cache/archives/partial"] {
            let part = folder.join(part);
            fs::create_dir_all(&part).with_context(|| format!("could not create {}", part.display()))?;
        }
        let sources: String = SUITES
            .iter()
            .map(|suite| format!("deb {repository} {suite} main\n"))
            .collect();
        let path = folder.join("sources.list");
        fs::write(&path, sources).with_context(|| format!("could not write {}", path.display()))?;
        Ok(Self { folder })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let folder = self.folder.display();
        command.args(["-o", "Dir::Etc::sourceparts=/dev/null", "-o", "Acquire::Languages=none"]);
        command.args(["-o", &format!("Dir::Etc::sourcelist={folder}/sources.list")]);
        command.args([
            "-o",
            &format!("Dir::State::Lists={folder}/lists"),
            "-o",
            &format!("Dir::Cache={folder}/cache"),
        ]);
        command
    }
}

/// The mirror that this machine's own apt uses, so that proxies and mirrors keep working.
fn debian_repository() -> Result<String> {
    let listed =
        output_of(Command::new("apt-get").args(["indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]))?;
    listed
        .lines()
        .find(|uri| uri.trim_end_matches('/').ends_with("/debian") && !uri.contains("security"))
        .map(str::to_owned)
        .context("this machine's apt knows no Debian mirror: run `rustup component add rust-src` where rustup works")
}

fn only_entry(folder: &Path, suffix: &str) -> Result<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(folder)
        .with_context(|| format!("could not list {}", folder.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.to_string_lossy().ends_with(suffix))
        .collect();
    match (found.pop(), found.is_empty()) {
        (Some(path), true) => Ok(path),
        _ => bail!("expected one *{suffix} in {}", folder.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_package_of_exactly_this_release_is_taken() {
        let listed = "rust-src | 1.85.0+dfsg3-1 | trixie\n rust-src | 1.95.0+dfsg1-1~bpo13+1 | trixie-backports";
        assert_eq!(package_version(listed, "1.95.0"), Some("1.95.0+dfsg1-1~bpo13+1"));
        assert_eq!(package_version(listed, "1.95"), None);
        assert_eq!(package_version(listed, "1.9"), None);
    }
}
