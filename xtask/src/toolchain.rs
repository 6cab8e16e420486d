//! Sets up what compiles Rust to BPF: the pinned rustc, the core library's source, and a bpf-linker that is linked against
//! that rustc's own libLLVM. Linker and compiler must read the same bitcode, and so no LLVM package is needed.
//!
//! Everything is kept in one cache folder, each step is printed, and a step that is done is not done again.

use crate::run::{Workspace, output_of, run, step};
use crate::rust_src::{self, RustSrc};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};

const LINKER_VERSION: &str = "0.13.0";

/// Where the tools are.
#[derive(Debug)]
pub(crate) struct Toolchain {
    /// bpf-linker.
    pub(crate) linker: PathBuf,
    /// The core library's source.
    pub(crate) rust_src: RustSrc,
    /// The toolchain's own llvm-objcopy; needs `library_path`.
    pub(crate) objcopy: PathBuf,
    /// The folder of rustc's libLLVM.
    pub(crate) library_path: PathBuf,
}

/// What the pinned rustc says of itself.
#[derive(Debug)]
pub(crate) struct Rustc {
    /// For example 1.95.0.
    pub(crate) release: String,
    /// For example 22.
    pub(crate) llvm_major: String,
    /// The commit that it was built from: two nightlies share a release, not a commit.
    pub(crate) commit: String,
    /// The target that it runs on.
    pub(crate) host: String,
    /// Its folder, as rustc names it: cargo builds the names of core's files from this very text.
    pub(crate) sysroot: PathBuf,
}

impl Toolchain {
    /// Makes sure that every part is there and says where.
    ///
    /// # Errors
    /// Names the step that failed; what was done before it stays done.
    pub(crate) fn set_up(workspace: &Workspace) -> Result<Self> {
        let rustc = Rustc::pinned(workspace)?;
        let cache = cache_folder()?;
        step(&format!(
            "rustc {}, LLVM {}, tools in {}",
            rustc.release,
            rustc.llvm_major,
            cache.display()
        ));
        let rust_src = rust_src::set_up(workspace, &rustc, &cache)?;
        let linker = set_up_linker(workspace, &rustc, &cache)?;
        let objcopy = rustc
            .sysroot
            .join("lib/rustlib")
            .join(&rustc.host)
            .join("bin/rust-objcopy");
        if !objcopy.exists() {
            bail!("{} is missing: reinstall the toolchain with rustup", objcopy.display());
        }
        Ok(Self {
            linker,
            rust_src,
            objcopy,
            library_path: rustc.sysroot.join("lib"),
        })
    }
}

impl Rustc {
    fn pinned(workspace: &Workspace) -> Result<Self> {
        let text = output_of(workspace.rust_tool("rustc").arg("-vV"))?;
        let sysroot = output_of(workspace.rust_tool("rustc").args(["--print", "sysroot"]))?;
        let rustc = Self {
            release: field(&text, "release")?.to_owned(),
            llvm_major: field(&text, "LLVM version")?
                .split('.')
                .next()
                .unwrap_or_default()
                .to_owned(),
            commit: field(&text, "commit-hash")?.to_owned(),
            host: field(&text, "host")?.to_owned(),
            sysroot: Path::new(&sysroot)
                .canonicalize()
                .with_context(|| format!("no sysroot at {sysroot}"))?,
        };
        let pin = pinned_release(&workspace.root)?;
        if rustc.release != pin {
            bail!(
                "rustc is {}, the BPF object needs {pin}: install rustup, which reads rust-toolchain.toml",
                rustc.release
            );
        }
        Ok(rustc)
    }
}

fn field<'a>(version: &'a str, name: &str) -> Result<&'a str> {
    version
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
        .with_context(|| format!("`rustc -vV` has no line `{name}:`"))
}

fn pinned_release(root: &Path) -> Result<String> {
    let path = root.join("rust-toolchain.toml");
    let text = fs::read_to_string(&path).with_context(|| format!("could not read {}", path.display()))?;
    text.lines()
        .find_map(|line| Some(line.strip_prefix("channel = \"")?.strip_suffix('"')?.to_owned()))
        .with_context(|| format!("no channel in {}", path.display()))
}

fn cache_folder() -> Result<PathBuf> {
    let base = match std::env::var_os("XDG_CACHE_HOME") {
        Some(folder) => PathBuf::from(folder),
        None => {
            PathBuf::from(std::env::var_os("HOME").context("neither XDG_CACHE_HOME nor HOME is set")?).join(".cache")
        }
    };
    let cache = base.join("reuse-ctl/ebpf-toolchain");
    fs::create_dir_all(&cache).with_context(|| format!("could not create {}", cache.display()))?;
    Ok(cache)
}

fn set_up_linker(workspace: &Workspace, rustc: &Rustc, cache: &Path) -> Result<PathBuf> {
    let linker = cache.join("bin/bpf-linker");
    let stamp = cache.join("bpf-linker.stamp");
    let wanted = format!("{LINKER_VERSION} {} {}\n", rustc.commit, rustc.sysroot.display());
    if fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) && linker.exists() {
        step("bpf-linker: present");
        return Ok(linker);
    }
    step(&format!(
        "bpf-linker {LINKER_VERSION}: building it against rustc's libLLVM (about two minutes, once)"
    ));
    let prefix = cache.join("llvm");
    link_llvm(rustc, &prefix)?;
    // --force: a linker of the same version may be there that was built against another rustc's libLLVM.
    run(workspace
        .rust_tool("cargo")
        .args([
            "install",
            "--quiet",
            "--locked",
            "--force",
            "bpf-linker",
            "--version",
            LINKER_VERSION,
        ])
        .args([
            "--no-default-features",
            "--features",
            &format!("llvm-{}", rustc.llvm_major),
        ])
        .arg("--root")
        .arg(cache)
        .env("CARGO_TARGET_DIR", cache.join("build"))
        .env("LLVM_PREFIX", &prefix)
        .env(
            "RUSTFLAGS",
            format!("-C link-arg=-Wl,-rpath,{}", rustc.sysroot.join("lib").display()),
        ))?;
    let version = output_of(workspace.rust_tool(&linker.to_string_lossy()).arg("--version"))?;
    if !version.contains(LINKER_VERSION) {
        bail!("{} says `{version}`, not {LINKER_VERSION}", linker.display());
    }
    let build = cache.join("build");
    fs::remove_dir_all(&build).with_context(|| format!("could not remove {}", build.display()))?;
    fs::write(&stamp, wanted).with_context(|| format!("could not write {}", stamp.display()))?;
    Ok(linker)
}

/// Makes a folder that looks like an installed LLVM: bpf-linker's build asks for `lib/libLLVM.so` only.
fn link_llvm(rustc: &Rustc, prefix: &Path) -> Result<()> {
    let folder = rustc.sysroot.join("lib");
    let name = format!("libLLVM.so.{}", rustc.llvm_major);
    let library = fs::read_dir(&folder)
        .with_context(|| format!("could not list {}", folder.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| {
            path.file_name()
                .is_some_and(|file| file.to_string_lossy().starts_with(&name))
        })
        .with_context(|| format!("no {name}* in {}", folder.display()))?;
    replace_link(&library, &prefix.join("lib/libLLVM.so"))
}

/// Makes `link` a symbolic link to `target`, also where it was one to something else.
pub(crate) fn replace_link(target: &Path, link: &Path) -> Result<()> {
    let folder = link.parent().context("a link at the root")?;
    fs::create_dir_all(folder).with_context(|| format!("could not create {}", folder.display()))?;
    if link.is_symlink() {
        fs::remove_file(link).with_context(|| format!("could not remove {}", link.display()))?;
    }
    std::os::unix::fs::symlink(target, link).with_context(|| format!("could not create {}", link.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERSION: &str = "rustc 1.95.0 (59807616e 2026-04-14)\nhost: x86_64-unknown-linux-gnu\nLLVM version: 22.1.2";

    #[test]
    fn a_field_of_the_version_is_found_by_its_whole_name() {
        assert_eq!(field(VERSION, "host").ok(), Some("x86_64-unknown-linux-gnu"));
        assert_eq!(field(VERSION, "LLVM version").ok(), Some("22.1.2"));
        assert!(field(VERSION, "release").is_err());
    }

    #[test]
    fn the_pin_is_read_from_this_checkout() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .expect("xtask is inside the workspace");
        let pin = pinned_release(root).expect("rust-toolchain.toml is readable");
        assert_eq!(
            pin.split('.').count(),
            3,
            "{pin} is a full release, so that bytes can be reproduced"
        );
    }
}
