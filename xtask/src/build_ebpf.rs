//! `cargo xtask build-ebpf`: from the Rust source of the BPF programs to the committed object.
//!
//! The bytes depend on the source and on the pinned toolchain only: folder names are mapped to fixed ones, and the DWARF,
//! which nobody loads, is taken out. So `--check` can prove that the committed object comes from the committed source.

use crate::run::{Workspace, run, step};
use crate::toolchain::Toolchain;
use anyhow::{Context, Result, bail};
use aya_obj::Object;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// The committed object, from the root.
const COMMITTED: &str = "reuse-ctl/src/bpf/reuse.bpf.o";
const TARGET: &str = "bpfel-unknown-none";
const PROFILE: &str = "ebpf";
/// The kernel's structures differ between architectures where a program reads registers; ours reads none yet.
const KERNEL_ARCHITECTURE: &str = "x86_64";

/// What to build, and whether to keep it.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Build into a temporary place and fail when the committed object has other bytes.
    #[arg(long)]
    pub(crate) check: bool,
}

/// Builds the object; puts it at its committed place, or compares it with what is there.
///
/// # Errors
/// Names the step that failed; with `--check` also says how to commit the right bytes.
pub(crate) fn perform(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    let toolchain = Toolchain::set_up(workspace)?;
    let built = build(workspace, &toolchain)?;
    let bytes = fs::read(&built).with_context(|| format!("could not read {}", built.display()))?;
    describe(&bytes)?;
    let committed = workspace.root.join(COMMITTED);
    if arguments.check {
        compare(&committed, &bytes, &built)?;
        step(&format!(
            "{COMMITTED} is what the source builds ({} bytes)",
            bytes.len()
        ));
    } else {
        fs::write(&committed, &bytes).with_context(|| format!("could not write {}", committed.display()))?;
        step(&format!("wrote {COMMITTED} ({} bytes)", bytes.len()));
    }
    Ok(())
}

/// Compiles, links and strips; returns where the object is.
fn build(workspace: &Workspace, toolchain: &Toolchain) -> Result<PathBuf> {
    step("compiling reuse-ebpf");
    // The folder of unpacked crates is there only after they were fetched, and its name goes into the flags.
    run(workspace.rust_tool("cargo").args(["fetch", "--quiet", "--locked"]))?;
    let target_folder = workspace.root.join("target/ebpf");
    let mut cargo = workspace.rust_tool("cargo");
    cargo
        .args([
            "build",
            "--locked",
            "--package",
            "reuse-ebpf",
            "--profile",
            PROFILE,
            "--target",
            TARGET,
        ])
        .args(["-Z", "build-std=core", "--target-dir"])
        .arg(&target_folder)
        // -Z on the pinned stable compiler: core for this target is not shipped built.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", &toolchain.linker)
        .env(
            "CARGO_ENCODED_RUSTFLAGS",
            rust_flags(workspace, toolchain)?.join(&OsString::from("\x1f")),
        );
    if let Some(rustc) = &toolchain.rust_src.rustc {
        cargo.env("RUSTC", rustc);
    }
    run(&mut cargo)?;

    step("taking the DWARF out (.BTF and .BTF.ext stay)");
    let folder = target_folder.join(TARGET).join(PROFILE);
    let stripped = folder.join("reuse.bpf.o");
    run(workspace
        .rust_tool(&toolchain.objcopy.to_string_lossy())
        .arg("--strip-debug")
        .args([folder.join("reuse"), stripped.clone()])
        .env("LD_LIBRARY_PATH", &toolchain.library_path))?;
    Ok(stripped)
}

fn rust_flags(workspace: &Workspace, toolchain: &Toolchain) -> Result<Vec<OsString>> {
    let mut flags: Vec<OsString> = vec![
        // v3: 32-bit arithmetic and atomic operations that return the old value.
        "-Ctarget-cpu=v3".into(),
        "-Cdebuginfo=2".into(),
        "-Clink-arg=--btf".into(),
        format!("--cfg=bpf_target_arch=\"{KERNEL_ARCHITECTURE}\"").into(),
        remap(&toolchain.rust_src.library, "/rust"),
        remap(&workspace.root, "/reuse-ctl"),
    ];
    for folder in crate_folders()? {
        flags.push(remap(&folder, "/deps"));
    }
    Ok(flags)
}

fn remap(from: &Path, to: &str) -> OsString {
    let mut flag = OsString::from("--remap-path-prefix=");
    flag.push(from);
    flag.push("=");
    flag.push(to);
    flag
}

/// Cargo's folders of unpacked crates, one for each registry that was ever used.
fn crate_folders() -> Result<Vec<PathBuf>> {
    let home = match std::env::var_os("CARGO_HOME") {
        Some(home) => PathBuf::from(home),
        None => PathBuf::from(std::env::var_os("HOME").context("neither CARGO_HOME nor HOME is set")?).join(".cargo"),
    };
    let sources = home.join("registry/src");
    let mut folders: Vec<PathBuf> = fs::read_dir(&sources)
        .with_context(|| format!("could not list {}", sources.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    folders.sort();
    Ok(folders)
}

/// Parses the object as the controller's loader will, and lists what is in it.
fn describe(bytes: &[u8]) -> Result<()> {
    let object = Object::parse(bytes).context("the loader can't parse the object that was built")?;
    if object.btf.is_none() {
        bail!("the object that was built has no .BTF");
    }
    if object.programs.is_empty() {
        bail!("the object that was built has no programs");
    }
    let mut programs: Vec<&str> = object.programs.keys().map(String::as_str).collect();
    programs.sort_unstable();
    let mut maps: Vec<&str> = object.maps.keys().map(String::as_str).collect();
    maps.sort_unstable();
    step(&format!("programs: {}; maps: {}", programs.join(" "), maps.join(" ")));
    Ok(())
}

fn compare(committed: &Path, built: &[u8], built_path: &Path) -> Result<()> {
    let found = fs::read(committed)
        .with_context(|| format!("could not read {COMMITTED}: run `cargo xtask build-ebpf` and commit it"))?;
    if found == built {
        return Ok(());
    }
    let differs_at = found
        .iter()
        .zip(built)
        .position(|(left, right)| left != right)
        .unwrap_or(found.len().min(built.len()));
    bail!(
        "{COMMITTED} is not what the source builds: {} bytes committed, {} built, first difference at {differs_at}\n\
         run `cargo xtask build-ebpf` and commit the object with the source (what was built is at {})",
        found.len(),
        built.len(),
        built_path.display()
    );
}
