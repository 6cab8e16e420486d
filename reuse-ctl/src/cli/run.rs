//! `run`: resolves the arguments to checked [`RunOptions`], and starts the app here or in the background.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::{args, detach, many, output};
use crate::controller;
use crate::{
    app::{AppSpec, options::RunOptions, requirements::Extent},
    base::Failure,
    cli::{context::Context, handover},
    config::{Loaded, NamedSpec},
};

pub(super) fn run(context: &Context, arguments: args::Run, raw: &[OsString]) -> Result<(), Failure> {
    let own = raw.iter().take_while(|argument| *argument != "--");
    if own
        .map(|argument| argument.to_string_lossy())
        .any(|argument| argument == "--app" || argument.starts_with("--app="))
    {
        return Err(Failure::usage(
            "--app is for apps that run already",
            "name a new one with `--name APP`",
        ));
    }
    let call = Call {
        detach: arguments.detach && !arguments.detached,
        detached: arguments.detached,
        alone: arguments.alone,
        verbosity: arguments.verbose,
    };
    if let Some(file) = &arguments.file {
        return from_file(context, file, &arguments, raw, call);
    }
    let mut spec = AppSpec::typed(raw, current_folder().as_deref());
    if arguments.variables_on_stdin {
        spec.variables = handover::take_variables()?;
    }
    start(context, spec, call)
}

/// The options of this call of `run` that do not belong to the app.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    /// Start the app in the background; this process only waits.
    pub(super) detach: bool,
    /// This process is the controller in the background.
    pub(super) detached: bool,
    /// Workers stay away from every port on which another program listens.
    pub(super) alone: bool,
    /// How often `-v` was given.
    pub(super) verbosity: u8,
}

/// Starts one app, here or in the background.
pub(super) fn start(context: &Context, spec: AppSpec, call: Call) -> Result<(), Failure> {
    let options = spec.resolve()?;
    crate::cli::context::require_root("run")?;
    // A controller in the background was started by a process that has printed this already.
    if !call.detached
        && let Some(line) = options.stop.suggestion(&options.command)
    {
        output::note(&line);
    }
    if call.detach {
        return detach::run(context, &spec, call.verbosity);
    }
    controller::run(RunOptions {
        verbosity: call.verbosity,
        detached: call.detached,
        alone: call.alone,
        spec,
        ..options
    })
}

/// The apps of a file, or the one that `--name` selects.
fn from_file(
    context: &Context,
    file: &Path,
    arguments: &args::Run,
    raw: &[OsString],
    call: Call,
) -> Result<(), Failure> {
    let loaded = Loaded::read(file, arguments.env.as_deref())?;
    let is_meant = |app: &NamedSpec| arguments.name.as_ref().is_none_or(|wanted| app.name == *wanted);
    loaded.judge(|app| is_meant(app).then_some(Extent::Start), &AppSpec::typed_keys(raw))?;
    let mut apps = loaded.apps;
    let file = file.display();
    if let Some(wanted) = &arguments.name {
        let names: Vec<String> = apps.iter().map(|app| app.name.clone()).collect();
        apps.retain(|app| app.name == *wanted);
        if apps.is_empty() {
            let error = format!("{file} has no app {wanted:?}");
            return Err(Failure::usage(error, format!("it has {}", names.join(", "))));
        }
    }
    match <[NamedSpec; 1]>::try_from(apps) {
        Ok([app]) => start(context, app.spec.with_typed(raw, current_folder().as_deref()), call),
        Err(apps) => match AppSpec::typed_keys(raw).first() {
            Some(option) => Err(Failure::usage(
                format!("--{option} is for one app, and {file} has {}", apps.len()),
                "write it into the file, or name the app with `--name APP`",
            )),
            None => many::run(context, &apps, call),
        },
    }
}

/// `None` if the folder was removed; the supervisor reports that.
fn current_folder() -> Option<PathBuf> {
    std::env::current_dir().ok()
}
