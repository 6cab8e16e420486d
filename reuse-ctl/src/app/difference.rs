//! The difference between a running app and its new options, and how each change takes effect.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use humantime::format_duration;
use reuse_common::Policy;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    app::options::{
        HealthCheck, HealthOptions, LogOptions, LogTarget, ReadyKind, ReadyOptions, RecycleOptions, RolloutOptions,
        RunOptions, StickyOptions, StopOptions, StopWhen, WatchOptions, WhenEmpty,
    },
    base::sizes::bytes_text,
    process::{
        cgroup_limits::LimitOptions,
        stop_plan::KillMode,
        variables::{EnvironmentOptions, Increment},
    },
};
use reuse_machine::interface::{HealthRules, HungRules};

/// How a changed option takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TakesEffect {
    /// Immediately; no worker is touched.
    Live,
    /// Every worker is replaced, `--surge` at a time, start-first.
    Reload,
    /// Immediately, for new connections.
    Policy,
    /// Workers are added or removed.
    Scale,
    /// Only when the app is started again: it concerns what is created before the first worker.
    NewStart,
}

/// An option that changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The option's name on the command line, without the hyphens; `command` or `environment` for what is no option.
    pub option: &'static str,
    /// The old and the new value for display; `None` if they are secret, or long.
    pub values: Option<(String, String)>,
    /// How it takes effect.
    pub takes_effect: TakesEffect,
}

impl fmt::Display for Change {
    /// Writes `drain-timeout 30s → 10s`, or just `command`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.values {
            Some((from, to)) => write!(f, "{} {from} → {to}", self.option),
            None => f.write_str(self.option),
        }
    }
}

const ENV_FILE: &str = "env-file";

/// All changes, in the order of [`RunOptions`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    /// The changes; empty if nothing differs.
    pub changes: Vec<Change>,
}

impl Difference {
    /// The changes that take effect in this way.
    pub fn by(&self, takes_effect: TakesEffect) -> impl Iterator<Item = &Change> + Clone {
        self.changes
            .iter()
            .filter(move |change| change.takes_effect == takes_effect)
    }

    /// Whether any change takes effect in this way.
    pub fn has(&self, takes_effect: TakesEffect) -> bool {
        self.by(takes_effect).next().is_some()
    }

    /// Adds the change that env files have other contents than before, even if no option differs.
    pub fn add_content_of_env_files(&mut self) {
        if !self.changes.iter().any(|change| change.option == ENV_FILE) {
            self.add(ENV_FILE, TakesEffect::Reload, true);
        }
    }

    fn add(&mut self, option: &'static str, takes_effect: TakesEffect, differs: bool) {
        if differs {
            self.changes.push(Change {
                option,
                values: None,
                takes_effect,
            });
        }
    }

    fn add_shown<T: PartialEq + ?Sized>(
        &mut self,
        option: &'static str,
        takes_effect: TakesEffect,
        old: &T,
        new: &T,
        show: impl Fn(&T) -> String,
    ) {
        if old != new {
            self.changes.push(Change {
                option,
                values: Some((show(old), show(new))),
                takes_effect,
            });
        }
    }

    fn add_live_time(&mut self, option: &'static str, old: Duration, new: Duration) {
        self.add_shown(option, TakesEffect::Live, &old, &new, time);
    }
}

/// The difference between a running app and its new options. The working folder and the paths of `--env-file` must have been resolved in
/// the same way for both.
///
/// Every field of every part is named, so that a new option does not compile until its effect is given here.
pub fn difference(old: &RunOptions, new: &RunOptions) -> Difference {
    let RunOptions {
        name,
        workers,
        policy,
        ports,
        listen,
        when_empty,
        user,
        ready,
        stop,
        rollout,
        hung,
        health,
        recycle,
        limits,
        logs,
        environment,
        control_group,
        sticky,
        // How this controller was started, which is no property of the app.
        verbosity: _,
        detached: _,
        alone: _,
        cwd,
        command,
        // The source of the options.
        spec: _,
    } = old;
    let mut found = Difference::default();
    found.add_shown("name", TakesEffect::NewStart, name, &new.name, String::clone);
    found.add_shown("workers", TakesEffect::Scale, workers, &new.workers, u16::to_string);
    found.add_shown("policy", TakesEffect::Policy, policy, &new.policy, policy_name);
    found.add_shown("port", TakesEffect::Reload, ports, &new.ports, |ports| list(ports));
    found.add_shown("listen", TakesEffect::NewStart, listen, &new.listen, |listen| {
        list(listen)
    });
    found.add_shown(
        "when-empty",
        TakesEffect::Live,
        when_empty,
        &new.when_empty,
        when_empty_name,
    );
    found.add_shown("user", TakesEffect::NewStart, user, &new.user, optional);
    add_ready(&mut found, ready, &new.ready);
    add_stop(&mut found, stop, &new.stop);
    add_rollout(&mut found, rollout, &new.rollout);
    add_hung(&mut found, hung, &new.hung);
    add_health(&mut found, health.as_ref(), new.health.as_ref());
    add_recycle(&mut found, recycle, &new.recycle);
    add_limits(&mut found, limits, &new.limits);
    add_logs(&mut found, logs, &new.logs);
    add_environment(&mut found, environment, &new.environment);
    found.add_shown(
        "control-group",
        TakesEffect::NewStart,
        control_group,
        &new.control_group,
        optional,
    );
    add_sticky(&mut found, sticky, &new.sticky);
    found.add_shown("cwd", TakesEffect::Reload, cwd, &new.cwd, folder);
    found.add("command", TakesEffect::Reload, *command != new.command);
    found
}

/// The kind belongs to a version: the sign of readiness is part of how a worker is built.
fn add_ready(found: &mut Difference, old: &ReadyOptions, new: &ReadyOptions) {
    let ReadyOptions { kind, timeout } = old;
    found.add_shown("ready", TakesEffect::Reload, kind, &new.kind, ready_name);
    found.add_live_time("ready-timeout", *timeout, new.timeout);
}

fn add_stop(found: &mut Difference, old: &StopOptions, new: &StopOptions) {
    let StopOptions {
        drain_timeout,
        signal,
        kill_mode,
        message,
        when,
        timeout,
    } = old;
    found.add_live_time("drain-timeout", *drain_timeout, new.drain_timeout);
    found.add_shown(
        "stop-signal",
        TakesEffect::Live,
        signal,
        &new.signal,
        ToString::to_string,
    );
    found.add_shown(
        "kill-mode",
        TakesEffect::Live,
        kill_mode,
        &new.kill_mode,
        kill_mode_name,
    );
    found.add_shown("stop-message", TakesEffect::Live, message, &new.message, |on| {
        yes_no(*on)
    });
    found.add_shown("stop-when", TakesEffect::Live, when, &new.when, |when| {
        when.map_or("default", StopWhen::name).to_owned()
    });
    found.add_live_time("stop-timeout", *timeout, new.timeout);
}

fn add_rollout(found: &mut Difference, old: &RolloutOptions, new: &RolloutOptions) {
    let RolloutOptions { settle, surge } = old;
    found.add_live_time("settle", *settle, new.settle);
    found.add_shown("surge", TakesEffect::Live, surge, &new.surge, ToString::to_string);
}

fn add_hung(found: &mut Difference, old: &HungRules, new: &HungRules) {
    let HungRules {
        hung_after_ms,
        rescue_after_ms,
        replace_after_ms,
        at_most_percent,
    } = old;
    let ms = |ms: &u64| time(&Duration::from_millis(*ms));
    let live = TakesEffect::Live;
    found.add_shown("hung-after", live, hung_after_ms, &new.hung_after_ms, ms);
    found.add_shown("rescue-after", live, rescue_after_ms, &new.rescue_after_ms, ms);
    found.add_shown(
        "replace-hung-after",
        live,
        replace_after_ms,
        &new.replace_after_ms,
        |after| after.as_ref().map_or_else(never, ms),
    );
    found.add_shown("max-hung", live, at_most_percent, &new.at_most_percent, u8::to_string);
}

fn add_health(found: &mut Difference, old: Option<&HealthOptions>, new: Option<&HealthOptions>) {
    let live = TakesEffect::Live;
    let (old_check, new_check) = (old.map(|health| &health.check), new.map(|health| &health.check));
    found.add_shown("health", live, &old_check, &new_check, |check| {
        check.map_or_else(never, check_name)
    });
    let (Some(old), Some(new)) = (old, new) else { return };
    let HealthOptions {
        check: _,
        interval,
        timeout,
        rules: HealthRules { fails, passes },
    } = old;
    found.add_live_time("health-interval", *interval, new.interval);
    found.add_live_time("health-timeout", *timeout, new.timeout);
    found.add_shown("health-fails", live, fails, &new.rules.fails, u32::to_string);
    found.add_shown("health-passes", live, passes, &new.rules.passes, u32::to_string);
}

fn add_recycle(found: &mut Difference, old: &RecycleOptions, new: &RecycleOptions) {
    let RecycleOptions {
        max_memory_bytes,
        max_age,
        max_connections,
        cron,
        watch,
    } = old;
    let live = TakesEffect::Live;
    found.add_shown("max-memory", live, max_memory_bytes, &new.max_memory_bytes, bytes);
    found.add_shown("max-age", live, max_age, &new.max_age, |age| {
        age.as_ref().map_or_else(never, time)
    });
    found.add_shown("max-connections", live, max_connections, &new.max_connections, number);
    found.add_shown("cron", live, cron, &new.cron, |cron| {
        cron.as_ref().map_or_else(never, |cron| format!("{cron:?}"))
    });
    add_watch(found, watch.as_ref(), new.watch.as_ref());
}

fn add_watch(found: &mut Difference, old: Option<&WatchOptions>, new: Option<&WatchOptions>) {
    let live = TakesEffect::Live;
    let (old_paths, new_paths) = (old.map(|watch| &watch.paths), new.map(|watch| &watch.paths));
    found.add_shown("watch", live, &old_paths, &new_paths, |paths| {
        paths.map_or_else(never, |paths| folders(paths))
    });
    let (Some(old), Some(new)) = (old, new) else { return };
    let WatchOptions {
        paths: _,
        ignore,
        delay,
    } = old;
    found.add_shown("watch-ignore", live, ignore, &new.ignore, |globs| list(globs));
    found.add_live_time("watch-delay", *delay, new.delay);
}

/// Limits are set before a worker's first instruction.
fn add_limits(found: &mut Difference, old: &LimitOptions, new: &LimitOptions) {
    let LimitOptions {
        memory_bytes,
        cpu_percent,
    } = old;
    found.add_shown(
        "memory-limit",
        TakesEffect::Reload,
        memory_bytes,
        &new.memory_bytes,
        bytes,
    );
    found.add_shown(
        "cpu-limit",
        TakesEffect::Reload,
        cpu_percent,
        &new.cpu_percent,
        |percent| percent.map_or_else(never, |percent| format!("{}.{:02}", percent / 100, percent % 100)),
    );
}

fn add_logs(found: &mut Difference, old: &LogOptions, new: &LogOptions) {
    let LogOptions {
        target,
        max_bytes,
        keep,
    } = old;
    found.add_shown(
        "log",
        TakesEffect::NewStart,
        target,
        &new.target,
        |target| match target {
            LogTarget::File => "file".into(),
            LogTarget::Journald => "journald".into(),
        },
    );
    found.add_shown("log-size", TakesEffect::Live, max_bytes, &new.max_bytes, |bytes| {
        bytes_text(*bytes)
    });
    found.add_shown("log-keep", TakesEffect::Live, keep, &new.keep, u16::to_string);
}

/// Values are secrets: not even their number is shown.
fn add_environment(found: &mut Difference, old: &EnvironmentOptions, new: &EnvironmentOptions) {
    let EnvironmentOptions {
        files,
        variables,
        increment,
        port_step,
        pm2_names,
    } = old;
    let reload = TakesEffect::Reload;
    found.add_shown(ENV_FILE, reload, files, &new.files, |files| folders(files));
    found.add("environment", reload, *variables != new.variables);
    found.add_shown("increment-var", reload, increment, &new.increment, |counted| {
        counted
            .as_ref()
            .map_or_else(never, |Increment { name, first }| match first {
                Some(first) => format!("{name}={first}"),
                None => name.clone(),
            })
    });
    found.add_shown("port-step", reload, port_step, &new.port_step, u16::to_string);
    found.add_shown("pm2-compat", reload, pm2_names, &new.pm2_names, |on| yes_no(*on));
}

fn add_sticky(found: &mut Difference, old: &StickyOptions, new: &StickyOptions) {
    let StickyOptions {
        prefix4,
        prefix6,
        ttl,
        capacity,
    } = old;
    let new_start = TakesEffect::NewStart;
    found.add_shown("sticky-prefix4", new_start, prefix4, &new.prefix4, u8::to_string);
    found.add_shown("sticky-prefix6", new_start, prefix6, &new.prefix6, u8::to_string);
    found.add_live_time("sticky-ttl", *ttl, new.ttl);
    found.add_shown("sticky-capacity", new_start, capacity, &new.capacity, u32::to_string);
}

fn policy_name(policy: &Policy) -> String {
    policy.name().to_owned()
}

fn when_empty_name(when_empty: &WhenEmpty) -> String {
    match when_empty {
        WhenEmpty::Park => "park".into(),
        WhenEmpty::Refuse => "refuse".into(),
    }
}

fn kill_mode_name(mode: &Option<KillMode>) -> String {
    mode.map_or("default", KillMode::name).into()
}

fn ready_name(kind: &ReadyKind) -> String {
    match kind {
        ReadyKind::Listener => "listener".into(),
        ReadyKind::Ipc => "ipc".into(),
        ReadyKind::Notify => "notify".into(),
        ReadyKind::Started => "started".into(),
        ReadyKind::Http(path) => format!("http:{path}"),
    }
}

fn check_name(check: &HealthCheck) -> String {
    match check {
        HealthCheck::Tcp => "tcp".into(),
        HealthCheck::Http(path) => path.clone(),
    }
}

fn list<T: ToString>(values: &[T]) -> String {
    match values {
        [] => "none".into(),
        values => values.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
    }
}

fn folders(paths: &[PathBuf]) -> String {
    let paths: Vec<_> = paths.iter().map(|path| path.display()).collect();
    list(&paths)
}

fn folder(folder: &Option<PathBuf>) -> String {
    folder
        .as_ref()
        .map_or_else(|| "none".into(), |folder| folder.display().to_string())
}

fn optional(text: &Option<String>) -> String {
    text.clone().unwrap_or_else(|| "none".into())
}

fn number(number: &Option<u64>) -> String {
    number.map_or_else(never, |number| number.to_string())
}

fn bytes(bytes: &Option<u64>) -> String {
    bytes.map_or_else(never, bytes_text)
}

fn time(time: &Duration) -> String {
    format_duration(*time).to_string()
}

fn never() -> String {
    "none".into()
}

fn yes_no(on: bool) -> String {
    if on { "yes" } else { "no" }.into()
}

#[cfg(test)]
#[path = "difference_tests.rs"]
mod tests;
