//! Errors of the BPF side.

use std::{io, path::PathBuf};

use aya::{EbpfError, maps::MapError, programs::ProgramError};
use thiserror::Error;

/// An error from loading, attaching or using the programs.
#[derive(Debug, Error)]
pub enum BpfError {
    /// The object's maps could not be created.
    #[error("the kernel refused the BPF maps: {}", chain(source))]
    Load {
        /// The error of the kernel or of aya.
        source: Box<EbpfError>,
    },
    /// A program was refused, or could not be attached.
    #[error("the kernel refused to {action} the BPF program {program}: {}", chain(source))]
    Program {
        /// `load` or `attach`.
        action: &'static str,
        /// The program's name.
        program: &'static str,
        /// The kernel's error.
        source: Box<ProgramError>,
    },
    /// The output of a program could not be read.
    #[error("what the BPF program {program} tells could not be read: {source}")]
    Unreadable {
        /// The program's name.
        program: &'static str,
        /// The kernel's error.
        source: io::Error,
    },
    /// Connections can't be listed on this kernel, for this reason.
    #[error("{0}")]
    Blind(String),
    /// A map could not be read or written.
    #[error("the BPF map {map} could not be used: {}", chain(source))]
    Map {
        /// The map's name.
        map: &'static str,
        /// The kernel's error.
        source: Box<MapError>,
    },
    /// The object lacks this map or program: it does not belong to this binary.
    #[error("the embedded BPF object has no {0}")]
    Missing(&'static str),
    /// A cgroup below the app's could not be created or opened.
    #[error("cgroup {}: {source}", path.display())]
    Cgroup {
        /// The path, absolute or relative to the app's cgroup.
        path: PathBuf,
        /// The kernel's error.
        source: io::Error,
    },
    /// The folder for pins could not be created.
    #[error("{}: {source}", path.display())]
    Pins {
        /// The path of the folder.
        path: PathBuf,
        /// The kernel's error.
        source: io::Error,
    },
}

impl BpfError {
    /// Whether a listener could not be put into an array because it is in one already.
    pub fn is_busy(&self) -> bool {
        let Self::Map { source, .. } = self else { return false };
        matches!(&**source, MapError::SyscallError(error) if error.io_error.raw_os_error() == Some(libc::EBUSY))
    }
}

/// The error and its causes on one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    on_one_line(&text)
}

/// A verifier log has hundreds of lines. The last line before the statistics says what was refused.
fn on_one_line(text: &str) -> String {
    let (what, log) = text.split_once("Verifier output:").unwrap_or((text, ""));
    let what = what.lines().next().unwrap_or_default().trim();
    let is_reason = |line: &&str| {
        !line.trim().is_empty()
            && !["processed ", "verification time ", "stack depth "]
                .iter()
                .any(|start| line.starts_with(start))
    };
    match log.lines().rfind(is_reason) {
        Some(reason) => format!("{what} The verifier says: {}", reason.trim()),
        None => what.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::on_one_line;

    #[test]
    fn of_a_verifiers_log_the_reason_is_shown() {
        let refused = "the BPF_PROG_LOAD syscall returned Permission denied (os error 13). Verifier output: \
             0: R1=ctx(off=0,imm=0) R10=fp0\n0: (85) call bpf_get_socket_cookie#46\n\
             program of this type cannot use helper bpf_get_socket_cookie#46\n\
             verification time 28 usec\nstack depth 0\nprocessed 1 insns (limit 1000000)\n";
        assert_eq!(
            on_one_line(refused),
            "the BPF_PROG_LOAD syscall returned Permission denied (os error 13). \
             The verifier says: program of this type cannot use helper bpf_get_socket_cookie#46"
        );
        assert_eq!(
            on_one_line("Operation not permitted\nand more"),
            "Operation not permitted"
        );
    }
}
