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
pub enum Place {
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
pub struct Row {
    /// Its name in PM2's schema; `env_*` stands for every name that begins so.
    pub option: &'static str,
    /// Its other names, except its own name in camel case.
    pub aliases: &'static [&'static str],
    /// Where PM2 accepts it.
    pub place: Place,
    /// What becomes of it.
    pub becomes: Becomes,
}

const fn app(option: &'static str, aliases: &'static [&'static str], becomes: Becomes) -> Row {
    Row {
        option,
        aliases,
        place: Place::App,
        becomes,
    }
}

const fn elsewhere(place: Place, option: &'static str, becomes: Becomes) -> Row {
    Row {
        option,
        aliases: &[],
        place,
        becomes,
    }
}

use Becomes::{Changed, Kept, Nothing};
use Place::{CommandLine, Program, Top};

const NOTHING_INSIDE: &str = "nothing is put into the app's process";
const LOG_FILES: &str = "each worker's output goes straight to its own file, rotated by size, or to the journal: `log`, `log_size`, `reuse-ctl logs`";
const RESTARTS: &str = "a worker that ends by itself is always started again, later and later up to 30s; one that crashes again and again without ever being ready is left alone, and `status` says so";
/// For the two options that make an app a job.
pub(super) const JOB: &str = "with `autorestart: false` and `cron_restart` it is a job that runs and ends: use cron or a systemd timer, and take it out of the file";
const AUTORESTART: &str = "a worker that ends by itself is always started again, later and later up to 30s; a job that runs and ends (`autorestart: false` with `cron_restart`) is for cron or a systemd timer";
const CONTAINER: &str = "PM2 itself has no containers any more; docs/containers.md has ours";
const STARTUP: &str = "it is for `pm2 startup`: `reuse-ctl unit` prints a systemd unit";
const DISPLAY: &str = "it is for what PM2's own commands print";

/// The table.
#[rustfmt::skip]
pub const TABLE: &[Row] = &[
    // What runs
    app("name", &[], Kept("name")),
    app("script", &["exec", "cmd", "command"], Kept("command")),
    app("args", &[], Kept("command")),
    app("exec_interpreter", &["interpreter"], Kept("command")),
    app("node_args", &["interpreterArgs", "interpreter_args"], Kept("command")),
    app("cwd", &[], Kept("cwd")),
    app("instances", &[], Kept("workers")),
    app("exec_mode", &[], Nothing("all workers share one port, whatever they are written in, and the app needs no cluster module for it")),
    app("uid", &["user"], Changed("user", "with all groups of that user")),
    app("gid", &[], Nothing("workers have the groups of their user")),
    app("username", &[], Nothing("PM2 sets it itself")),
    app("namespace", &[], Nothing("an app has a controller of its own; name apps so that they are told apart")),
    app("name_prefix", &[], Nothing("PM2 sets it for its modules; write the whole `name`")),
    app("append_env_to_name", &[], Nothing("the name is what `name` says in every environment")),
    app("port", &[], Changed("env", "it is PORT in the environment, as under PM2")),
    // Environment
    app("env", &[], Kept("env")),
    app("env_file", &[], Changed("env_file", "PM2 reads no such file; here its variables are there, under those of `env`")),
    app("env_*", &[], Kept("env.*")),
    app("filter_env", &[], Nothing("workers have the environment of `reuse-ctl run`: start it by `env -i` or a systemd unit")),
    app("increment_var", &[], Kept("increment_var")),
    app("instance_var", &[], Changed("increment_var", "NODE_APP_INSTANCE and REUSE_WORKER_ID are there as well")),
    // Start, readiness, end
    app("wait_ready", &[], Changed("ready", "\"ipc\": a worker that is not ready in time has failed; PM2 calls it online all the same")),
    app("listen_timeout", &[], Changed("ready_timeout", "a worker that is not ready by then has failed, and the old one stays; PM2 calls it online")),
    app("kill_timeout", &[], Kept("stop_timeout")),
    app("kill_retry_time", &[], Nothing("the end of a process is an event here: nobody asks again and again")),
    app("shutdown_with_message", &[], Kept("stop_message")),
    app("treekill", &[], Nothing("a worker's whole cgroup ends with it, so no orphan survives")),
    app("autostart", &[], Nothing("an app in the file is an app that runs: comment it out")),
    // Restarts
    app("autorestart", &[], Nothing(AUTORESTART)),
    app("stop_exit_codes", &[], Nothing(RESTARTS)),
    app("max_restarts", &[], Nothing(RESTARTS)),
    app("min_uptime", &[], Nothing(RESTARTS)),
    app("restart_delay", &[], Nothing(RESTARTS)),
    app("exp_backoff_restart_delay", &[], Nothing(RESTARTS)),
    app("max_memory_restart", &[], Changed("max_memory", "the new worker is ready before the old one ends, so nothing is lost")),
    app("cron_restart", &["cron"], Changed("cron", "one worker after the other, and nothing is lost; PM2 restarts them all at once")),
    app("watch", &[], Changed("watch", "one worker after the other; node_modules and what begins with a dot never count")),
    app("ignore_watch", &[], Changed("watch_ignore", "globs, relative to the working folder; of regular expressions only plain words")),
    app("watch_delay", &[], Kept("watch_delay")),
    app("watch_options", &[], Nothing("they are for the library that PM2 watches files with")),
    app("force", &[], Nothing("apps are told apart by their names, so the same script may run in several")),
    // Output
    app("out_file", &["out", "output", "out_log"], Nothing(LOG_FILES)),
    app("error_file", &["error", "err", "err_file", "err_log"], Nothing(LOG_FILES)),
    app("log_file", &["log"], Nothing(LOG_FILES)),
    app("disable_logs", &[], Nothing("log files are bounded by `log_size` and `log_keep`; what is not written is not kept")),
    app("log_type", &[], Nothing("`reuse-ctl logs --json` gives any app's lines as JSON")),
    app("log_date_format", &[], Nothing("`reuse-ctl logs --json` gives each line with its time; nothing is put in front of the app's own lines")),
    app("time", &[], Nothing("`reuse-ctl logs --json` gives each line with its time; nothing is put in front of the app's own lines")),
    app("merge_logs", &["combine_logs"], Nothing("each worker has its own file, and `reuse-ctl logs` shows them all together")),
    app("pid_file", &["pid"], Nothing("`reuse-ctl status --json` has the process ids")),
    // What PM2 puts into the process, or does besides
    app("source_map_support", &[], Changed("command", "Node's own --enable-source-maps, if it is asked for")),
    app("disable_source_map_support", &[], Nothing(NOTHING_INSIDE)),
    app("pmx", &[], Nothing(NOTHING_INSIDE)),
    app("automation", &[], Nothing(NOTHING_INSIDE)),
    app("trace", &[], Nothing(NOTHING_INSIDE)),
    app("disable_trace", &[], Nothing(NOTHING_INSIDE)),
    app("v8", &[], Nothing(NOTHING_INSIDE)),
    app("event_loop_inspector", &[], Nothing(NOTHING_INSIDE)),
    app("deep_monitoring", &[], Nothing(NOTHING_INSIDE)),
    app("io", &[], Nothing(NOTHING_INSIDE)),
    app("vizion", &[], Nothing("no version control is looked at")),
    app("post_update", &[], Nothing("it belongs to PM2's paid dashboard")),
    app("install_url", &[], Nothing("PM2 sets it for its modules")),
    app("execute_command", &[], Nothing("every command is executed as it is")),
    app("write", &[], Nothing("the configuration is the file that you are being given")),
    app("windowsHide", &[], Nothing("there are no windows here")),
    // Beside the apps
    elsewhere(Top, "apps", Kept("app")),
    elsewhere(Top, "pm2", Kept("app")),
    elsewhere(Top, "deploy", Nothing("copying to other machines is not its job: your tool does that, then `reuse-ctl apply -f reuse.toml` over ssh")),
    elsewhere(Top, "static", Nothing("PM2's own server of files is not here: any other can be an app's `command`")),
    // pm2.start({…})
    elsewhere(Program, "container", Nothing(CONTAINER)),
    elsewhere(Program, "dist", Nothing(CONTAINER)),
    elsewhere(Program, "image_name", Nothing(CONTAINER)),
    elsewhere(Program, "node_version", Nothing(CONTAINER)),
    elsewhere(Program, "fresh", Nothing(CONTAINER)),
    elsewhere(Program, "dockerdaemon", Nothing(CONTAINER)),
    // pm2 … --option
    elsewhere(CommandLine, "ext", Changed("watch_ignore", "globs say what does not count")),
    elsewhere(CommandLine, "only", Nothing("`reuse-ctl apply` leaves alone what has not changed")),
    elsewhere(CommandLine, "update_env", Nothing("`reuse-ctl apply` reloads an app whose environment has changed in the file")),
    elsewhere(CommandLine, "parallel", Changed("surge", "how many workers are replaced at the same time")),
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
pub(super) fn of_app(name: &str) -> Option<&'static Row> {
    let is_in_apps = |row: &&Row| matches!(row.place, Place::App | Program | CommandLine);
    TABLE.iter().filter(is_in_apps).find(|row| row.is_called(name))
}

/// The row of an option beside the apps, by any of its names.
pub(super) fn of_top(name: &str) -> Option<&'static Row> {
    TABLE.iter().find(|row| row.place == Top && row.option == name)
}

/// All names of an app's options.
pub(super) fn names_in_apps() -> impl Iterator<Item = &'static str> {
    TABLE
        .iter()
        .filter(|row| row.place == Place::App)
        .flat_map(|row| std::iter::once(row.option).chain(row.aliases.iter().copied()))
}

/// All names of options beside the apps.
pub(super) fn names_at_top() -> impl Iterator<Item = &'static str> {
    TABLE.iter().filter(|row| row.place == Top).map(|row| row.option)
}

impl Row {
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
        for row in TABLE.iter().filter(|row| row.place == Place::App) {
            let camel = camel_case(row.option);
            for name in std::iter::once(row.option)
                .chain([camel.as_str()])
                .chain(row.aliases.iter().copied())
            {
                let owners: Vec<_> = TABLE
                    .iter()
                    .filter(|row| row.place == Place::App && row.is_called(name))
                    .map(|row| row.option)
                    .collect();
                // `env_*` has a name like any other.
                assert!(owners == [row.option] || name.starts_with("env"), "{name}: {owners:?}");
            }
        }
    }
}
