//! What "deploying a new version" is in the tests: a script at a fixed path, rewritten before `reload`.

use std::path::PathBuf;

use crate::scratch::Scratch;

/// An executable script whose content is the version.
#[derive(Debug)]
pub struct Launcher {
    scratch: Scratch,
}

impl Launcher {
    /// The first version: a shell command line; `exec` is put before it, so that the server is the main process.
    pub fn new(command_line: &str) -> Self {
        let launcher = Self {
            scratch: Scratch::new(),
        };
        launcher.deploy(command_line);
        launcher
    }

    /// Replaces the version; running workers keep the one that they were started with.
    pub fn deploy(&self, command_line: &str) {
        self.scratch
            .write_executable("server", &format!("#!/bin/sh\nexec {command_line}\n"));
    }

    /// What to give to `run`.
    pub fn command(&self) -> String {
        self.path().to_str().expect("a plain path").to_owned()
    }

    fn path(&self) -> PathBuf {
        self.scratch.path().join("server")
    }
}
