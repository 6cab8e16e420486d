//! The index of a log as the controller writes it: the layout, then the marks.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::layout::{LAYOUT_BYTES, Layout, index_of};
use super::marks::{MARK_BYTES, MAX_MARKS, Mark, Marks, thinned};

/// The index, open for writing. Only one controller has it at a time.
#[derive(Debug)]
pub(super) struct Index {
    path: PathBuf,
    file: File,
    layout: Layout,
    marks: u64,
    last: Option<Mark>,
}

impl Index {
    /// Opens a log's index; creates it if there is no usable one.
    ///
    /// # Errors
    /// As open(2), read(2), write(2), flock(2). WouldBlock: another controller has it.
    pub(super) fn open(log: &Path) -> io::Result<Self> {
        let path = index_of(log);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o644)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&path)?;
        file.try_lock().map_err(io::Error::from)?;
        if let Some(layout) = Layout::read(&file)? {
            let mut marks = Marks::of(file.try_clone()?)?;
            return Ok(Self {
                layout,
                marks: marks.count(),
                last: marks.last()?,
                path,
                file,
            });
        }
        let layout = Layout::assumed(log);
        file.set_len(0)?;
        file.write_all_at(&layout.encode(), 0)?;
        Ok(Self {
            path,
            file,
            layout,
            marks: 0,
            last: None,
        })
    }

    pub(super) fn layout(&self) -> Layout {
        self.layout
    }

    pub(super) fn last(&self) -> Option<Mark> {
        self.last
    }

    /// Writes a new layout.
    ///
    /// # Errors
    /// As write(2). The old layout then stays valid.
    pub(super) fn set_layout(&mut self, mut layout: Layout) -> io::Result<()> {
        layout.changes = self.layout.changes + 1;
        self.file.write_all_at(&layout.encode(), 0)?;
        self.layout = layout;
        Ok(())
    }

    /// Adds a mark, which must be later than the last one. `kept_from` returns the oldest offset that can still be read.
    ///
    /// # Errors
    /// As write(2), rename(2).
    pub(super) fn mark(&mut self, mark: Mark, kept_from: impl FnOnce() -> u64) -> io::Result<()> {
        if self.marks >= MAX_MARKS as u64 {
            self.thin(kept_from())?;
        }
        let at = LAYOUT_BYTES as u64 + self.marks * MARK_BYTES;
        self.file.write_all_at(&mark.encode(), at)?;
        self.marks += 1;
        self.last = Some(mark);
        Ok(())
    }

    /// Writes a shorter index to a new file, and replaces the old one: readers have either the old one or the new one.
    fn thin(&mut self, kept_from: u64) -> io::Result<()> {
        let marks = thinned(&Marks::of(self.file.try_clone()?)?.all()?, kept_from);
        let layout = Layout {
            changes: self.layout.changes + 1,
            ..self.layout
        };
        let mut bytes = layout.encode().to_vec();
        bytes.extend(marks.iter().flat_map(|mark| mark.encode()));
        let fresh = self.path.with_extension("times.new");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o644)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&fresh)?;
        file.try_lock().map_err(io::Error::from)?;
        file.write_all_at(&bytes, 0)?;
        std::fs::rename(&fresh, &self.path)?;
        self.file = file;
        self.layout = layout;
        self.marks = marks.len() as u64;
        Ok(())
    }
}
