//! The first process of a virtual machine of the tests ([`reuse_tests::machine`]): sets the machine up, runs the scenario that the
//! kernel's command line names, and switches the machine off.

mod scenarios;

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::Context as _;
use nix::kmod::{ModuleInitFlags, finit_module};
use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};
use reuse_tests::machine::SUCCEEDED;

fn main() -> ExitCode {
    if std::process::id() != 1 {
        let scenario = std::env::args().nth(1).unwrap_or_default();
        return if scenarios::run(&scenario) {
            ExitCode::SUCCESS
        } else {
            eprintln!("guest: no scenario {scenario:?}");
            ExitCode::FAILURE
        };
    }
    match boot() {
        Ok(true) => println!("{SUCCEEDED}"),
        Ok(false) => println!("guest: the scenario failed"),
        Err(error) => println!("guest: {error:#}"),
    }
    // Nothing is on a disk. This returns only when it fails, and then the end of the first process ends the machine, too.
    let Err(error) = reboot(RebootMode::RB_POWER_OFF);
    println!("guest: switching off: {error}");
    ExitCode::FAILURE
}

/// Whether the scenario succeeded.
fn boot() -> anyhow::Result<bool> {
    for (kind, place) in [
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("devtmpfs", "/dev"),
        ("tmpfs", "/tmp"),
        ("tmpfs", "/run"),
        ("cgroup2", "/sys/fs/cgroup"),
        ("bpf", "/sys/fs/bpf"),
    ] {
        mount_at(kind, place, None)?;
    }
    if let Ok(controllers) = std::env::var("in_cgroup_v1") {
        fs::create_dir("/tmp/v1").context("mkdir /tmp/v1")?;
        mount_at("cgroup", "/tmp/v1", Some(&controllers))?;
    }
    load_modules()?;
    let scenario = std::env::var("scenario").context("no scenario on the kernel's command line")?;
    // Processes that lose their parent become children of this one. They stay as zombies: the machine does not live long.
    let status = Command::new("/bin/reuse-guest")
        .arg(scenario)
        .env("PATH", "/bin")
        .env("REUSE_CTL_BIN", "/bin/reuse-ctl")
        .env("RUST_BACKTRACE", "0")
        .status()
        .context("start the scenario")?;
    Ok(status.success())
}

fn mount_at(kind: &str, place: &str, options: Option<&str>) -> anyhow::Result<()> {
    mount(Some(kind), place, Some(kind), MsFlags::empty(), options).with_context(|| format!("mount {kind} at {place}"))
}

/// In the order of their names.
fn load_modules() -> anyhow::Result<()> {
    let mut paths = Vec::new();
    for entry in fs::read_dir("/modules").context("read /modules")? {
        paths.push(entry.context("read /modules")?.path());
    }
    paths.sort();
    for path in paths {
        load(&path).with_context(|| format!("load {}", path.display()))?;
    }
    Ok(())
}

fn load(path: &Path) -> anyhow::Result<()> {
    let is_compressed = path.extension().is_some_and(|extension| extension != "ko");
    let flags = if is_compressed {
        // MODULE_INIT_COMPRESSED_FILE of Linux 5.17, which nix does not know.
        ModuleInitFlags::from_bits_retain(4)
    } else {
        ModuleInitFlags::empty()
    };
    Ok(finit_module(&File::open(path)?, c"", flags)?)
}
