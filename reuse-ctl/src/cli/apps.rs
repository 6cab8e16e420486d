//! Which app is meant: what runs under `/run/reuse-ctl`, and the way from a name to a client.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::{Context, Failure};
use crate::api::client::{Client, ClientError};

/// One folder per app: `lock` (held by the controller, holds its pid) and `control.sock`.
pub const RUN_FOLDER: &str = "/run/reuse-ctl";

/// One folder per app: `worker-<id>.log`, and `controller.log` of a detached one.
pub const LOG_FOLDER: &str = "/var/log/reuse-ctl";

const START_ONE: &str = "`sudo reuse-ctl run -- ./server` starts one";

/// An app that has a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppEntry {
    /// Its name.
    pub name: String,
    /// The pid that its controller wrote down.
    pub pid: Option<u32>,
    /// Whether that controller still holds the lock.
    pub is_alive: bool,
}

/// An app whose controller answers.
#[derive(Debug, Clone)]
pub(crate) struct App {
    pub(crate) entry: AppEntry,
    pub(crate) client: Client,
}

/// The app that the person means, connected.
pub(crate) async fn connect(context: &Context) -> Result<App, Failure> {
    let entry = choose(&list(Path::new(RUN_FOLDER))?, context.app.as_deref())?;
    let client = Client::connect(&socket_of(&entry.name))
        .await
        .map_err(|error| explain(&entry, error))?;
    Ok(App { entry, client })
}

/// Where an app's controller listens.
pub(crate) fn socket_of(name: &str) -> PathBuf {
    Path::new(RUN_FOLDER).join(name).join("control.sock")
}

/// Every app with a folder below `folder`, alive or not, by name.
///
/// # Errors
/// The folder is there and can't be read.
pub fn list(folder: &Path) -> Result<Vec<AppEntry>, Failure> {
    let entries = match folder.read_dir() {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => {
            return Err(Failure::failed(
                format!("read {}: {error}", folder.display()),
                "try it with sudo",
            ));
        }
    };
    let held = held_locks();
    let mut apps: Vec<AppEntry> = entries
        .flatten()
        .filter_map(|entry| look_at(&entry.path(), &held))
        .collect();
    apps.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(apps)
}

/// Whether the controller of this app is still there.
pub(crate) fn is_alive(name: &str) -> bool {
    look_at(&Path::new(RUN_FOLDER).join(name), &held_locks()).is_some_and(|app| app.is_alive)
}

fn look_at(folder: &Path, held: &[(u64, u64)]) -> Option<AppEntry> {
    let name = folder.file_name()?.to_str()?.to_owned();
    let lock = folder.join("lock");
    let metadata = lock.metadata().ok()?;
    let pid = std::fs::read_to_string(&lock)
        .ok()
        .and_then(|text| text.trim().parse().ok());
    Some(AppEntry {
        name,
        pid,
        is_alive: held.contains(&(metadata.dev(), metadata.ino())),
    })
}

/// (device, inode) of every file that some process holds with `flock`.
///
/// Read from /proc rather than tried: taking the lock for a moment could make a controller fail that starts in that moment.
fn held_locks() -> Vec<(u64, u64)> {
    let text = std::fs::read_to_string("/proc/locks").unwrap_or_default();
    text.lines().filter_map(held_lock).collect()
}

/// `1: FLOCK  ADVISORY  WRITE 1234 00:1b:5678 0 EOF`; a line with `->` waits for a lock and holds nothing.
fn held_lock(line: &str) -> Option<(u64, u64)> {
    let mut words = line.split_whitespace().skip(1);
    if words.next()? != "FLOCK" {
        return None;
    }
    let mut place = words.nth(3)?.split(':');
    let major = u32::from_str_radix(place.next()?, 16).ok()?;
    let minor = u32::from_str_radix(place.next()?, 16).ok()?;
    Some((libc::makedev(major, minor), place.next()?.parse().ok()?))
}

/// The app of this name, or the only one that runs.
///
/// # Errors
/// None is meant (exit 3), or several could be (exit 2).
pub fn choose(apps: &[AppEntry], wanted: Option<&str>) -> Result<AppEntry, Failure> {
    let running: Vec<&AppEntry> = apps.iter().filter(|app| app.is_alive).collect();
    let names = running
        .iter()
        .map(|app| app.name.as_str())
        .collect::<Vec<_>>()
        .join(", ");
    match (wanted, &*running) {
        (Some(wanted), _) => match apps.iter().find(|app| app.name == wanted) {
            Some(app) if app.is_alive => Ok(app.clone()),
            Some(app) => Err(controller_gone(app)),
            None if running.is_empty() => Err(Failure::not_found(
                format!("no app {wanted}: no app is running"),
                START_ONE,
            )),
            None => Err(Failure::not_found(
                format!("no app {wanted}"),
                format!("running: {names}"),
            )),
        },
        (None, [app]) => Ok((*app).clone()),
        (None, []) => match apps {
            [app] => Err(controller_gone(app)),
            _ => Err(Failure::not_found("no app is running", START_ONE)),
        },
        (None, [first, ..]) => Err(Failure::usage(
            format!("several apps are running: {names}"),
            format!("say which: `--app {}`, or set REUSE_APP", first.name),
        )),
    }
}

fn controller_gone(app: &AppEntry) -> Failure {
    let pid = app.pid.map_or_else(|| "pid unknown".into(), |pid| format!("pid {pid}"));
    Failure::not_found(
        format!("app {}: its controller ({pid}) is gone", app.name),
        format!(
            "`sudo reuse-ctl run --name {} -- …` starts it again and clears away what is left",
            app.name
        ),
    )
}

/// What a person can do about a controller that can't be asked.
pub(crate) fn explain(app: &AppEntry, error: ClientError) -> Failure {
    let name = &app.name;
    match error {
        ClientError::NoSocket(_) => Failure::failed(
            format!("app {name} has no control socket yet: it is starting or ending"),
            "try again in a moment",
        ),
        ClientError::Refused(_) => controller_gone(app),
        ClientError::PermissionDenied { owner, .. } => Failure::failed(
            format!("app {name} belongs to {owner}"),
            format!("use sudo, or ask {owner}"),
        ),
        ClientError::Refusal(reply) => Failure::from(*reply),
        ClientError::Protocol { reason, .. } => Failure::failed(
            format!("app {name}: {reason}"),
            "`reuse-ctl ls` shows whether it still runs",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::ErrorKind;

    fn app(name: &str, is_alive: bool) -> AppEntry {
        AppEntry {
            name: name.into(),
            pid: Some(7),
            is_alive,
        }
    }

    #[test]
    fn the_only_one_or_the_named_one() {
        let (shop, blog, dead) = (app("shop", true), app("blog", true), app("old", false));
        let both = [blog.clone(), dead.clone(), shop.clone()];
        assert_eq!(choose(&[dead.clone(), shop.clone()], None), Ok(shop.clone()));
        assert_eq!(choose(&both, Some("shop")), Ok(shop));
        for (apps, wanted, kind, error, hint) in [
            (&[][..], None, ErrorKind::NotFound, "no app is running", START_ONE),
            (
                &[],
                Some("x"),
                ErrorKind::NotFound,
                "no app x: no app is running",
                START_ONE,
            ),
            (&both, Some("x"), ErrorKind::NotFound, "no app x", "running: blog, shop"),
            (
                &both,
                None,
                ErrorKind::Usage,
                "several apps are running: blog, shop",
                "say which: `--app blog`, or set REUSE_APP",
            ),
            (
                &both,
                Some("old"),
                ErrorKind::NotFound,
                "app old: its controller (pid 7) is gone",
                "`sudo reuse-ctl run --name old -- …` starts it again and clears away what is left",
            ),
        ] {
            assert_eq!(
                choose(apps, wanted),
                Err(match kind {
                    ErrorKind::Usage => Failure::usage(error, hint),
                    _ => Failure::not_found(error, hint),
                })
            );
        }
        assert_eq!(
            choose(std::slice::from_ref(&dead), None).expect_err("it is dead").kind,
            ErrorKind::NotFound
        );
    }

    #[test]
    fn held_locks_are_seen_without_taking_them() {
        let folder = crate::api::fake::Folder::new("locks");
        let lock = folder.0.join("shop").join("lock");
        std::fs::create_dir(folder.0.join("shop")).expect("ours");
        std::fs::write(&lock, "4711\n").expect("ours");
        let entry = |is_alive| {
            vec![AppEntry {
                name: "shop".into(),
                pid: Some(4711),
                is_alive,
            }]
        };
        assert_eq!(list(&folder.0).expect("readable"), entry(false));
        let file = std::fs::File::open(&lock).expect("ours");
        file.try_lock().expect("nobody else has it");
        assert_eq!(list(&folder.0).expect("readable"), entry(true));
        drop(file);
        assert_eq!(list(&folder.0).expect("readable"), entry(false));
        assert_eq!(list(&folder.0.join("none")).expect("none is fine"), []);
    }

    #[test]
    fn only_locks_that_are_held_count() {
        assert_eq!(
            held_lock("1: FLOCK  ADVISORY  WRITE 55 00:1b:5678 0 EOF"),
            Some((libc::makedev(0, 0x1b), 5678))
        );
        assert_eq!(held_lock("1: -> FLOCK  ADVISORY  WRITE 55 00:1b:5678 0 EOF"), None);
        assert_eq!(held_lock("1: POSIX  ADVISORY  WRITE 55 00:1b:5678 0 EOF"), None);
        assert_eq!(held_lock(""), None);
    }
}
