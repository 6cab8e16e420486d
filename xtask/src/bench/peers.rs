//! Installs what the benchmarks compare with, from Debian's and npm's packages; what is there is not touched.

use crate::machine;
use crate::run::{Workspace, run, step};
use anyhow::{Context, Result, bail};
use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Command;

/// A program, and the Debian package that brings it.
const PROGRAMS: [(&str, &str); 3] = [
    ("/usr/sbin/nginx", "nginx"),
    ("/usr/sbin/haproxy", "haproxy"),
    ("/usr/bin/gunicorn", "gunicorn"),
];

/// PM2 has a folder of its own, so that the tests need not install it.
const PACKAGES: &str = "tests/servers/bench-peers";

/// Debian asks this program whether an installation may start a service.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Installs what is missing, and lets none of it start as a service.
///
/// # Errors
/// Names what is missing where there is no apt; when apt or npm fails.
pub(crate) fn install(workspace: &Workspace) -> Result<()> {
    machine::install_packages(workspace, PACKAGES)?;
    let missing: Vec<&str> = PROGRAMS
        .into_iter()
        .filter(|(program, _)| !Path::new(program).exists())
        .map(|(_, package)| package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !machine::is_on_path("apt-get") {
        bail!(
            "the benchmarks compare with {}, which this machine lacks, and it has no apt-get: install them with its own package manager",
            missing.join(", ")
        );
    }
    step(&format!("installing {}", missing.join(", ")));
    let _no_services = NoServices::begin()?;
    run(Command::new("apt-get").args(["-qq", "update"]))?;
    run(Command::new("apt-get")
        .args(["-qq", "-y", "--no-install-recommends", "install"])
        .args(missing)
        .env("DEBIAN_FRONTEND", "noninteractive"))
}

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
