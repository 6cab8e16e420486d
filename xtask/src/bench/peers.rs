//! Installs what the benchmarks compare with, from Debian's and npm's packages; what is there is not touched.

use crate::machine;
use crate::run::{Workspace, step};
use anyhow::{Result, bail};
use std::path::Path;

/// A program, and the Debian package that brings it.
const PROGRAMS: [(&str, &str); 3] = [
    ("/usr/sbin/nginx", "nginx"),
    ("/usr/sbin/haproxy", "haproxy"),
    ("/usr/bin/gunicorn", "gunicorn"),
];

/// Installs what is missing, and lets none of it start as a service.
///
/// # Errors
/// Names what is missing where there is no apt; when apt or npm fails.
pub(crate) fn install(workspace: &Workspace) -> Result<()> {
    machine::install_packages(workspace, machine::PEERS)?;
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
    machine::apt_install(missing)
}
