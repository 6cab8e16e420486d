//! `unit`: prints a systemd unit for an app. Its permissions were tested one capability at a time: see docs/systemd.md.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use super::{args, output};
use crate::{
    app::{AppSpec, options::RunOptions},
    base::Failure,
    cli::context::Context,
    config::{self, NamedSpec},
    process::{
        command::{self, Search},
        identity::{self, Identity},
    },
};

/// The capabilities that the controller needs. Without any one of them something fails or is late: see docs/systemd.md.
const CAPABILITIES: [&str; 11] = [
    "CAP_BPF",
    "CAP_PERFMON",
    "CAP_NET_ADMIN",
    "CAP_SYS_PTRACE",
    "CAP_SETUID",
    "CAP_SETGID",
    "CAP_KILL",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_NICE",
];

/// The folders in which systemd looks for programs.
const SYSTEMD_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The watchdog timeout. The controller's task sends several notifications in that time, unless it is stuck.
const WATCHDOG: Duration = Duration::from_secs(30);

/// Time allowed in addition to the start of one worker, for the setup before it and a retry or two.
const START_SLACK: Duration = Duration::from_secs(30);

/// Time allowed for cleaning up after the workers have ended.
const STOP_SLACK: Duration = Duration::from_secs(10);

/// Limit of open descriptors, which workers inherit.
const DESCRIPTORS: u32 = 524_288;

pub(super) fn run(context: &Context, arguments: &args::Unit) -> Result<(), Failure> {
    let here = std::env::current_dir()
        .map_err(|error| Failure::failed(format!("the working folder: {error}"), "cd to one that exists"))?;
    let own = std::env::current_exe()
        .map_err(|error| Failure::failed(format!("/proc/self/exe: {error}"), "is /proc mounted?"))?;
    let (options, mut command_line) = match &arguments.file {
        Some(file) => of_file(arguments, &here.join(file))?,
        None => of_arguments(&arguments.run, &here)?,
    };
    let user = user_to_add(&options)?;
    if let Some(user) = &user {
        add_user(&mut command_line, user);
    }
    let unit = Unit {
        path: path_to_set(&options, &here)?,
        runs_as_root: options.user.is_none() && user.is_none(),
        own,
        command_line,
        options,
    };
    let unit = unit.to_text();
    if context.json {
        #[derive(Serialize)]
        struct Printed {
            unit: String,
        }
        return output::print_json(&output::Okay::new(Printed { unit }));
    }
    output::print(&unit)
}

/// `run -f FILE`, so that a change of the file needs no new unit.
fn of_file(arguments: &args::Unit, file: &Path) -> Result<(RunOptions, Vec<OsString>), Failure> {
    let mut apps = config::load(file, arguments.env.as_deref())?;
    let names: Vec<String> = apps.iter().map(|app| app.name.clone()).collect();
    if let Some(wanted) = &arguments.name {
        apps.retain(|app| app.name == *wanted);
    }
    let chosen = <[NamedSpec; 1]>::try_from(apps).map_err(|apps| {
        let (error, hint) = match (&arguments.name, apps.len()) {
            (Some(name), 0) => (
                format!("{} has no app {name:?}", file.display()),
                format!("it has {}", names.join(", ")),
            ),
            _ => (
                format!(
                    "{} has {} apps, and each has a unit of its own",
                    file.display(),
                    names.len()
                ),
                format!("name one with --name: {}", names.join(", ")),
            ),
        };
        Failure::usage(error, hint)
    })?;
    let [NamedSpec { name, spec }] = chosen;
    let mut line: Vec<OsString> = vec!["run".into(), "--file".into(), file.into()];
    if let Some(env) = &arguments.env {
        line.extend(["--env".into(), env.into()]);
    }
    if names.len() > 1 {
        line.extend(["--name".into(), name.into()]);
    }
    Ok((spec.resolve()?, line))
}

fn of_arguments(run: &[OsString], here: &Path) -> Result<(RunOptions, Vec<OsString>), Failure> {
    let as_typed = AppSpec {
        arguments: run.to_vec(),
        variables: Vec::new(),
    };
    // First parsed as it was typed, so that errors are reported in those terms.
    as_typed.resolve()?;
    let raw: Vec<OsString> = ["reuse-ctl".into(), "run".into()]
        .into_iter()
        .chain(run.iter().cloned())
        .collect();
    let spec = AppSpec::typed(&raw, Some(here));
    let options = spec.resolve()?;
    let line = std::iter::once("run".into()).chain(spec.arguments).collect();
    Ok((options, line))
}

/// The user to add: nobody calls a service with sudo, so workers that now run as the caller would run as root.
fn user_to_add(options: &RunOptions) -> Result<Option<String>, Failure> {
    if options.user.is_some() {
        return Ok(None);
    }
    let caller = Identity::resolve(None).map_err(|error| Failure::failed(error.to_string(), error.hint()))?;
    Ok((!caller.runs_as_root()).then_some(caller.name))
}

/// Inserted among the options, before the `--` of the command.
fn add_user(line: &mut Vec<OsString>, user: &str) {
    let place = line.iter().position(|word| word == "--").unwrap_or(line.len());
    line.insert(place, format!("--user={user}").into());
}

/// The PATH that the service needs to find the caller's program; `None` if systemd's own folders contain it.
fn path_to_set(options: &RunOptions, here: &Path) -> Result<Option<OsString>, Failure> {
    let cwd = options
        .cwd
        .as_ref()
        .map_or_else(|| here.to_owned(), |cwd| here.join(cwd));
    let program = options.command.first().map_or(OsStr::new(""), |program| program);
    let (path, home) = (std::env::var_os("PATH"), identity::caller_home());
    let search = Search {
        cwd: &cwd,
        path: path.as_deref(),
        home: home.as_deref(),
    };
    let found = command::resolve(program, &search).map_err(|error| Failure::failed(error.to_string(), error.hint()))?;
    if program.as_bytes().contains(&b'/') {
        return Ok(None);
    }
    let folder = found.program.parent().unwrap_or(Path::new("/"));
    let is_known = std::env::split_paths(SYSTEMD_PATH).any(|known| known == folder);
    if is_known {
        return Ok(None);
    }
    let mut path = folder.as_os_str().to_owned();
    path.push(":");
    path.push(SYSTEMD_PATH);
    Ok(Some(path))
}

struct Unit {
    own: PathBuf,
    command_line: Vec<OsString>,
    options: RunOptions,
    path: Option<OsString>,
    runs_as_root: bool,
}

impl Unit {
    fn to_text(&self) -> String {
        let Self { own, options, .. } = self;
        let name = &options.name;
        let own = word(own.as_os_str());
        let exec = self.command_line.iter().map(|argument| word(argument));
        let exec: Vec<String> = std::iter::once(own.clone()).chain(exec).collect();
        let mut text = String::new();
        let mut line = |line: std::fmt::Arguments<'_>| writeln!(text, "{line}").expect("a string takes everything");
        line(format_args!(
            "# /etc/systemd/system/{name}.service, printed by `reuse-ctl unit`"
        ));
        line(format_args!(
            "#   systemctl daemon-reload && systemctl enable --now {name}"
        ));
        if self.runs_as_root {
            line(format_args!(
                "# The workers run as root: better say --user in ExecStart."
            ));
        }
        line(format_args!("[Unit]"));
        line(format_args!("Description={name}, steered by reuse-ctl"));
        line(format_args!("Wants=network-online.target"));
        line(format_args!("After=network-online.target"));
        line(format_args!(""));
        line(format_args!("[Service]"));
        line(format_args!(
            "# It is up when all workers are active; `systemctl status` shows how many are."
        ));
        line(format_args!("Type=notify"));
        line(format_args!("NotifyAccess=main"));
        if let Some(path) = &self.path {
            let mut variable = OsString::from("PATH=");
            variable.push(path);
            line(format_args!("Environment={}", quoted(&variable, "$")));
        }
        line(format_args!("ExecStart={}", exec.join(" ")));
        line(format_args!(
            "# Every worker replaced, --surge at a time; fails if the new version does not get ready, or dies. HUP does the same, unwatched."
        ));
        line(format_args!("ExecReload={own} reload --app {name}"));
        line(format_args!(
            "# What a controller that was killed leaves behind would be in the way of the next one."
        ));
        line(format_args!("ExecStopPost=-{own} stop --leftovers --app {name}"));
        line(format_args!("Restart=on-failure"));
        line(format_args!("WatchdogSec={}", WATCHDOG.as_secs()));
        line(format_args!(
            "TimeoutStartSec={}",
            seconds(options.ready.timeout + START_SLACK)
        ));
        line(format_args!(
            "TimeoutStopSec={}",
            seconds(time_to_stop(options) + STOP_SLACK)
        ));
        line(format_args!(
            "# The controller ends the workers; they are in cgroups of their own, below reuse-ctl/{name}."
        ));
        line(format_args!("KillMode=mixed"));
        line(format_args!("LimitNOFILE={DESCRIPTORS}"));
        line(format_args!("CapabilityBoundingSet={}", CAPABILITIES.join(" ")));
        line(format_args!("ProtectSystem=full"));
        line(format_args!(""));
        line(format_args!("[Install]"));
        line(format_args!("WantedBy=multi-user.target"));
        text
    }
}

/// The controller's worst-case time to stop: the grace period, plus the longer of grace period and stop timeout, plus the stop timeout.
fn time_to_stop(options: &RunOptions) -> Duration {
    let (grace, stop) = (options.stop.drain_timeout, options.stop.timeout);
    grace.saturating_add(grace.max(stop)).saturating_add(stop)
}

/// Whole seconds, rounded up.
fn seconds(time: Duration) -> u64 {
    time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0))
}

/// A word of a command line in systemd's syntax.
fn word(word: &OsStr) -> String {
    quoted(word, "$$")
}

/// Adds double quotes if necessary. `%` is special everywhere, `$` (which is written as `dollar`) in command lines.
fn quoted(word: &OsStr, dollar: &str) -> String {
    let mut text = String::new();
    for &byte in word.as_bytes() {
        match byte {
            b'%' => text.push_str("%%"),
            b'$' => text.push_str(dollar),
            b'"' | b'\\' => {
                text.push('\\');
                text.push(char::from(byte));
            }
            b' '..=b'~' => text.push(char::from(byte)),
            _ => write!(text, "\\x{byte:02x}").expect("a string takes everything"),
        }
    }
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_=+./:,@%$".contains(byte);
    if !word.is_empty() && word.as_bytes().iter().all(is_plain) {
        text
    } else {
        format!("\"{text}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(run: &str) -> Unit {
        let run: Vec<OsString> = run.split(' ').map(OsString::from).collect();
        let (options, mut command_line) = of_arguments(&run, Path::new("/srv/web")).expect("right");
        add_user(&mut command_line, "ann");
        Unit {
            own: "/usr/local/bin/reuse-ctl".into(),
            command_line,
            options,
            path: None,
            runs_as_root: false,
        }
    }

    #[test]
    fn all_that_matters_is_in_it() {
        let unit = unit("--workers 4 --drain-timeout 5s --stop-timeout 1500ms -- ./server --user x");
        insta::assert_snapshot!(unit.to_text(), @r"
        # /etc/systemd/system/server.service, printed by `reuse-ctl unit`
        #   systemctl daemon-reload && systemctl enable --now server
        [Unit]
        Description=server, steered by reuse-ctl
        Wants=network-online.target
        After=network-online.target

        [Service]
        # It is up when all workers are active; `systemctl status` shows how many are.
        Type=notify
        NotifyAccess=main
        ExecStart=/usr/local/bin/reuse-ctl run --workers=4 --drain-timeout=5s --stop-timeout=1500ms --cwd=/srv/web --user=ann -- ./server --user x
        # Every worker replaced, --surge at a time; fails if the new version does not get ready, or dies. HUP does the same, unwatched.
        ExecReload=/usr/local/bin/reuse-ctl reload --app server
        # What a controller that was killed leaves behind would be in the way of the next one.
        ExecStopPost=-/usr/local/bin/reuse-ctl stop --leftovers --app server
        Restart=on-failure
        WatchdogSec=30
        TimeoutStartSec=60
        TimeoutStopSec=22
        # The controller ends the workers; they are in cgroups of their own, below reuse-ctl/server.
        KillMode=mixed
        LimitNOFILE=524288
        CapabilityBoundingSet=CAP_BPF CAP_PERFMON CAP_NET_ADMIN CAP_SYS_PTRACE CAP_SETUID CAP_SETGID CAP_KILL CAP_CHOWN CAP_DAC_OVERRIDE CAP_NET_BIND_SERVICE CAP_SYS_NICE
        ProtectSystem=full

        [Install]
        WantedBy=multi-user.target
        ");
    }

    #[test]
    fn words_reach_the_program_as_they_are() {
        for (given, written) in [
            ("--a=b", "--a=b"),
            ("a b", "\"a b\""),
            ("100%", "100%%"),
            ("$HOME", "$$HOME"),
            ("say \"hi\\\"", "\"say \\\"hi\\\\\\\"\""),
            ("", "\"\""),
            ("a;b", "\"a;b\""),
            ("é", "\"\\xc3\\xa9\""),
        ] {
            assert_eq!(word(OsStr::new(given)), written);
        }
    }

    #[test]
    fn what_is_wrong_with_the_arguments_is_said_as_run_says_it() {
        let run = ["--workers", "0", "--", "x"].map(OsString::from);
        let failure = of_arguments(&run, Path::new("/")).expect_err("none");
        assert_eq!(failure.error, "--workers 0 is out of range");
    }
}
