//! `apply -f FILE`: changes the running apps to match a file, and leaves those alone that match already.
//!
//! Every app is first asked what it would change. If one of them can't be changed while it runs, no app is changed.

use std::time::Duration;

use serde::Serialize;

use super::{
    apps::{self, App},
    args, output,
    progress::{Request, changing_line, watch},
    say_which::say_which,
};
use crate::{
    app::{AppSpec, difference::TakesEffect, requirements::Extent},
    base::{ErrorKind, Failure, Verb},
    cli::{context::Context, handover},
    config::{Loaded, NamedSpec},
    process::paths::KnownApp,
    wire::{OptionChange, Reply, SpecRequest, Status},
};

/// Above this number, each change has a line of its own.
const FEW_CHANGES: usize = 3;

pub(super) async fn run(context: &Context, arguments: &args::Apply) -> Result<(), Failure> {
    let running: Vec<_> = apps::list()?.into_iter().filter(|app| app.alive).collect();
    let wanted = wanted(context, arguments, &running)?;
    let not_in_file = not_in_file(&running, &wanted.all);
    let mut plans = Vec::new();
    for NamedSpec { name, spec } in wanted.apps {
        plans.push(match running.iter().find(|app| app.name == name) {
            Some(entry) => Plan::Change(Box::new(ask(entry, spec, arguments.new_address).await?)),
            None => {
                crate::cli::context::require_root("apply")?;
                refuse_leftovers(&name)?;
                Plan::Start(NamedSpec { name, spec })
            }
        });
    }
    let mut outcomes = Vec::new();
    let mut worst: Option<Failure> = None;
    for plan in plans {
        let (outcome, failure) = if arguments.dry_run {
            (plan.foretell(), None)
        } else {
            plan.carry_out(context).await
        };
        // Failures are reported at the end.
        if !context.json && outcome.error.is_none() {
            output::print(&outcome.text(arguments.dry_run))?;
        }
        outcomes.push(outcome);
        if let Some(failure) = failure
            && worst
                .as_ref()
                .is_none_or(|worst| worst.kind.exit_code() < failure.kind.exit_code())
        {
            worst = Some(failure);
        }
    }
    if !context.json && outcomes.iter().filter(|outcome| outcome.error.is_some()).count() > 1 {
        for failed in outcomes.iter().filter(|outcome| outcome.error.is_some()) {
            output::print(&failed.text(false))?;
        }
    }
    let report = Report {
        dry_run: arguments.dry_run,
        apps: outcomes,
        not_in_file,
    };
    match worst {
        Some(failure) => Err(failed(report, failure)),
        None => show(context, &report, &arguments.file.display().to_string()),
    }
}

/// The apps to run.
struct Wanted {
    apps: Vec<NamedSpec>,
    /// The names of all apps in the file.
    all: Vec<String>,
}

/// All apps of the file, or the one that `--app` names, checked before anything is done. What this user may not look at is left to the
/// controllers.
fn wanted(context: &Context, arguments: &args::Apply, running: &[KnownApp]) -> Result<Wanted, Failure> {
    let loaded = Loaded::read(&arguments.file, arguments.env.as_deref())?;
    let extent = |app: &NamedSpec| {
        let is_meant = context.app.as_ref().is_none_or(|wanted| app.name == *wanted);
        let runs = running.iter().any(|known| known.name == app.name);
        is_meant.then_some(if runs { Extent::Change } else { Extent::Start })
    };
    loaded.judge(extent, &[])?;
    let mut apps = loaded.apps;
    let all: Vec<String> = apps.iter().map(|app| app.name.clone()).collect();
    if let Some(wanted) = &context.app {
        apps.retain(|app| app.name == *wanted);
        if apps.is_empty() {
            let error = format!("{} has no app {wanted:?}", arguments.file.display());
            return Err(Failure::usage(error, format!("it has {}", all.join(", "))));
        }
    }
    Ok(Wanted { apps, all })
}

fn not_in_file(running: &[KnownApp], all: &[String]) -> Vec<String> {
    let others = running.iter().filter(|app| !all.contains(&app.name));
    others.map(|app| app.name.clone()).collect()
}

fn refuse_leftovers(name: &str) -> Result<(), Failure> {
    match apps::dead_one(Some(name))? {
        Some(name) => Err(Failure::failed(
            format!("the controller of {name} was killed, and has left something behind"),
            format!("`sudo reuse-ctl stop --app {name}` ends it; then `apply` again"),
        )),
        None => Ok(()),
    }
}

/// Asks the app what it would change.
async fn ask(entry: &KnownApp, spec: AppSpec, new_address: bool) -> Result<Change, Failure> {
    let app = apps::connect_to(entry.clone()).await?;
    let body = SpecRequest {
        spec,
        dry_run: true,
        new_address,
    };
    let request = Request::put("/v1/spec", body);
    let reply = request.send(&app).await?;
    if !reply.ok {
        let mut failure = say_which(&entry.name, Failure::from(reply));
        failure.error = format!("{}: {}", entry.name, failure.error);
        return Err(failure);
    }
    Ok(Change {
        app,
        foretold: reply,
        request: request.body,
    })
}

enum Plan {
    Start(NamedSpec),
    Change(Box<Change>),
}

struct Change {
    app: App,
    foretold: Reply,
    request: SpecRequest,
}

impl Plan {
    fn foretell(self) -> AppliedApp {
        match self {
            Self::Start(app) => AppliedApp::new(app.name, Became::Started, "would be started"),
            Self::Change(change) => {
                let became = change.became();
                let message = change.foretold.message.unwrap_or_default();
                AppliedApp {
                    changes: change.foretold.changes,
                    ..AppliedApp::new(change.app.entry.name, became, message)
                }
            }
        }
    }

    async fn carry_out(self, context: &Context) -> (AppliedApp, Option<Failure>) {
        match self {
            Self::Start(app) => match handover::start_in_background(&app.spec, 0).await {
                Ok(started) => {
                    let line = started.to_line();
                    let message = line.strip_prefix(&format!("{} runs: ", app.name)).unwrap_or(&line);
                    (
                        AppliedApp {
                            pid: Some(started.pid),
                            ..AppliedApp::new(app.name, Became::Started, format!("started {message}"))
                        },
                        None,
                    )
                }
                Err(failure) => {
                    let outcome = AppliedApp::failed(app.name, Became::NotStarted, &failure, Vec::new());
                    (outcome, Some(failure))
                }
            },
            Self::Change(change) if change.became() == Became::Unchanged => (Self::Change(change).foretell(), None),
            Self::Change(change) => change.carry_out(context).await,
        }
    }
}

impl Change {
    fn became(&self) -> Became {
        if self.foretold.changes.is_empty() && !self.foretold.starts_anew {
            Became::Unchanged
        } else {
            Became::Changed
        }
    }

    async fn carry_out(self, context: &Context) -> (AppliedApp, Option<Failure>) {
        let Self { app, request, .. } = self;
        let name = app.entry.name.clone();
        let body = SpecRequest {
            dry_run: false,
            ..request
        };
        let request = Request::put("/v1/spec", body);
        let line = |status: &Status, _: Duration| changing_line(status);
        match watch(context, &app, line, request.send(&app), interrupted).await {
            Ok(reply) if reply.ok => (
                AppliedApp {
                    changes: reply.changes,
                    ..AppliedApp::new(name, Became::Changed, reply.message.unwrap_or_default())
                },
                None,
            ),
            Ok(mut reply) => {
                let changes = std::mem::take(&mut reply.changes);
                let failure = say_which(&name, Failure::from(reply));
                (
                    AppliedApp::failed(name, Became::NotChanged, &failure, changes),
                    Some(failure),
                )
            }
            Err(failure) => (
                AppliedApp::failed(name, Became::NotChanged, &failure, Vec::new()),
                Some(failure),
            ),
        }
    }
}

fn interrupted() -> Failure {
    Failure::failed(
        "no longer waiting; what has begun goes on in the controller",
        Verb::Status.with("--watch") + " shows how far it is; a second `apply` shows what is left",
    )
}

/// The output of `--json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether nothing was done, and this is only what would be done.
    pub dry_run: bool,
    /// The apps, in the order of the file.
    pub apps: Vec<AppliedApp>,
    /// Running apps that were left alone because the file does not name them.
    pub not_in_file: Vec<String>,
}

/// The outcome for one app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AppliedApp {
    /// Its name.
    pub app: String,
    /// The outcome in one word.
    pub became: Became,
    /// The outcome in one line.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The pid of its controller, if it was started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// The changes, option by option.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<OptionChange>,
    /// The error, if it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What to do about the error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// What became of an app, or (`--dry-run`) would become of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "they say it")]
pub enum Became {
    Started,
    Changed,
    Unchanged,
    NotStarted,
    /// Not changed, or not completely: `changes` says what was.
    NotChanged,
}

impl AppliedApp {
    fn new(app: String, became: Became, message: impl Into<String>) -> Self {
        Self {
            app,
            became,
            message: message.into(),
            pid: None,
            changes: Vec::new(),
            error: None,
            hint: None,
        }
    }

    fn failed(app: String, became: Became, failure: &Failure, changes: Vec<OptionChange>) -> Self {
        Self {
            changes,
            error: Some(failure.error.clone()),
            hint: Some(failure.hint.to_string()),
            ..Self::new(app, became, "")
        }
    }

    /// The text for the user: one line, or one for each of many changes.
    fn text(&self, dry_run: bool) -> String {
        let app = &self.app;
        if let Some(error) = &self.error {
            return format!("{app}: failed: {error}\n");
        }
        if self.changes.len() <= FEW_CHANGES {
            return format!("{app}: {}\n", self.message);
        }
        let mut text = format!("{app}: {}:\n", if dry_run { "would change" } else { "changed" });
        for change in &self.changes {
            let values = match (&change.from, &change.to) {
                (Some(from), Some(to)) => format!(" {from} → {to}"),
                _ => String::new(),
            };
            let reload = match change.takes_effect {
                TakesEffect::Reload if dry_run => "  (would reload the workers)",
                TakesEffect::Reload => "  (workers reloaded)",
                TakesEffect::Live | TakesEffect::Policy | TakesEffect::Scale | TakesEffect::NewStart => "",
            };
            text.push_str(&format!("  {}{values}{reload}\n", change.option));
        }
        text
    }
}

fn show(context: &Context, report: &Report, file: &str) -> Result<(), Failure> {
    if context.json {
        return output::print_json(&output::Okay::new(report));
    }
    for name in &report.not_in_file {
        output::print(&format!("{name}: left alone: it is not in {file}\n"))?;
    }
    if report.apps.iter().all(|app| app.became == Became::Unchanged) {
        output::print("nothing to do\n")?;
    }
    Ok(())
}

/// The failure of the only app that failed, or one that names all that failed.
fn failed(report: Report, worst: Failure) -> Failure {
    let failed = report.apps.iter().filter(|app| app.error.is_some());
    let names: Vec<&str> = failed.map(|app| app.app.as_str()).collect();
    let failure = match names.as_slice() {
        [one] => Failure {
            error: format!("{one}: {}", worst.error),
            ..worst
        },
        several => {
            let error = format!(
                "{} of {} apps failed: {}",
                several.len(),
                report.apps.len(),
                names.join(", ")
            );
            let mut failure = Failure::failed(error, "the errors above tell why");
            failure.kind = worst.kind;
            failure
        }
    };
    debug_assert_ne!(failure.kind, ErrorKind::NotFound, "they were looked up before");
    failure.with_detail(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(name: &str, became: Became) -> AppliedApp {
        AppliedApp::new(name.into(), became, "unchanged")
    }

    #[test]
    fn what_runs_beside_the_file_is_named() {
        let app = |name: &str| KnownApp {
            name: name.into(),
            pid: Some(1),
            alive: true,
        };
        let running = [app("api"), app("blog")];
        assert_eq!(not_in_file(&running, &["api".into(), "web".into()]), ["blog"]);
    }

    #[test]
    fn many_changes_have_a_line_each() {
        let change = |option: &str, to: Option<&str>, takes_effect| OptionChange {
            option: option.into(),
            from: to.map(|_| "none".into()),
            to: to.map(Into::into),
            takes_effect,
            way: takes_effect,
            done: true,
        };
        let mut many = outcome("web", Became::Changed);
        many.changes = vec![
            change("max-memory", Some("300M"), TakesEffect::Live),
            change("max-age", Some("1h"), TakesEffect::Live),
            change("command", None, TakesEffect::Reload),
        ];
        many.message = "changed: all on one line".into();
        assert_eq!(many.text(false), "web: changed: all on one line\n");
        many.changes.push(change("workers", Some("4"), TakesEffect::Scale));
        insta::assert_snapshot!(many.text(true), @r"
        web: would change:
          max-memory none → 300M
          max-age none → 1h
          command  (would reload the workers)
          workers none → 4
        ");
        assert!(many.text(false).contains("  command  (workers reloaded)\n"));
    }

    #[test]
    fn one_failure_speaks_for_itself_and_several_are_counted() {
        let failure = Failure::timeout("it is late", "wait");
        let bad = |name: &str| AppliedApp::failed(name.into(), Became::NotChanged, &failure, Vec::new());
        let report = |apps| Report {
            dry_run: false,
            apps,
            not_in_file: Vec::new(),
        };
        let one = failed(
            report(vec![bad("web"), outcome("api", Became::Unchanged)]),
            failure.clone(),
        );
        assert_eq!((one.error.as_str(), one.kind), ("web: it is late", ErrorKind::Timeout));
        insta::assert_snapshot!(one.to_json(), @r#"{"ok":false,"error":"web: it is late","hint":"wait","kind":"timeout","dry_run":false,"apps":[{"app":"web","became":"not_changed","error":"it is late","hint":"wait"},{"app":"api","became":"unchanged","message":"unchanged"}],"not_in_file":[]}"#);
        let both = failed(report(vec![bad("web"), bad("api")]), failure.clone());
        assert_eq!(both.error, "2 of 2 apps failed: web, api");
        assert_eq!(both.kind, ErrorKind::Timeout);
    }
}
