//! `try`: runs a server once under reuse-ctl, and reports what it did.

use super::{args, output};
use std::ffi::OsString;

use crate::{
    app::{AppSpec, words::check_path},
    base::Failure,
    cli::{
        context::Context,
        tryout::{
            Trial, examine,
            judge::{InForce, recommend},
            render, to_json,
        },
    },
};

pub(super) async fn run(context: &Context, arguments: &args::Try) -> Result<(), Failure> {
    for path in [Some(&arguments.path), arguments.slow_path.as_ref()]
        .into_iter()
        .flatten()
    {
        check_path(path)?;
    }
    let name = format!("try-{}", std::process::id());
    let own = run_arguments(arguments);
    let named = ["--name".into(), OsString::from(name)];
    let spec = AppSpec {
        arguments: named.into_iter().chain(own.iter().cloned()).collect(),
        variables: Vec::new(),
    };
    let options = spec.resolve()?;
    crate::cli::context::require_root("try")?;
    let report = examine(&Trial {
        options: &options,
        arguments: own,
        path: &arguments.path,
        slow_path: arguments.slow_path.as_deref(),
    })
    .await?;
    let recommendations = recommend(
        &report,
        InForce {
            stop: &options.stop,
            path: &arguments.path,
            port_given: arguments.port.is_some(),
        },
    );
    let given: String = given(arguments)
        .map(|(option, value)| format!(" {option} {value}"))
        .collect();
    if context.json {
        output::print_json(&to_json(&report, &recommendations, &given))
    } else {
        let colour = context.terminal.paint.enabled;
        output::print(&render(&report, &recommendations, &given, colour))
    }
}

/// The given options that `run` needs as well.
fn given(arguments: &args::Try) -> impl Iterator<Item = (&'static str, String)> {
    let said = [
        ("--port", arguments.port.map(|port| port.to_string())),
        ("--user", arguments.user.clone()),
        ("--stop-signal", arguments.stop_signal.clone()),
    ];
    said.into_iter().filter_map(|(option, value)| Some((option, value?)))
}

/// The arguments after `run --name NAME`.
fn run_arguments(arguments: &args::Try) -> Vec<OsString> {
    let time = |time: std::time::Duration| OsString::from(humantime::format_duration(time).to_string());
    let mut own: Vec<OsString> = ["--workers", "1", "--hung-after", "0s", "--drain-timeout"]
        .map(OsString::from)
        .into();
    own.extend([
        time(arguments.stop_timeout),
        "--stop-timeout".into(),
        time(arguments.stop_timeout),
        "--ready-timeout".into(),
        time(arguments.ready_timeout),
    ]);
    // Shows the server as it is, without what reuse-ctl would do for it.
    own.extend(["--stop-when", "at-once", "--settle", "0s"].map(OsString::from));
    own.extend(given(arguments).flat_map(|(option, value)| [option.into(), OsString::from(value)]));
    own.push("--alone".into());
    own.push("--".into());
    own.extend(arguments.command.iter().cloned());
    own
}
