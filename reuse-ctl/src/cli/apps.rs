//! Finds the app that a verb is for, and connects to it.

use crate::{
    app::names::paths_of,
    base::Failure,
    cli::context::Context,
    client::{Client, ClientError},
    process::paths::{KnownApp, list_apps},
};

const START_ONE: &str = "`sudo reuse-ctl run -- ./server` starts one";

/// An app whose controller answers.
#[derive(Debug, Clone)]
pub(crate) struct App {
    pub(crate) entry: KnownApp,
    pub(crate) client: Client,
}

/// Connects to the app that the user means.
pub(crate) async fn connect(context: &Context) -> Result<App, Failure> {
    connect_to(choose(&list()?, context.app.as_deref())?).await
}

/// Connects to this app.
pub(crate) async fn connect_to(entry: KnownApp) -> Result<App, Failure> {
    let client = Client::connect(&paths_of(&entry.name)?.control_socket()).await;
    Ok(App {
        client: client.map_err(|error| explain(&entry, error))?,
        entry,
    })
}

/// Every app with a lock file, running or not, by name.
pub(crate) fn list() -> Result<Vec<KnownApp>, Failure> {
    list_apps().map_err(|error| Failure::failed(format!("look for apps: {error}"), "try it with sudo"))
}

/// The app that the user means (the named one, or the only one there is), if its controller was killed.
pub(crate) fn dead_one(wanted: Option<&str>) -> Result<Option<String>, Failure> {
    let apps = list()?;
    let meant = match wanted {
        Some(wanted) => apps.iter().find(|app| app.name == wanted),
        None => apps.first().filter(|_| apps.len() == 1),
    };
    Ok(meant.filter(|app| !app.alive).map(|app| app.name.clone()))
}

/// Whether this controller is still running. Another controller with the same name doesn't count.
pub(crate) fn is_alive(controller: &KnownApp) -> Result<bool, Failure> {
    Ok(list()?.iter().any(|app| app == controller && app.alive))
}

/// The app with this name, or the only running app.
///
/// # Errors
/// No app matches (exit 3), or several do (exit 2).
pub(crate) fn choose(apps: &[KnownApp], wanted: Option<&str>) -> Result<KnownApp, Failure> {
    let running: Vec<&KnownApp> = apps.iter().filter(|app| app.alive).collect();
    let names = running
        .iter()
        .map(|app| app.name.as_str())
        .collect::<Vec<_>>()
        .join(", ");
    match (wanted, &*running) {
        (Some(wanted), _) => match apps.iter().find(|app| app.name == wanted) {
            Some(app) if app.alive => Ok(app.clone()),
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
            format!("name one: `--app {}`, or set REUSE_APP", first.name),
        )),
    }
}

fn controller_gone(app: &KnownApp) -> Failure {
    let pid = app.pid.map_or_else(|| "pid unknown".into(), |pid| format!("pid {pid}"));
    Failure::not_found(
        format!("app {}: its controller ({pid}) is gone", app.name),
        format!("`sudo reuse-ctl stop --app {}` ends what it left behind", app.name),
    )
}

/// The controller is running and doesn't answer. This is no deadline that the user has set, so the exit code is not 4.
fn silent(app: &KnownApp) -> Failure {
    let name = &app.name;
    let state = app.pid.and_then(state_of);
    let (Some(pid), true) = (app.pid, matches!(state, Some('T' | 't'))) else {
        let pid = app.pid.map_or_else(|| "pid unknown".into(), |pid| format!("pid {pid}"));
        return Failure::failed(
            format!("app {name}: its controller ({pid}) does not answer"),
            format!(
                "its workers go on; if it does not answer later either, `sudo kill -KILL` the controller, and `sudo reuse-ctl stop --app {name}` ends the rest"
            ),
        );
    };
    let (how, hint) = if state == Some('t') {
        ("a debugger has stopped it", "have the debugger let it go on".into())
    } else {
        (
            "it was suspended, as by Ctrl-Z",
            format!("its workers go on; `fg` in its terminal, or `sudo kill -CONT {pid}`, wakes it"),
        )
    };
    Failure::failed(
        format!("app {name}: its controller (pid {pid}) does not answer: {how}"),
        hint,
    )
}

/// The state of a process: `R`, `S`, `T`…
fn state_of(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The process's name is in parentheses, and may contain parentheses itself.
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

/// What the user can do about a controller that doesn't answer.
pub(crate) fn explain(app: &KnownApp, error: ClientError) -> Failure {
    let name = &app.name;
    match error {
        ClientError::NoSocket(_) => Failure::failed(
            format!("app {name} has no control socket yet: it is starting or ending"),
            "try again in a moment",
        ),
        ClientError::Refused(_) => controller_gone(app),
        ClientError::Silent(_) => silent(app),
        ClientError::PermissionDenied { owner, .. } if owner == "root" => {
            Failure::failed(format!("app {name} belongs to root"), "use sudo")
        }
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
    use crate::base::ErrorKind;

    fn app(name: &str, alive: bool) -> KnownApp {
        KnownApp {
            name: name.into(),
            pid: Some(7),
            alive,
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
                "name one: `--app blog`, or set REUSE_APP",
            ),
            (
                &both,
                Some("old"),
                ErrorKind::NotFound,
                "app old: its controller (pid 7) is gone",
                "`sudo reuse-ctl stop --app old` ends what it left behind",
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
}
