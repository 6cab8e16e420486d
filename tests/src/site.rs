//! A folder with a `reuse.toml`, and what people do with it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::app::controller_command;
use crate::binaries::{node24, python};
use crate::run::{self, Output};
use crate::scratch::Scratch;

/// How long any one call may take.
const LIMIT: Duration = Duration::from_secs(90);

/// The folder, and apps whose names no other test has.
#[derive(Debug)]
pub struct Site {
    scratch: Scratch,
    number: u32,
}

impl Site {
    /// A folder without a file.
    #[expect(clippy::new_without_default, reason = "making a folder is not a default value")]
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        Self {
            scratch: Scratch::new(),
            number: NUMBER.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// A folder with this file: see [`Site::file`].
    pub fn of(text: &str) -> Self {
        let site = Self::new();
        site.file(text);
        site
    }

    /// What `NAME(app)` means in the file.
    pub fn name(&self, app: &str) -> String {
        format!("t-site-{}-{}-{app}", std::process::id(), self.number)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.scratch.path()
    }

    /// Writes another file.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        self.scratch.write(name, text)
    }

    /// Copies a program into it.
    pub fn copy_program(&self, from: &Path, name: &str) -> PathBuf {
        self.scratch.copy_program(from, name)
    }

    /// Writes another file that can be run.
    pub fn write_executable(&self, name: &str, text: &str) -> PathBuf {
        self.scratch.write_executable(name, text)
    }

    /// Writes the file, with `NAME(x)`, `NODE` and `PYTHON` replaced.
    pub fn file(&self, text: &str) -> PathBuf {
        let mut text = text.replace("NODE", &node24()).replace("PYTHON", &python());
        while let Some(at) = text.find("NAME(") {
            let end = at + text[at..].find(')').expect("NAME(x)");
            let name = self.name(&text[at + 5..end]);
            text.replace_range(at..=end, &name);
        }
        self.write("reuse.toml", &text)
    }

    /// `reuse-ctl` in a folder that is not the file's; `FILE` stands for that.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let file = self.path().join("reuse.toml");
        let mut command = controller_command();
        command.args(arguments.iter().map(|argument| {
            if *argument == "FILE" {
                file.as_os_str()
            } else {
                argument.as_ref()
            }
        }));
        command.current_dir("/");
        command
    }

    /// Runs that to its end.
    #[track_caller]
    pub fn ctl(&self, arguments: &[&str]) -> Output {
        run::to_end(&mut self.command(arguments), LIMIT)
    }

    /// `reuse-ctl apply -f FILE` with further options.
    #[track_caller]
    pub fn apply(&self, options: &[&str]) -> Output {
        self.ctl(&[&["apply", "-f", "FILE"], options].concat())
    }
}
