//! Every option that PM2 knows, and what becomes of it. Data only, kept in one table; hence the length of this file.
//!
//! A test reads PM2's own schema and list of command line options, and fails if one is missing here. The table in `docs/from-pm2.md` is
//! generated from this one.

/// What usually becomes of an option. It also depends on the value: `watch: false` has no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Becomes {
    /// The same option under this key of `reuse.toml`.
    Kept(&'static str),
    /// A similar key, and the difference.
    Changed(&'static str, &'static str),
    /// No key, and the reason why none is needed or possible.
    Nothing(&'static str),
}

/// Where PM2 accepts an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WrittenIn {
    /// In an app of the file.
    App,
    /// At the top of the file, beside the apps.
    Top,
    /// On the command line only.
    CommandLine,
    /// In the options of `pm2.start()` only.
    Program,
}

/// An option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OptionRow {
    /// Its name in PM2's schema; `env_*` stands for every name that begins so.
    pub option: &'static str,
    /// Its other names, except its own name in camel case.
    pub aliases: &'static [&'static str],
    /// Where PM2 accepts it.
    pub place: WrittenIn,
    /// What becomes of it.
    pub becomes: Becomes,
}

const fn app(option: &'static str, aliases: &'static [&'static str], becomes: Becomes) -> OptionRow {
    OptionRow {
        option,
        aliases,
        place: WrittenIn::App,
        becomes,
    }
}

const fn elsewhere(place: WrittenIn, option: &'static str, becomes: Becomes) -> OptionRow {
    OptionRow {
        option,
        aliases: &[],
        place,
        becomes,
    }
}

use Becomes::{Changed, Kept, Nothing};
use WrittenIn::{CommandLine, Program, Top};

const NOTHING_INSIDE: &str = "reuse-ctl adds nothing to the app's process";
const LOG_FILES: &str = "each worker writes directly to its own file, rotated by size, or to the journal: `log`, `log_size`, `reuse-ctl logs`";
const RESTARTS: &str = "a worker that exits is always restarted, after a delay that grows up to 30s; one that fails five times in a row is left alone, and `status` says so";
/// For the two options that make an app a job.
pub(super) const JOB: &str = "with `autorestart: false` and `cron_restart` this is a job that runs and ends: use cron or a systemd timer, and remove it from the file";
const AUTORESTART: &str = "a worker that exits is always restarted, after a delay that grows up to 30s; for a job that runs and ends (`autorestart: false` with `cron_restart`) use cron or a systemd timer";
const CONTAINER: &str = "PM2 itself no longer supports containers; for reuse-ctl see docs/containers.md";
const STARTUP: &str = "only for `pm2 startup`; `reuse-ctl unit` prints a systemd unit";
const DISPLAY: &str = "only affects what PM2's own commands print";

/// The table.
#[rustfmt::skip]
pub const TABLE: &[OptionRow] = &[
    // What runs
    app("name", &[], Kept("name")),
    app("script", &["exec", "cmd", "command"], Kept("command")),
    app("args", &[], Kept("command")),
    app("exec_interpreter", &["interpreter"], Kept("command")),
    app("node_args", &["interpreterArgs", "interpreter_args"], Kept("command")),
    app("cwd", &[], Kept("cwd")),
    app("instances", &[], Kept("workers")),
    app("exec_mode", &[], Nothing("all workers share one port, in any language and without the cluster module")),
    app("uid", &["user"], Changed("user", "workers also get all groups of that user")),
    app("gid", &[], Nothing("workers have the groups of their user")),
    app("username", &[], Nothing("PM2 sets it itself")),
    app("namespace", &[], Nothing("each app has its own controller; give apps distinct names")),
    app("name_prefix", &[], Nothing("PM2 sets it for its modules; write the full `name`")),
    app("append_env_to_name", &[], Nothing("the name is the same in every environment")),
    app("port", &[], Changed("env", "sets PORT in the environment, as PM2 does")),
    // Environment
    app("env", &[], Kept("env")),
    app("env_file", &[], Changed("env_file", "PM2 reads no such file; here its variables are set, and those of `env` override them")),
    app("env_*", &[], Kept("env.*")),
    app("filter_env", &[], Nothing("workers inherit the environment of `reuse-ctl run`: start it with `env -i` or from a systemd unit")),
    app("increment_var", &[], Kept("increment_var")),
    app("instance_var", &[], Changed("increment_var", "NODE_APP_INSTANCE and REUSE_WORKER_ID are set as well")),
    // Start, readiness, end
    app("wait_ready", &[], Changed("ready", "\"ipc\": a worker that is not ready in time has failed; PM2 reports it as online")),
    app("listen_timeout", &[], Changed("ready_timeout", "a worker that is not ready by then has failed, and the old one stays; PM2 reports the new one as online")),
    app("kill_timeout", &[], Kept("stop_timeout")),
    app("kill_retry_time", &[], Nothing("the kernel reports the end of a process, so it is not polled")),
    app("shutdown_with_message", &[], Kept("stop_message")),
    app("treekill", &[], Nothing("a worker's whole cgroup is ended with it, so no orphan survives")),
    app("autostart", &[], Nothing("every app in the file runs; comment out those that should not")),
    // Restarts
    app("autorestart", &[], Nothing(AUTORESTART)),
    app("stop_exit_codes", &[], Nothing(RESTARTS)),
    app("max_restarts", &[], Nothing(RESTARTS)),
    app("min_uptime", &[], Nothing(RESTARTS)),
    app("restart_delay", &[], Nothing(RESTARTS)),
    app("exp_backoff_restart_delay", &[], Nothing(RESTARTS)),
    app("max_memory_restart", &[], Changed("max_memory", "the new worker is ready before the old one is stopped, so nothing is lost")),
    app("cron_restart", &["cron"], Changed("cron", "one worker after the other, and nothing is lost; PM2 restarts them all at once")),
    app("watch", &[], Changed("watch", "one worker after the other; node_modules and names that begin with a dot are always ignored")),
    app("ignore_watch", &[], Changed("watch_ignore", "globs, relative to the working folder; a regular expression is translated only if it is plain text")),
    app("watch_delay", &[], Kept("watch_delay")),
    app("watch_options", &[], Nothing("these are for the library that PM2 uses to watch files")),
    app("force", &[], Nothing("apps are identified by name, so several may run the same script")),
    // Output
    app("out_file", &["out", "output", "out_log"], Nothing(LOG_FILES)),
    app("error_file", &["error", "err", "err_file", "err_log"], Nothing(LOG_FILES)),
    app("log_file", &["log"], Nothing(LOG_FILES)),
    app("disable_logs", &[], Nothing("output is always logged; `log_size` and `log_keep` limit the size of the files")),
    app("log_type", &[], Nothing("`reuse-ctl logs --json` prints any app's lines as JSON")),
    app("log_date_format", &[], Nothing("`reuse-ctl logs --json` prints each line with its time; the log files contain the app's lines unchanged")),
    app("time", &[], Nothing("`reuse-ctl logs --json` prints each line with its time; the log files contain the app's lines unchanged")),
    app("merge_logs", &["combine_logs"], Nothing("each worker has its own file; `reuse-ctl logs` shows them together")),
    app("pid_file", &["pid"], Nothing("`reuse-ctl status --json` shows the process ids")),
    // What PM2 puts into the process, or does besides
    app("source_map_support", &[], Changed("command", "Node's own --enable-source-maps, if requested")),
    app("disable_source_map_support", &[], Nothing(NOTHING_INSIDE)),
    app("pmx", &[], Nothing(NOTHING_INSIDE)),
    app("automation", &[], Nothing(NOTHING_INSIDE)),
    app("trace", &[], Nothing(NOTHING_INSIDE)),
    app("disable_trace", &[], Nothing(NOTHING_INSIDE)),
    app("v8", &[], Nothing(NOTHING_INSIDE)),
    app("event_loop_inspector", &[], Nothing(NOTHING_INSIDE)),
    app("deep_monitoring", &[], Nothing(NOTHING_INSIDE)),
    app("io", &[], Nothing(NOTHING_INSIDE)),
    app("vizion", &[], Nothing("reuse-ctl does not look at version control")),
    app("post_update", &[], Nothing("it belongs to PM2's paid dashboard")),
    app("install_url", &[], Nothing("PM2 sets it for its modules")),
    app("execute_command", &[], Nothing("every command is run as it is")),
    app("write", &[], Nothing("the configuration is the reuse.toml that `import` prints")),
    app("windowsHide", &[], Nothing("only has an effect on Windows")),
    // Beside the apps
    elsewhere(Top, "apps", Kept("app")),
    elsewhere(Top, "pm2", Kept("app")),
    elsewhere(Top, "deploy", Nothing("reuse-ctl does not copy files to other machines: use another tool for that, then `reuse-ctl apply -f reuse.toml` over ssh")),
    elsewhere(Top, "static", Nothing("reuse-ctl has no built-in file server: any other server can be an app's `command`")),
    // pm2.start({…})
    elsewhere(Program, "container", Nothing(CONTAINER)),
    elsewhere(Program, "dist", Nothing(CONTAINER)),
    elsewhere(Program, "image_name", Nothing(CONTAINER)),
    elsewhere(Program, "node_version", Nothing(CONTAINER)),
    elsewhere(Program, "fresh", Nothing(CONTAINER)),
    elsewhere(Program, "dockerdaemon", Nothing(CONTAINER)),
    // pm2 … --option
    elsewhere(CommandLine, "ext", Changed("watch_ignore", "globs select what is ignored")),
    elsewhere(CommandLine, "only", Nothing("`reuse-ctl apply` leaves unchanged apps alone")),
    elsewhere(CommandLine, "update_env", Nothing("`reuse-ctl apply` reloads an app whose environment in the file has changed")),
    elsewhere(CommandLine, "parallel", Changed("surge", "number of workers that are replaced at the same time")),
    elsewhere(CommandLine, "attach", Nothing("`reuse-ctl logs -f`")),
    elsewhere(CommandLine, "daemon", Nothing("there is no daemon: `run` stays in the foreground, unless `--detach` is given")),
    elsewhere(CommandLine, "wait_ip", Nothing(STARTUP)),
    elsewhere(CommandLine, "hp", Nothing(STARTUP)),
    elsewhere(CommandLine, "service_name", Nothing(STARTUP)),
    elsewhere(CommandLine, "silent", Nothing(DISPLAY)),
    elsewhere(CommandLine, "mini_list", Nothing(DISPLAY)),
    elsewhere(CommandLine, "sort", Nothing(DISPLAY)),
    elsewhere(CommandLine, "color", Nothing("NO_COLOR=1 in the environment")),
    elsewhere(CommandLine, "version", Nothing(DISPLAY)),
];

/// The row of an app's option, by any of its names.
pub(super) fn of_app(name: &str) -> Option<&'static OptionRow> {
    let is_in_apps = |row: &&OptionRow| matches!(row.place, WrittenIn::App | Program | CommandLine);
    TABLE.iter().filter(is_in_apps).find(|row| row.is_called(name))
}

/// The row of an option beside the apps, by any of its names.
pub(super) fn of_top(name: &str) -> Option<&'static OptionRow> {
    TABLE.iter().find(|row| row.place == Top && row.option == name)
}

/// All names of an app's options.
pub(super) fn names_in_apps() -> impl Iterator<Item = &'static str> {
    TABLE
        .iter()
        .filter(|row| row.place == WrittenIn::App)
        .flat_map(|row| std::iter::once(row.option).chain(row.aliases.iter().copied()))
}

/// All names of options beside the apps.
pub(super) fn names_at_top() -> impl Iterator<Item = &'static str> {
    TABLE.iter().filter(|row| row.place == Top).map(|row| row.option)
}

impl OptionRow {
    /// Whether PM2 accepts the option under this name.
    pub fn is_called(&self, name: &str) -> bool {
        match self.option.strip_suffix('*') {
            Some(prefix) => name.len() > prefix.len() && name.starts_with(prefix),
            None => self.option == name || self.aliases.contains(&name) || camel_case(self.option) == name,
        }
    }
}

/// `kill_timeout` → `killTimeout`: the alias that PM2 makes by itself.
fn camel_case(option: &str) -> String {
    let mut words = option.split('_');
    let mut text = words.next().unwrap_or_default().to_owned();
    for word in words {
        // PM2 leaves a word of one letter as it is.
        let (first, rest) = word.split_at(word.len().min(1));
        match rest {
            "" => text += first,
            rest => text += &format!("{}{rest}", first.to_ascii_uppercase()),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_found_by_all_their_names() {
        for (name, option) in [
            ("script", "script"),
            ("exec", "script"),
            ("interpreter", "exec_interpreter"),
            ("interpreterArgs", "node_args"),
            ("nodeArgs", "node_args"),
            ("killTimeout", "kill_timeout"),
            ("env_production", "env_*"),
            ("env", "env"),
            ("user", "uid"),
        ] {
            assert_eq!(of_app(name).map(|row| row.option), Some(option), "{name}");
        }
        assert_eq!(of_app("env_"), None);
        assert_eq!(of_app("deploy"), None);
        assert_eq!(of_top("deploy").map(|row| row.place), Some(Top));
    }

    #[test]
    fn no_name_means_two_things() {
        for row in TABLE.iter().filter(|row| row.place == WrittenIn::App) {
            let camel = camel_case(row.option);
            for name in std::iter::once(row.option)
                .chain([camel.as_str()])
                .chain(row.aliases.iter().copied())
            {
                let owners: Vec<_> = TABLE
                    .iter()
                    .filter(|row| row.place == WrittenIn::App && row.is_called(name))
                    .map(|row| row.option)
                    .collect();
                // `env_*` has a name like any other.
                assert!(owners == [row.option] || name.starts_with("env"), "{name}: {owners:?}");
            }
        }
    }
}
