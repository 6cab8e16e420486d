//! What the translation needs to know about the machine, so that it stays pure.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// What is at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScriptFile {
    /// Nothing.
    Absent,
    /// An executable file: a binary, or a script that names its interpreter.
    Program,
    /// Any other file.
    Text,
    /// A folder.
    Folder,
}

/// What the translation needs to know about the machine.
pub struct Surroundings<'a> {
    /// Number of CPUs.
    pub processors: i64,
    /// Returns what is at a path relative to the ecosystem file's folder.
    pub look: Box<dyn Fn(&Path) -> ScriptFile + 'a>,
}

impl std::fmt::Debug for Surroundings<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Surroundings").finish_non_exhaustive()
    }
}

impl<'a> Surroundings<'a> {
    /// The real machine, for an ecosystem file in `folder`.
    pub fn of(folder: &'a Path) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            processors: i64::try_from(processors).unwrap_or(1),
            look: Box::new(|path| look_at(&folder.join(path))),
        }
    }
}

fn look_at(path: &Path) -> ScriptFile {
    let Ok(metadata) = fs::metadata(path) else {
        return ScriptFile::Absent;
    };
    if metadata.is_dir() {
        return ScriptFile::Folder;
    }
    let mut start = Vec::new();
    if metadata.is_file()
        && let Ok(file) = fs::File::open(path)
        && file.take(512).read_to_end(&mut start).is_ok()
    {
        let is_executable = metadata.permissions().mode() & 0o111 != 0;
        if is_executable && (start.starts_with(b"#!") || start.contains(&0)) {
            return ScriptFile::Program;
        }
    }
    ScriptFile::Text
}
