//! Folders in one that all apps share, which whoever is the last removes.

use std::{fs, io, path::Path};

/// How often others may remove the shared one while we make our own.
const ATTEMPTS: u32 = 1000;

/// Makes a folder with its parents. Another app that ends may remove the shared one between the two mkdirs: then both are made anew.
///
/// # Errors
/// As mkdir(2).
pub fn create(path: &Path) -> io::Result<()> {
    let mut attempts = 1;
    loop {
        match fs::create_dir_all(path) {
            Err(error) if may_be_a_race(&error) && attempts < ATTEMPTS => attempts += 1,
            result => return result,
        }
    }
}

/// The shared one was removed before the second mkdir, or after the first mkdir had found it there.
fn may_be_a_race(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::AlreadyExists)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apps_come_and_go_at_the_same_time() {
        let shared = std::env::temp_dir().join(format!("reuse-ctl-shared-{}", std::process::id()));
        let come_and_go = |app: &str| {
            let own = shared.join(app);
            for _ in 0..1000 {
                create(&own).expect("made");
                fs::remove_dir(&own).expect("it is there");
                // Gone, or not empty.
                drop(fs::remove_dir(&shared));
            }
        };
        std::thread::scope(|scope| {
            for app in ["a", "b", "c"] {
                scope.spawn(move || come_and_go(app));
            }
        });
        assert!(!shared.exists());
    }
}
