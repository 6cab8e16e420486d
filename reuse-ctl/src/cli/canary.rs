//! `canary --weight 5% -- CMD…`: starts one more worker, with another command and a fixed share of new connections.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::{
    apps, args, output,
    progress::{Request, changing_line, watch},
};
use crate::{
    base::{Failure, Verb},
    cli::context::Context,
    wire::{CanaryRequest, weight::canary_share},
};

pub(super) async fn run(context: &Context, arguments: &args::Canary) -> Result<(), Failure> {
    canary_share(&arguments.weight)?;
    let here = std::env::current_dir()
        .map_err(|error| Failure::failed(format!("the current folder: {error}"), "name another with --cwd"))?;
    let request = request(arguments, &here)?;
    let app = apps::connect(context).await?;
    let line = |status: &_, _| changing_line(status);
    let sent = Request::post("/v1/canary", request);
    let reply = watch(context, &app, line, sent.send(&app), interrupted).await?;
    output::finish(context, reply)
}

/// The request to the controller. Paths are made absolute, because the controller's working folder is not `here`.
fn request(arguments: &args::Canary, here: &Path) -> Result<CanaryRequest, Failure> {
    let cwd = arguments
        .cwd
        .as_deref()
        .map_or_else(|| here.to_owned(), |cwd| here.join(cwd));
    let command = arguments.command.iter().map(text).collect::<Result<_, _>>()?;
    Ok(CanaryRequest {
        weight: arguments.weight.clone(),
        command,
        cwd: Some(PathBuf::from(text(&cwd.into_os_string())?)),
    })
}

/// JSON can only contain text.
fn text(word: &OsString) -> Result<String, Failure> {
    word.to_str().map(str::to_owned).ok_or_else(|| {
        Failure::usage(
            format!("{} is not UTF-8", word.display()),
            "put it in a script, and make that the canary's command",
        )
    })
}

fn interrupted() -> Failure {
    Failure::failed(
        "no longer waiting; the controller goes on starting the canary",
        Verb::Status.with("--watch") + " shows it, " + Verb::Abort.run() + " removes it",
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt as _;

    use super::*;

    fn arguments(cwd: Option<&str>, command: Vec<OsString>) -> args::Canary {
        args::Canary {
            weight: "5%".into(),
            cwd: cwd.map(PathBuf::from),
            command,
        }
    }

    #[test]
    fn the_folder_is_the_callers() {
        let here = Path::new("/home/ann/app");
        for (cwd, expected) in [
            (None, "/home/ann/app"),
            (Some("v2"), "/home/ann/app/v2"),
            (Some("/srv"), "/srv"),
        ] {
            let request = request(&arguments(cwd, vec!["./server".into(), "-x".into()]), here).expect("right");
            assert_eq!(request.cwd.as_deref(), Some(Path::new(expected)));
            assert_eq!(request.command, ["./server", "-x"]);
        }
    }

    #[test]
    fn what_is_not_text_is_refused() {
        let strange = OsString::from_vec(vec![b'a', 0xff]);
        let failure = request(&arguments(None, vec![strange]), Path::new("/")).expect_err("not UTF-8");
        assert_eq!(failure.kind, crate::base::ErrorKind::Usage);
    }
}
