//! `check`: shows what a file describes, or every mistake in it. What `run -f` would refuse on this machine is a mistake; what this user
//! may not look at is only mentioned.

use std::fmt::Write as _;

use serde::Serialize;

use super::{args, output};
use crate::{
    app::{options::RunOptions, requirements::Extent},
    base::{Failure, count},
    cli::context::Context,
    config::{Loaded, NamedSpec},
};

#[derive(Serialize)]
struct Checked {
    file: String,
    apps: Vec<App>,
    /// What only root can check.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    not_checked: Vec<String>,
}

/// An app of the file, as shown to the user.
#[derive(Serialize)]
struct App {
    name: String,
    workers: u16,
    policy: &'static str,
    command: Vec<String>,
    cwd: Option<String>,
    ports: Vec<u16>,
    listen: Vec<String>,
    /// Names only, because values may be secrets.
    variables: Vec<String>,
}

pub(super) fn run(context: &Context, arguments: &args::Check) -> Result<(), Failure> {
    let loaded = Loaded::read(&arguments.file, arguments.env.as_deref())?;
    let not_checked = loaded.judge(|_| Some(Extent::Start), &[])?;
    let checked = Checked {
        file: arguments.file.display().to_string(),
        apps: loaded.apps.iter().map(App::of).collect::<Result<_, _>>()?,
        not_checked,
    };
    if context.json {
        return output::print_json(&output::Okay::new(checked));
    }
    output::print(&checked.to_text())
}

impl Checked {
    fn to_text(&self) -> String {
        let apps: Vec<String> = self.apps.iter().map(App::to_text).collect();
        let count = count(self.apps.len(), "app");
        let mut text = match apps.as_slice() {
            [one] => format!("{}: {count}: {one}\n", self.file),
            several => several
                .iter()
                .fold(format!("{}: {count}\n", self.file), |mut text, app| {
                    writeln!(text, "  {app}").expect("a string takes everything");
                    text
                }),
        };
        for unseen in &self.not_checked {
            writeln!(text, "  not checked: {unseen}: `sudo reuse-ctl check` may see it")
                .expect("a string takes everything");
        }
        text
    }
}

impl App {
    fn of(NamedSpec { name, spec }: &NamedSpec) -> Result<Self, Failure> {
        let options: RunOptions = spec.resolve()?;
        let text = |word: &std::ffi::OsString| word.to_string_lossy().into_owned();
        Ok(Self {
            name: name.clone(),
            workers: options.workers,
            policy: options.policy.name(),
            command: options.command.iter().map(text).collect(),
            cwd: options.cwd.map(|folder| folder.display().to_string()),
            ports: options.ports,
            listen: options.listen.iter().map(ToString::to_string).collect(),
            variables: spec.variables.iter().step_by(2).map(text).collect(),
        })
    }

    /// `web (4 workers, port 8080): node server.js`
    fn to_text(&self) -> String {
        let mut facts = vec![count(self.workers, "worker")];
        facts.extend(self.ports.iter().map(|port| format!("port {port}")));
        facts.extend(self.listen.iter().cloned());
        if !self.variables.is_empty() {
            facts.push(count(self.variables.len(), "variable"));
        }
        format!(
            "{} ({}): {}",
            self.name,
            facts.join(", "),
            shell_words::join(&self.command)
        )
    }
}
