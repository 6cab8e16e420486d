//! Running other programs: each is shown before it runs, each failure names the command.

use anyhow::{Context, Result, bail};
use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, PipeReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// How long a program's output may go on after the program has ended: only what it left running can still write.
const AFTER_THE_END: Duration = Duration::from_secs(2);

/// The checkout that the chores work on.
#[derive(Debug)]
pub(crate) struct Workspace {
    /// The folder of the root Cargo.toml, absolute and without symbolic links: the compiler sees this name.
    pub(crate) root: PathBuf,
}

impl Workspace {
    /// The checkout whose `cargo xtask` this is. Cargo's word at run time goes first: a copied `target/` was compiled elsewhere.
    pub(crate) fn locate() -> Result<Self> {
        let manifest = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let parent = Path::new(&manifest).parent().context("xtask's folder has no parent")?;
        let root = parent
            .canonicalize()
            .with_context(|| format!("no checkout at {}", parent.display()))?;
        Ok(Self { root })
    }

    /// A program of the Rust toolchain, run in the root so that rust-toolchain.toml decides which one, and without what
    /// `cargo run`, `cargo +other` or the person's shell would make it do differently.
    pub(crate) fn rust_tool(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.root);
        for (name, _) in std::env::vars_os() {
            if disturbs_a_build(&name) {
                command.env_remove(name);
            }
        }
        command
    }
}

/// Says which inherited variables would change what a nested cargo or rustc does.
fn disturbs_a_build(name: &OsStr) -> bool {
    const NAMES: [&str; 14] = [
        "CARGO",
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_INCREMENTAL",
        "CARGO_MANIFEST_DIR",
        "CARGO_MANIFEST_PATH",
        "CARGO_PRIMARY_PACKAGE",
        "CARGO_TARGET_DIR",
        "RUSTC",
        "RUSTC_BOOTSTRAP",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTC_WRAPPER",
        "RUSTFLAGS",
        "RUSTUP_TOOLCHAIN",
        "SOURCE_DATE_EPOCH",
    ];
    const PREFIXES: [&str; 5] = [
        "CARGO_BUILD_",
        "CARGO_PKG_",
        "CARGO_PROFILE_",
        "CARGO_TARGET_",
        "CARGO_UNSTABLE_",
    ];
    name.to_str()
        .is_some_and(|name| NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix)))
}

/// Says what happens next, on one line that stands out from the output of the programs.
pub(crate) fn step(what: &str) {
    eprintln!("==> {what}");
}

/// Runs a program to its end, its output on the terminal.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = shown(command);
    eprintln!("    $ {shown}");
    let status = command.status().with_context(|| format!("could not start `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` failed: {status}");
    }
    Ok(())
}

/// Runs a program to its end and returns what it wrote to its standard output, without the last newline.
pub(crate) fn output_of(command: &mut Command) -> Result<String> {
    let shown = shown(command);
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("could not start `{shown}`"))?;
    if !output.status.success() {
        bail!(
            "`{shown}` failed: {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
    }
    let text = String::from_utf8(output.stdout).with_context(|| format!("`{shown}` did not write UTF-8"))?;
    Ok(text.trim_end().to_owned())
}

/// A program that came to its end, and the lines that it and everything under it wrote.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) status: ExitStatus,
    pub(crate) lines: Vec<String>,
}

/// Runs a program to its end, its two outputs on our standard output, and keeps them; a failure of the program is no error here.
///
/// # Errors
/// When it can't be started.
pub(crate) fn run_and_keep(mut command: Command) -> Result<Kept> {
    let shown = shown(&command);
    eprintln!("    $ {shown}");
    let (reader, writer) = std::io::pipe().context("pipe")?;
    command.stdout(writer.try_clone().context("duplicate a pipe's end")?);
    command.stderr(writer);
    let mut child = command.spawn().with_context(|| format!("could not start `{shown}`"))?;
    // It holds the pipe's other end, and so would keep it open.
    drop(command);
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || show_and_send(reader, &sender));
    let status = child.wait().with_context(|| format!("could not wait for `{shown}`"))?;
    let mut lines = Vec::new();
    loop {
        match receiver.recv_timeout(AFTER_THE_END) {
            Ok(line) => lines.push(line),
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                step("the program has ended, but something that it started still runs and holds its output");
                break;
            }
        }
    }
    Ok(Kept { status, lines })
}

fn show_and_send(reader: PipeReader, sender: &mpsc::Sender<String>) {
    let mut reader = BufReader::new(reader);
    let mut bytes = Vec::new();
    while reader.read_until(b'\n', &mut bytes).is_ok_and(|length| length > 0) {
        // A closed standard output is no reason to leave the program without a reader.
        let mut output = std::io::stdout();
        drop(output.write_all(&bytes).and_then(|()| output.flush()));
        let line = String::from_utf8_lossy(&bytes).trim_end().to_owned();
        if sender.send(line).is_err() {
            return;
        }
        bytes.clear();
    }
}

/// Becomes the program.
///
/// # Errors
/// When it can't be started; else this does not return.
pub(crate) fn exec(command: &mut Command) -> Result<()> {
    let shown = shown(command);
    eprintln!("    $ {shown}");
    Err(command.exec()).with_context(|| format!("could not start `{shown}`"))
}

fn shown(command: &Command) -> String {
    let words: Vec<OsString> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(OsStr::to_owned)
        .collect();
    words.join(OsStr::new(" ")).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nested_build_keeps_the_persons_cargo_home_and_network_settings() {
        for kept in [
            "CARGO_HOME",
            "RUSTUP_HOME",
            "CARGO_HTTP_PROXY",
            "CARGO_NET_OFFLINE",
            "PATH",
        ] {
            assert!(!disturbs_a_build(OsStr::new(kept)), "{kept}");
        }
    }

    #[test]
    fn both_outputs_are_kept_in_order_and_a_failure_is_told() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo one; echo two >&2; echo three; exit 7"]);
        let kept = run_and_keep(command).expect("sh starts");
        assert_eq!(kept.lines, ["one", "two", "three"]);
        assert_eq!(kept.status.code(), Some(7));
    }

    #[test]
    fn what_a_program_leaves_running_does_not_hold_us() {
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 20 & echo done"]);
        let started = std::time::Instant::now();
        let kept = run_and_keep(command).expect("sh starts");
        assert_eq!(kept.lines, ["done"]);
        assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    }

    #[test]
    fn a_nested_build_loses_what_cargo_run_and_the_shell_add() {
        for lost in [
            "CARGO",
            "RUSTUP_TOOLCHAIN",
            "RUSTFLAGS",
            "CARGO_PKG_NAME",
            "CARGO_PROFILE_RELEASE_LTO",
        ] {
            assert!(disturbs_a_build(OsStr::new(lost)), "{lost}");
        }
    }
}
