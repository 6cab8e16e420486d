//! Which file changes count for `--watch`, and when a burst of changes is over. Pure.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    os::unix::ffi::OsStrExt as _,
    path::{Component, Path, PathBuf},
    time::{Duration, Instant},
};

use globset::{Glob, GlobSet, GlobSetBuilder};

/// Number of changed files that are counted in one burst; beyond that, it is only known that there were more.
const COUNTED: usize = 10_000;

/// A path that changes continuously for this long is reported.
const RESTLESS: Duration = Duration::from_secs(10);

/// The paths that are ignored.
#[derive(Debug)]
pub(crate) struct Ignored {
    /// The working folder, to which globs are relative.
    base: PathBuf,
    paths: GlobSet,
    /// Globs without a slash, which are matched against every component of a path.
    names: GlobSet,
    /// The app's own folders.
    folders: Vec<PathBuf>,
}

impl Ignored {
    /// # Errors
    /// The invalid glob, and the reason.
    pub(crate) fn new(globs: &[String], base: &Path, folders: Vec<PathBuf>) -> Result<Self, (String, String)> {
        let (mut paths, mut names) = (GlobSetBuilder::new(), GlobSetBuilder::new());
        for text in globs {
            let trimmed = text.trim_start_matches("./").trim_end_matches('/');
            let glob = Glob::new(trimmed).map_err(|error| (text.clone(), error.kind().to_string()))?;
            if !trimmed.contains('/') {
                names.add(glob.clone());
            }
            paths.add(glob);
        }
        let built = |builder: GlobSetBuilder| builder.build().map_err(|error| (globs.join(" "), error.to_string()));
        Ok(Self {
            base: base.to_owned(),
            paths: built(paths)?,
            names: built(names)?,
            folders,
        })
    }

    /// Whether `path`, which is `root` or below it, is ignored with everything below it. Components above `root` are not matched: a user
    /// who watches `.config` wants exactly that.
    pub(crate) fn ignores(&self, root: &Path, path: &Path) -> bool {
        let below = path.strip_prefix(root).unwrap_or(path);
        let names = || {
            below.components().filter_map(|part| match part {
                Component::Normal(name) => Some(name),
                _ => None,
            })
        };
        let relative = path.strip_prefix(&self.base).unwrap_or(path);
        names().any(|name| is_usually_ignored(name) || self.names.is_match(name))
            || self.folders.iter().any(|folder| path.starts_with(folder))
            || relative
                .ancestors()
                .filter(|part| !part.as_os_str().is_empty())
                .any(|part| self.paths.is_match(part))
    }
}

/// Packages, hidden files, and temporary files of editors.
fn is_usually_ignored(name: &OsStr) -> bool {
    let bytes = name.as_bytes();
    name == "node_modules" || bytes.starts_with(b".") || bytes.ends_with(b"~")
}

/// Changes that belong together: each is at most the delay after the one before.
#[derive(Debug)]
pub(crate) struct Burst {
    delay: Duration,
    first: PathBuf,
    files: BTreeSet<PathBuf>,
    began: Instant,
    last: Instant,
    complained: bool,
}

impl Burst {
    pub(crate) fn new(delay: Duration, path: PathBuf, now: Instant) -> Self {
        Self {
            delay,
            files: BTreeSet::from([path.clone()]),
            first: path,
            began: now,
            last: now,
            complained: false,
        }
    }

    pub(crate) fn add(&mut self, path: PathBuf, now: Instant) {
        self.last = now;
        if self.files.len() < COUNTED {
            self.files.insert(path);
        }
    }

    /// When the burst is over if no further change comes.
    pub(crate) fn over_at(&self) -> Instant {
        self.last + self.delay
    }

    /// A file that keeps changing; returned once per burst.
    pub(crate) fn restless(&mut self, now: Instant) -> Option<&Path> {
        let is_restless = !self.complained && now.saturating_duration_since(self.began) >= RESTLESS.max(self.delay * 2);
        self.complained |= is_restless;
        is_restless.then_some(&self.first)
    }

    /// "server.js has changed", "server.js and 999 others have changed". Paths are relative to `base` where possible.
    pub(crate) fn describe(&self, base: &Path) -> String {
        let first = shown(&self.first, base);
        match self.files.len() {
            0 | 1 => format!("{first} has changed"),
            2 => format!("{first} and another file have changed"),
            count => format!("{first} and {} others have changed", count - 1),
        }
    }
}

/// A path for display.
pub(crate) fn shown(path: &Path, base: &Path) -> String {
    let path = path.strip_prefix(base).unwrap_or(path);
    path.to_string_lossy()
        .chars()
        .map(|character| if character.is_control() { '?' } else { character })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ignored(globs: &[&str]) -> Ignored {
        let globs: Vec<String> = globs.iter().map(|glob| (*glob).to_owned()).collect();
        Ignored::new(&globs, Path::new("/srv/web"), vec!["/srv/web/out/logs".into()]).expect("globs")
    }

    #[test]
    fn what_counts() {
        let ignored = ignored(&["dist", "*.log", "src/gen/**", "./tmp/", "test/*.snap"]);
        let root = Path::new("/srv/web");
        for path in ["server.js", "src/a.js", "src/gene.js", "sub/test/a.snap", "out/a"] {
            assert!(!ignored.ignores(root, &root.join(path)), "{path}");
        }
        for path in [
            "node_modules/x/index.js",
            "a/node_modules",
            ".git/HEAD",
            "src/.server.js.swp",
            "server.js~",
            "dist/a.js",
            "sub/dist/a.js",
            "a.log",
            "deep/er/a.log",
            "src/gen/a/b.js",
            "tmp/x",
            "test/a.snap",
            "out/logs/worker-0.log",
        ] {
            assert!(ignored.ignores(root, &root.join(path)), "{path}");
        }
        let hidden = Path::new("/srv/web/.config");
        assert!(!ignored.ignores(hidden, hidden));
        assert!(!ignored.ignores(hidden, &hidden.join("a.json")));
        assert!(ignored.ignores(hidden, &hidden.join(".a.json")));
        let outside = Path::new("/etc/web");
        assert!(!ignored.ignores(outside, &outside.join("a.json")));
        assert!(ignored.ignores(outside, &outside.join("a.log")));
    }

    #[test]
    fn a_glob_that_is_none_is_named() {
        let (glob, why) = Ignored::new(&["a[".into()], Path::new("/"), Vec::new()).expect_err("none");
        assert_eq!(glob, "a[");
        assert!(!why.is_empty());
    }

    #[test]
    fn a_burst_is_one() {
        let now = Instant::now();
        let after = |ms| now + Duration::from_millis(ms);
        let base = Path::new("/srv");
        let mut burst = Burst::new(Duration::from_millis(300), "/srv/a.js".into(), now);
        assert_eq!(burst.describe(base), "a.js has changed");
        assert_eq!(burst.over_at(), after(300));
        burst.add("/srv/a.js".into(), after(100));
        assert_eq!(burst.describe(base), "a.js has changed");
        for file in 0..999 {
            burst.add(format!("/srv/b{file}.js").into(), after(200));
        }
        assert_eq!(burst.describe(base), "a.js and 999 others have changed");
        assert_eq!(burst.over_at(), after(500));
        assert_eq!(burst.restless(after(9_999)), None);
        assert_eq!(burst.restless(after(10_000)), Some(Path::new("/srv/a.js")));
        assert_eq!(burst.restless(after(11_000)), None, "said once");
        assert_eq!(shown(Path::new("/etc/a\nb"), base), "/etc/a?b");
    }
}
