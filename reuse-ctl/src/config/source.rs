//! Text files written by others. Their size is limited, and they are checked before use.

use std::fs::File;
use std::io::{self, Read as _};
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::base::{Failure, FilePosition, failure::Detail};

/// Maximum size in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// Maximum number of errors shown for one file.
const MAX_PLACES: usize = 20;

/// Why a file was not read.
#[derive(Debug, thiserror::Error)]
pub(super) enum SourceError {
    #[error("there is no such file")]
    Missing,
    #[error("its symbolic links go round in a circle")]
    Circle,
    #[error("it is a directory")]
    Directory,
    #[error("it is not a regular file")]
    NotRegular,
    #[error("it has {0} bytes; at most {MAX_BYTES} are read")]
    TooLarge(u64),
    #[error("{0}")]
    Io(String),
}

impl SourceError {
    /// Describes the most common errors in words.
    pub(super) fn from_io(error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::ELOOP) => Self::Circle,
            Some(libc::ENOENT | libc::ENOTDIR) => Self::Missing,
            Some(libc::EISDIR) => Self::Directory,
            _ => Self::Io(error.to_string()),
        }
    }
}

impl From<io::Error> for SourceError {
    fn from(error: io::Error) -> Self {
        Self::from_io(&error)
    }
}

/// A file of text.
#[derive(Debug)]
pub(super) struct Source {
    /// The file's name as given.
    pub(super) shown: String,
    /// The absolute path of the file's folder.
    pub(super) folder: PathBuf,
    pub(super) text: String,
}

/// A mistake in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    /// Its place, in bytes.
    pub(super) span: Range<usize>,
    pub(super) error: String,
    pub(super) hint: String,
}

impl Problem {
    pub(super) fn new(span: Range<usize>, error: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            span,
            error: error.into(),
            hint: hint.into(),
        }
    }
}

impl Source {
    #[cfg(test)]
    pub(super) fn of(shown: &str, folder: &Path, text: String) -> Self {
        Self {
            shown: shown.to_owned(),
            folder: folder.to_owned(),
            text,
        }
    }

    /// Reads a file that describes apps.
    ///
    /// # Errors
    /// Usage: the file is missing, can't be read, is too large, or is not text.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let shown = path.display().to_string();
        let (bytes, folder) = read(path)
            .and_then(|bytes| Ok((bytes, folder_of(path)?)))
            .map_err(|error| cannot_read(&shown, &error))?;
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Self { shown, folder, text }),
            Err(error) => {
                let valid = error.utf8_error().valid_up_to();
                // The replacement character for invalid text begins where the valid text ends.
                let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
                let source = Self { shown, folder, text };
                let hint = "save it as UTF-8: `iconv -f LATIN1 -t UTF-8` may do it";
                Err(source.refuse(vec![Problem::new(valid..valid + 1, "this is not UTF-8", hint)]))
            }
        }
    }

    /// A failure that shows every problem with its place, in the order of the file.
    pub(super) fn refuse(&self, mut problems: Vec<Problem>) -> Failure {
        problems.sort_by_key(|problem| problem.span.start);
        problems.dedup();
        let count = problems.len();
        problems.truncate(MAX_PLACES);
        let mut places: Vec<FilePosition> = problems.into_iter().map(|problem| self.position(problem)).collect();
        if let (Some(last), true) = (places.last_mut(), count > MAX_PLACES) {
            last.hint = format!("{}, and {} more", last.hint, count - MAX_PLACES);
        }
        let (error, hint) = places
            .first()
            .map_or_else(Default::default, |first| (first.title(), first.hint.clone()));
        Failure {
            detail: Some(Box::new(Detail::Places { places })),
            ..Failure::usage(error, hint)
        }
    }

    pub(super) fn position(&self, Problem { span, error, hint }: Problem) -> FilePosition {
        FilePosition::new(&self.shown, &self.text, span, error, hint)
    }

    /// The line number of a byte offset, from 1.
    pub(super) fn line(&self, at: usize) -> usize {
        1 + self.text.as_bytes()[..at.min(self.text.len())]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count()
    }
}

fn cannot_read(shown: &str, error: &SourceError) -> Failure {
    let hint = match error {
        SourceError::Missing => "`reuse-ctl init` writes a reuse.toml; `-f FILE` names another",
        SourceError::Directory => "name the file in it",
        SourceError::Circle | SourceError::NotRegular => "name the file itself",
        SourceError::TooLarge(_) => "it should describe apps, and nothing else",
        SourceError::Io(_) => "see its permissions",
    };
    Failure::usage(format!("{shown}: {error}"), hint)
}

/// The folder for relative paths in the file: the folder of its name, even if the name is a symbolic link.
fn folder_of(path: &Path) -> io::Result<PathBuf> {
    let absolute = std::path::absolute(path)?;
    Ok(absolute.parent().unwrap_or(Path::new("/")).to_owned())
}

fn read(path: &Path) -> Result<Vec<u8>, SourceError> {
    // O_NONBLOCK: opening a pipe that nobody writes to would block for ever.
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(SourceError::Directory);
    }
    if !metadata.is_file() {
        return Err(SourceError::NotRegular);
    }
    if metadata.len() > MAX_BYTES {
        return Err(SourceError::TooLarge(metadata.len()));
    }
    // The file may have grown since.
    let mut bytes = Vec::new();
    let read = file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    match u64::try_from(read) {
        Ok(read) if read <= MAX_BYTES => Ok(bytes),
        _ => Err(SourceError::TooLarge(MAX_BYTES + 1)),
    }
}
