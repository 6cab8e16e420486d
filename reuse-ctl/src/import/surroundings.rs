//! What translating must know of the machine, so that it needs not look itself.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// What is at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScriptFile {
    /// Nothing.
    Absent,
    /// A file that can be executed: a binary, or a script that names its interpreter.
    Program,
    /// Any other file.
    Text,
    /// A folder.
    Folder,
}

/// What translating must know of the machine.
pub struct Surroundings<'a> {
    /// How many processors there are.
    pub processors: i64,
    /// What is at a path relative to the ecosystem file's folder.
    pub look: Box<dyn Fn(&Path) -> ScriptFile + 'a>,
}

impl std::fmt::Debug for Surroundings<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Surroundings").finish_non_exhaustive()
    }
}

impl<'a> Surroundings<'a> {
    /// Of this machine, for an ecosystem file in `folder`.
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
