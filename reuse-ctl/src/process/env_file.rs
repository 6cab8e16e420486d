//! Reads env files: `NAME=VALUE` lines in dotenv's format, with quotes, comments, `export` and `$NAME`.
//!
//! Errors name the file and the line but never quote it, because such files often contain secrets.

use std::{
    cell::Cell,
    fs::{self, File, OpenOptions},
    io::{self, Read},
    os::{fd::AsRawFd as _, unix::fs::OpenOptionsExt as _},
    path::{Path, PathBuf},
    rc::Rc,
};

use super::{identity::Identity, open_as::open_as};

/// Maximum size of a file in bytes: the kernel would not pass on more.
const MAX_BYTES: u64 = 1 << 20;

/// Why an env file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum EnvFileError {
    /// The file can't be opened: ENOENT, EACCES, or ELOOP for a cycle of symbolic links.
    #[error("the env file {}: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The kernel's error.
        source: io::Error,
    },
    /// The path is a folder, a pipe or a device.
    #[error("the env file {} is not a regular file", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// The file is longer than 1 MiB.
    #[error("the env file {} has more than 1 MiB", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// A line is wrong.
    #[error("the env file {}, line {line}: {problem}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line's number, from 1.
        line: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
}

impl EnvFileError {
    /// What the user should do next, in one line.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Open { source, .. } if source.raw_os_error() == Some(libc::ELOOP) => {
                "its symbolic links lead back to themselves: `namei -l` shows them"
            }
            Self::Open { .. } => "check the path; it is relative to the folder in which the app is started",
            Self::NotAFile { .. } => "it is read again at every reload: put the lines into a file",
            Self::TooLong { .. } => "is it the right file? Workers can't be given as much",
            Self::Line { .. } => "lines are like NAME=VALUE, or NAME=\"two words\"; a # begins a comment",
        }
    }
}

/// The permissions with which a file is opened.
#[derive(Debug, Clone, Copy)]
pub enum Rights<'a> {
    /// Those of this process: the user has just named the file to it.
    Callers,
    /// Those of the workers' user: whoever named the file may have no more.
    Workers(&'a Identity),
    /// Those of the caller if the file is at the same place as when it was first opened, else those of the workers' user. Otherwise anyone
    /// who may write to a folder on the path could replace the file by a link, and have root read another file.
    CallersAt(&'a Path, &'a Identity),
}

/// The contents of an env file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// The variables, in the order of the file.
    pub variables: Vec<(String, String)>,
    /// The real path of the file, with all links followed.
    pub place: PathBuf,
}

/// Reads a file of at most 1 MiB.
///
/// # Errors
/// See [`EnvFileError`].
pub fn read(path: &Path, rights: Rights<'_>) -> Result<Contents, EnvFileError> {
    let (bytes, place) = contents(path, rights)?;
    let failed = |line, problem| EnvFileError::Line {
        path: path.to_owned(),
        line,
        problem,
    };
    let text = match std::str::from_utf8(&bytes) {
        Ok(text) => text,
        Err(error) => return Err(failed(line_at(&bytes, error.valid_up_to()), "it is not UTF-8")),
    };
    if let Some(at) = text.find('\0') {
        return Err(failed(line_at(&bytes, at), "no variable can have a NUL character"));
    }
    let variables = parse(text).map_err(|line| failed(line, "it is not NAME=VALUE, or a quote is not closed"))?;
    Ok(Contents { variables, place })
}

fn contents(path: &Path, rights: Rights<'_>) -> Result<(Vec<u8>, PathBuf), EnvFileError> {
    let open = |source| EnvFileError::Open {
        path: path.to_owned(),
        source,
    };
    let opened = || {
        OpenOptions::new()
            .read(true)
            // Opening a pipe would otherwise wait for a writer.
            .custom_flags(libc::O_NONBLOCK)
            .open(path)
    };
    let (file, place) = match rights {
        Rights::Callers => opened().and_then(placed),
        Rights::Workers(identity) => open_as(identity, opened).and_then(placed),
        Rights::CallersAt(before, identity) => match opened().and_then(placed) {
            Ok((file, place)) if place == before => Ok((file, place)),
            Ok(_) => open_as(identity, opened).and_then(placed),
            Err(error) => Err(error),
        },
    }
    .map_err(open)?;
    if !file.metadata().map_err(open)?.is_file() {
        return Err(EnvFileError::NotAFile { path: path.to_owned() });
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(open)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(EnvFileError::TooLong { path: path.to_owned() });
    }
    Ok((bytes, place))
}

fn placed(file: File) -> io::Result<(File, PathBuf)> {
    let place = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    Ok((file, place))
}

fn line_at(bytes: &[u8], at: usize) -> usize {
    1 + bytes[..at].iter().filter(|byte| **byte == b'\n').count()
}

/// # Errors
/// The number of the wrong line, or of the first line of a wrong value.
fn parse(text: &str) -> Result<Vec<(String, String)>, usize> {
    // Editors on other systems begin a file with a byte order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let given = Rc::new(Cell::new(0));
    let lines = CountedLines {
        rest: text.as_bytes(),
        given: Rc::clone(&given),
    };
    dotenvy::from_read_iter(lines)
        .map(|item| {
            item.map_err(|error| {
                let lines = match &error {
                    dotenvy::Error::LineParse(text, _) => text.lines().count().max(1),
                    _ => 1,
                };
                (given.get() + 1).saturating_sub(lines).max(1)
            })
        })
        .collect()
}

/// Yields one line at a time and counts them, because the parser does not report its position.
struct CountedLines<'a> {
    rest: &'a [u8],
    given: Rc<Cell<usize>>,
}

impl Read for CountedLines<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let end = self.rest.iter().position(|byte| *byte == b'\n').map(|end| end + 1);
        let line = end.unwrap_or(self.rest.len());
        let count = line.min(into.len());
        let (now, later) = self.rest.split_at(count);
        into[..count].copy_from_slice(now);
        self.rest = later;
        if count == line && count > 0 {
            self.given.set(self.given.get() + 1);
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("reuse-env-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).expect("made");
            Self(path)
        }

        fn read(&self, bytes: &[u8]) -> Result<Vec<(String, String)>, EnvFileError> {
            let path = self.0.join("file");
            fs::write(&path, bytes).expect("written");
            read(&path, Rights::Callers).map(|contents| contents.variables)
        }

        fn refused(&self, bytes: &[u8]) -> String {
            self.read(bytes).expect_err("refused").to_string()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            drop(fs::remove_dir_all(&self.0));
        }
    }

    #[test]
    fn lines_as_people_write_them() {
        let folder = Folder::new("lines");
        let text = "\u{feff}# a comment\r\nA=1\r\nexport B='two words' # said\n\nC=\"line\\nbreak ${A}\"\nD=\nA=2\nE=\"over\nlines\"\nF=last";
        let pairs = folder.read(text.as_bytes()).expect("right");
        let expected = [
            ("A", "1"),
            ("B", "two words"),
            ("C", "line\nbreak 1"),
            ("D", ""),
            ("A", "2"),
            ("E", "over\nlines"),
            ("F", "last"),
        ];
        assert_eq!(pairs, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(folder.read(b"").expect("right"), []);
    }

    #[test]
    fn what_is_wrong_is_named_by_its_line_and_not_quoted() {
        let folder = Folder::new("wrong");
        for (text, line) in [
            ("A=1\n\n# x\nsecret words\nB=2\n", 4),
            ("A=1\nB=\"secret\nC=3\nD=4\n", 2),
            ("A=1\nB=\"secret\nC=3\nD=4", 2),
            ("=secret\n", 1),
            ("A=1\nB=secret\0\n", 2),
        ] {
            let refused = folder.refused(text.as_bytes());
            assert!(refused.contains(&format!("file, line {line}: ")), "{text:?}: {refused}");
            assert!(!refused.contains("secret"), "{refused}");
        }
        let refused = folder.refused(b"A=1\nB=\xff\n");
        assert!(refused.contains("line 2: it is not UTF-8"), "{refused}");
        assert!(folder.refused(&vec![b'#'; (1 << 20) + 1]).contains("1 MiB"));
        assert!(folder.read(&vec![b'#'; 1 << 20]).is_ok());
    }

    #[test]
    fn what_is_no_file_is_refused_at_once() {
        let folder = Folder::new("none");
        let cycle = folder.0.join("cycle");
        symlink(&cycle, &cycle).expect("made");
        let error = read(&cycle, Rights::Callers).expect_err("a cycle");
        assert!(error.hint().contains("symbolic links"), "{error}");
        let pipe = folder.0.join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).expect("made");
        for path in [pipe.as_path(), folder.0.as_path(), Path::new("/dev/zero")] {
            assert!(
                matches!(read(path, Rights::Callers), Err(EnvFileError::NotAFile { .. })),
                "{}",
                path.display()
            );
        }
        let error = read(&folder.0.join("none"), Rights::Callers).expect_err("not there");
        assert!(error.to_string().contains("No such file"), "{error}");
    }

    #[test]
    fn root_reads_no_file_that_was_put_in_the_place_of_another() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let folder = Folder::new("swapped");
        let nobody = Identity::decide(Some("nobody"), |_| None).expect("every Linux has nobody");
        let (path, secret) = (folder.0.join("env"), folder.0.join("secret"));
        for file in [&path, &secret] {
            fs::write(file, "A=1\n").expect("room");
            fs::set_permissions(file, fs::Permissions::from_mode(0o600)).expect("ours");
        }
        let place = read(&path, Rights::Callers).expect("it is root's").place;
        assert!(read(&path, Rights::CallersAt(&place, &nobody)).is_ok(), "where it was");
        assert!(matches!(
            read(&path, Rights::Workers(&nobody)),
            Err(EnvFileError::Open { .. })
        ));
        fs::remove_file(&path).expect("ours");
        symlink(&secret, &path).expect("a link");
        assert!(matches!(
            read(&path, Rights::CallersAt(&place, &nobody)),
            Err(EnvFileError::Open { .. })
        ));
        // A file that the workers may read anyway may have moved.
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).expect("ours");
        fs::set_permissions(&folder.0, fs::Permissions::from_mode(0o755)).expect("ours");
        assert!(read(&path, Rights::CallersAt(&place, &nobody)).is_ok());
    }
}
