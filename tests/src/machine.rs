//! A virtual machine with a kernel of its own, for what this machine's kernel, or how it was set up, can't show.
//!
//! Debian's kernel runs under QEMU's software emulation, which works inside any other machine, with an initramfs that has the product, the
//! programs that it needs, and [`reuse-guest`](../guest/main.rs) as its first process. The scenarios are there; this is the outside.

mod archive;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use archive::Archive;

use crate::binaries;
use crate::run::to_end;
use crate::scratch::Scratch;

/// How long a machine may run, from its start to its end. The scenarios have limits of their own, which name what did not come.
const LIMIT: Duration = Duration::from_secs(600);

/// What the guest writes last when all went well.
pub const SUCCEEDED: &str = "guest: succeeded";

/// What the product asks the kernel for, and Debian has as modules; where one is not found it is built in.
const MODULES: [&str; 2] = ["inet_diag", "tcp_diag"];

/// Runs one scenario of `reuse-guest` in a machine of its own, with these words on its kernel's command line.
///
/// # Panics
/// When the scenario fails, or has not ended in time: with all that the machine wrote.
#[track_caller]
pub fn run(scenario: &str, kernel_options: &[&str]) {
    let kernel = Kernel::find();
    let scratch = Scratch::new();
    let initramfs = scratch.path().join("initramfs");
    fs::write(&initramfs, filled(&kernel).finish()).expect("write the initramfs");
    let words = [
        &["console=ttyS0", "loglevel=1", "panic=-1"],
        kernel_options,
        &[&format!("scenario={scenario}")],
    ];
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "1024"])
        .args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"])
        .args(["-serial", "stdio"])
        .arg("-kernel")
        .arg(&kernel.image)
        .arg("-initrd")
        .arg(&initramfs)
        .args(["-append", &words.concat().join(" ")]);
    let output = to_end(&mut qemu, LIMIT).expect_code(0);
    assert!(
        output.stdout.lines().any(|line| line.trim_end() == SUCCEEDED),
        "{scenario} on {} failed:\n{}{}",
        kernel.image.display(),
        output.stdout,
        output.stderr
    );
    // What it measured; shown with --nocapture.
    for line in output.stdout.lines().filter(|line| line.starts_with("guest: ")) {
        println!("{}", line.trim_end());
    }
}

/// A kernel to boot.
struct Kernel {
    image: PathBuf,
    modules: Vec<PathBuf>,
}

impl Kernel {
    /// An unpacked package with a kernel, in `$REUSE_GUEST_KERNEL`, else where `cargo xtask test` puts it.
    fn find() -> Self {
        let folder = std::env::var_os("REUSE_GUEST_KERNEL").map_or_else(
            || binaries::workspace().join("target/guest-kernel/unpacked"),
            PathBuf::from,
        );
        let images = fs::read_dir(folder.join("boot")).into_iter().flatten().flatten();
        let image = images.map(|entry| entry.path()).find(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz-"))
        });
        let image = image.unwrap_or_else(|| {
            panic!(
                "no kernel in {}/boot: `cargo xtask test` fetches one from Debian, or REUSE_GUEST_KERNEL names a folder with boot/vmlinuz-… and lib/modules",
                folder.display()
            )
        });
        let mut modules = Vec::new();
        for name in MODULES {
            modules.extend(
                ["lib/modules", "usr/lib/modules"]
                    .iter()
                    .find_map(|place| find_module(&folder.join(place), name)),
            );
        }
        Self { image, modules }
    }
}

/// `NAME.ko`, or compressed, somewhere below.
fn find_module(folder: &Path, name: &str) -> Option<PathBuf> {
    let entries: Vec<PathBuf> = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path()).collect();
    let is_it = |path: &&PathBuf| {
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        file.strip_prefix(name).is_some_and(|end| end.starts_with(".ko"))
    };
    let folders = || entries.iter().filter(|path| path.is_dir() && !path.is_symlink());
    entries
        .iter()
        .find(is_it)
        .cloned()
        .or_else(|| folders().find_map(|folder| find_module(folder, name)))
}

fn filled(kernel: &Kernel) -> Archive {
    let mut archive = Archive::new();
    archive.console();
    for folder in ["proc", "sys", "tmp", "run", "var/log", "modules"] {
        archive.folder(folder);
    }
    let server = PathBuf::from(binaries::test_server());
    let guest = server.with_file_name("reuse-guest");
    let programs = [
        (guest, "bin/reuse-guest"),
        (server, "bin/reuse-test-server"),
        (binaries::reuse_ctl(), "bin/reuse-ctl"),
        ("/bin/sh".into(), "bin/sh"),
        (binaries::on_path("ip").into(), "bin/ip"),
    ];
    let mut libraries = BTreeSet::new();
    for (program, place) in &programs {
        archive.program(place, &read(program));
        libraries.extend(libraries_of(program));
    }
    for library in &libraries {
        archive.program(library.trim_start_matches('/'), &read(Path::new(library)));
    }
    for (number, module) in kernel.modules.iter().enumerate() {
        let name = module.file_name().expect("found by its name").to_string_lossy();
        archive.program(&format!("modules/{number}-{name}"), &read(module));
    }
    // There is no user database: as in the smallest containers, root is a number.
    archive.link("init", "bin/reuse-guest");
    archive
}

/// The paths of the shared objects that a program is linked with, its loader among them.
fn libraries_of(program: &Path) -> Vec<String> {
    let listed = to_end(Command::new("ldd").arg(program), Duration::from_secs(10));
    let words = listed.stdout.split_whitespace();
    words.filter(|word| word.starts_with('/')).map(str::to_owned).collect()
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
