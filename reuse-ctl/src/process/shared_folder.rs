//! Creates folders inside a folder that all apps share. The last app removes the shared folder.

use std::{fs, io, path::Path};

/// Maximum number of attempts, because others may remove the shared folder while ours is created.
const ATTEMPTS: u32 = 1000;

/// Creates a folder with its parents. Another app that ends may remove the shared folder between the two mkdirs; then both are created
/// again.
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

/// Whether the shared folder was removed before the second mkdir, or after the first mkdir had found it.
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
