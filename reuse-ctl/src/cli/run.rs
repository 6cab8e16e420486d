//! `run`: from the arguments to checked [`RunOptions`], and on to the supervisor, here or in the background.

use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;
use reuse_common::Policy;

use super::{Context, Failure, args, detach};
use crate::api::commands::{self, MAX_WORKERS};
use crate::process::paths::MAX_NAME_LEN;
use crate::supervisor::interface::{HealthRules, HungRules};

pub use args::WhenEmpty;

/// An app that is to run: everything the person said, checked as far as that goes without looking at the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunOptions {
    /// The app's name: letters, digits, `.`, `_`, `-`.
    pub name: String,
    /// How many slots, 1…256.
    pub workers: u16,
    /// How workers are chosen.
    pub policy: Policy,
    /// The service ports; empty: every TCP port that a worker binds.
    pub ports: Vec<u16>,
    /// The listeners to hand over, with ports other than 0.
    pub listen: Vec<SocketAddr>,
    /// What happens to connections while nobody is published.
    pub when_empty: WhenEmpty,
    /// Whom the workers run as; absent: the user behind sudo, else the caller.
    pub user: Option<String>,
    /// How long connections may take to end.
    pub drain_timeout: Duration,
    /// Asks a worker to end.
    pub stop_signal: Signal,
    /// How long a worker without connections may take to end.
    pub stop_timeout: Duration,
    /// How long a worker may take until it listens.
    pub ready_timeout: Duration,
    /// What is done about hung workers.
    pub hung: HungRules,
    /// How workers are checked; absent: not at all.
    pub health: Option<HealthOptions>,
    /// The group that may use the control socket, too.
    pub control_group: Option<String>,
    /// The policy `sticky`.
    pub sticky: StickyOptions,
    /// 0: what happens to workers; 1: more; 2: also what the kernel program decides.
    pub verbosity: u8,
    /// Left in the background by `--detach`.
    pub detached: bool,
    /// The command and its arguments; never empty.
    pub command: Vec<OsString>,
}

/// How the health of workers is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthOptions {
    /// What is asked.
    pub check: HealthCheck,
    /// Between two checks of one worker, 10 ms or more.
    pub interval: Duration,
    /// How long one may take.
    pub timeout: Duration,
    /// How many decide.
    pub rules: HealthRules,
}

/// `--health`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HealthCheck {
    /// It accepts a connection.
    Tcp,
    /// It answers GET of this path with a status below 400.
    Http(String),
}

/// What `sticky` remembers of clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StickyOptions {
    /// So many leading bits of an IPv4 address are one client, 1…32.
    pub prefix4: u8,
    /// So many leading bits of an IPv6 address are one client, 1…128.
    pub prefix6: u8,
    /// A client that was not seen for so long is forgotten.
    pub ttl: Duration,
    /// How many clients are remembered at most.
    pub capacity: u32,
}

/// More checks than a hundred per second and worker would be a load, not a check.
const MIN_HEALTH_INTERVAL: Duration = Duration::from_millis(10);

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
    let wants_detach = arguments.detach && !arguments.detached;
    let options = resolve(arguments)?;
    super::require_root("run")?;
    if wants_detach {
        detach::run(context, &options, raw)
    } else {
        crate::supervisor::run(options)
    }
}

/// Checks what clap let through.
///
/// # Errors
/// Usage, each with what would have been right.
pub fn resolve(arguments: args::Run) -> Result<RunOptions, Failure> {
    let hung = HungRules {
        hung_after_ms: milliseconds(arguments.hung_after),
        rescue_after_ms: milliseconds(arguments.rescue_after),
        replace_after_ms: arguments.replace_hung_after.map(milliseconds),
        at_most_percent: arguments.max_hung,
    };
    let health = health_options(&arguments)?;
    let args::Run {
        name,
        workers,
        policy,
        mut ports,
        mut listen,
        when_empty,
        user,
        ..
    } = arguments;
    let args::Run {
        drain_timeout,
        stop_signal,
        stop_timeout,
        ready_timeout,
        control_group,
        ..
    } = arguments;
    let args::Run {
        sticky_prefix4,
        sticky_prefix6,
        sticky_ttl,
        sticky_capacity,
        ..
    } = arguments;
    let args::Run {
        verbose,
        detached,
        command,
        ..
    } = arguments;
    let name = match name {
        Some(name) => checked_name(name)?,
        None => default_name(command.first().map_or(OsStr::new(""), |program| program))?,
    };
    if let Some(address) = listen.iter().find(|address| address.port() == 0) {
        return Err(Failure::usage(
            format!("--listen {address}: port 0 is no port"),
            "say the port that clients know",
        ));
    }
    ports.sort_unstable();
    ports.dedup();
    listen.sort_unstable();
    listen.dedup();
    let sticky = StickyOptions {
        prefix4: sticky_prefix4,
        prefix6: sticky_prefix6,
        ttl: sticky_ttl,
        capacity: sticky_capacity,
    };
    Ok(RunOptions {
        name,
        workers: worker_count(&workers)?,
        policy: commands::policy_named(&policy)?,
        ports,
        listen,
        when_empty,
        user,
        drain_timeout,
        stop_signal: signal_named(&stop_signal)?,
        stop_timeout,
        ready_timeout,
        hung,
        health,
        control_group,
        sticky,
        verbosity: verbose,
        detached,
        command,
    })
}

fn health_options(arguments: &args::Run) -> Result<Option<HealthOptions>, Failure> {
    let Some(health) = &arguments.health else {
        return Ok(None);
    };
    let check = match health.as_str() {
        "tcp" => HealthCheck::Tcp,
        path if commands::check_path(path).is_ok() => HealthCheck::Http(path.to_owned()),
        other => {
            return Err(Failure::usage(
                format!("--health {other} is no check"),
                "say `tcp`, or a path like /health",
            ));
        }
    };
    if arguments.health_interval < MIN_HEALTH_INTERVAL || arguments.health_timeout.is_zero() {
        return Err(Failure::usage(
            "--health-interval is at least 10ms, and --health-timeout more than nothing",
            "say `--health-interval 2s --health-timeout 1s`",
        ));
    }
    Ok(Some(HealthOptions {
        check,
        interval: arguments.health_interval,
        timeout: arguments.health_timeout,
        rules: HealthRules {
            fails: arguments.health_fails,
            passes: arguments.health_passes,
        },
    }))
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn worker_count(text: &str) -> Result<u16, Failure> {
    if text == "max" {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        return Ok(u16::try_from(processors).unwrap_or(MAX_WORKERS).min(MAX_WORKERS));
    }
    let hint = format!("say a number from 1 to {MAX_WORKERS}, or `max` for one per processor");
    match text.parse() {
        Ok(count @ 1..=MAX_WORKERS) => Ok(count),
        Ok(_) => Err(Failure::usage(format!("--workers {text} is out of range"), hint)),
        Err(_) => Err(Failure::usage(
            format!("--workers {text} is not a number of workers"),
            hint,
        )),
    }
}

/// `SIGTERM`, `TERM`, `term` or `15`.
fn signal_named(text: &str) -> Result<Signal, Failure> {
    let upper = text.to_ascii_uppercase();
    let by_number = text
        .parse::<i32>()
        .ok()
        .and_then(|number| Signal::try_from(number).ok());
    let by_name = || {
        if upper.starts_with("SIG") {
            upper.parse()
        } else {
            format!("SIG{upper}").parse()
        }
    };
    by_number.or_else(|| by_name().ok()).ok_or_else(|| {
        Failure::usage(
            format!("--stop-signal {text} is no signal"),
            "say one like SIGTERM, SIGINT or SIGQUIT",
        )
    })
}

fn checked_name(name: String) -> Result<String, Failure> {
    super::apps::paths_of(&name).map(|_| name)
}

/// The command's file name, with what a name can't have replaced.
fn default_name(program: &OsStr) -> Result<String, Failure> {
    let file = Path::new(program).file_name().unwrap_or_default().to_string_lossy();
    let name: String = file
        .chars()
        .map(|letter| if is_name_character(letter) { letter } else { '-' })
        .collect();
    let name: String = name.trim_start_matches(['.', '-']).chars().take(MAX_NAME_LEN).collect();
    checked_name(name).map_err(|_| {
        Failure::usage(
            format!("{} gives the app no name", program.display()),
            "give it one: `--name APP`",
        )
    })
}

fn is_name_character(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_' | '-')
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::api::types::ErrorKind;

    fn resolved(line: &str) -> Result<RunOptions, Failure> {
        let arguments = args::Arguments::try_parse_from(line.split(' ')).map_err(|error| Failure::from(&error))?;
        let args::Verb::Run(arguments) = arguments.verb else {
            panic!("{line} is not a run")
        };
        resolve(*arguments)
    }

    #[test]
    fn defaults_are_those_of_the_contract() {
        let options = resolved("reuse-ctl run -- ./bin/server --port 1 -d").expect("right");
        let expected = RunOptions {
            name: "server".into(),
            workers: 1,
            policy: Policy::LeastLoaded,
            ports: vec![],
            listen: vec![],
            when_empty: WhenEmpty::Park,
            user: None,
            drain_timeout: Duration::from_secs(30),
            stop_signal: Signal::SIGTERM,
            stop_timeout: Duration::from_secs(10),
            ready_timeout: Duration::from_secs(30),
            hung: HungRules {
                hung_after_ms: 50,
                rescue_after_ms: 10,
                replace_after_ms: None,
                at_most_percent: 50,
            },
            health: None,
            control_group: None,
            sticky: StickyOptions {
                prefix4: 32,
                prefix6: 64,
                ttl: Duration::from_secs(3600),
                capacity: 65_536,
            },
            verbosity: 0,
            detached: false,
            command: vec!["./bin/server".into(), "--port".into(), "1".into(), "-d".into()],
        };
        assert_eq!(options, expected);
    }

    #[test]
    fn everything_can_be_said() {
        let options = resolved(
            "reuse-ctl run --name my.app_1 --workers 256 --policy sticky --port 81 --port 80 --port 80 --listen [::1]:443 \
             --when-empty refuse --user www --drain-timeout 2m --stop-signal int --stop-timeout 500ms --ready-timeout 1s \
             --hung-after 0s --rescue-after 1s --replace-hung-after 5s --max-hung 100 \
             --health /up?deep=1 --health-interval 10s --health-timeout 3s --health-fails 1 --health-passes 5 \
             --control-group ops --sticky-prefix4 24 --sticky-prefix6 56 --sticky-ttl 5m --sticky-capacity 10 -vv -- x",
        )
        .expect("right");
        assert_eq!(
            (options.name.as_str(), options.workers, options.policy),
            ("my.app_1", 256, Policy::Sticky)
        );
        assert_eq!(
            (options.ports, options.listen),
            (vec![80, 81], vec!["[::1]:443".parse().expect("an address")])
        );
        assert_eq!(
            (options.when_empty, options.stop_signal),
            (WhenEmpty::Refuse, Signal::SIGINT)
        );
        assert_eq!(
            (options.drain_timeout, options.stop_timeout),
            (Duration::from_secs(120), Duration::from_millis(500))
        );
        assert_eq!(
            (options.sticky.prefix4, options.sticky.prefix6, options.sticky.capacity),
            (24, 56, 10)
        );
        assert_eq!((options.verbosity, options.control_group.as_deref()), (2, Some("ops")));
        assert_eq!(
            options.hung,
            HungRules {
                hung_after_ms: 0,
                rescue_after_ms: 1000,
                replace_after_ms: Some(5000),
                at_most_percent: 100
            }
        );
        assert_eq!(
            options.health,
            Some(HealthOptions {
                check: HealthCheck::Http("/up?deep=1".into()),
                interval: Duration::from_secs(10),
                timeout: Duration::from_secs(3),
                rules: HealthRules { fails: 1, passes: 5 }
            })
        );
        assert!(resolved("reuse-ctl run --workers max -- x").expect("right").workers >= 1);
    }

    #[test]
    fn nonsense_is_a_usage_error_with_a_way_out() {
        for (options, error) in [
            ("--workers 0", "--workers 0 is out of range"),
            ("--workers 257", "--workers 257 is out of range"),
            ("--workers -1", "--workers -1 is not a number of workers"),
            ("--workers many", "--workers many is not a number of workers"),
            ("--policy random", "there is no policy \"random\""),
            ("--name a/b", "the app's name \"a/b\" has a '/' in it"),
            ("--name ..", "the app's name \"..\" begins with a dot"),
            ("--listen 127.0.0.1:0", "--listen 127.0.0.1:0: port 0 is no port"),
            ("--stop-signal SIGNAL", "--stop-signal SIGNAL is no signal"),
            ("--health nonsense", "--health nonsense is no check"),
            ("--health http://x/", "--health http://x/ is no check"),
            (
                "--health tcp --health-interval 9ms",
                "--health-interval is at least 10ms, and --health-timeout more than nothing",
            ),
            (
                "--health /up --health-timeout 0s",
                "--health-interval is at least 10ms, and --health-timeout more than nothing",
            ),
        ] {
            let failure = resolved(&format!("reuse-ctl run {options} -- x")).expect_err(options);
            assert_eq!((failure.kind, failure.error.as_str()), (ErrorKind::Usage, error));
            assert!(!failure.hint.is_empty(), "{options}");
        }
        for options in [
            "--port 0",
            "--port 65536",
            "--drain-timeout 30",
            "--sticky-prefix4 33",
            "--when-empty wait",
            "--max-hung 101",
            "--max-hung -1",
            "--hung-after 50",
            "--health-fails 0",
            "--nonsense",
        ] {
            let failure = resolved(&format!("reuse-ctl run {options} -- x")).expect_err(options);
            assert_eq!(failure.kind, ErrorKind::Usage, "{options}");
            assert!(
                !failure.error.contains('\n') && !failure.error.is_empty() && !failure.hint.is_empty(),
                "{failure:?}"
            );
        }
        assert_eq!(
            resolved("reuse-ctl run --workers 2").expect_err("no command").kind,
            ErrorKind::Usage
        );
    }

    #[test]
    fn names_come_from_the_command() {
        for (program, name) in [
            ("bun", "bun"),
            ("/usr/bin/python3.11", "python3.11"),
            ("./.hidden server", "hidden-server"),
        ] {
            assert_eq!(default_name(OsStr::new(program)).as_deref(), Ok(name));
        }
        for program in ["/", "..", ""] {
            assert_eq!(
                default_name(OsStr::new(program)).expect_err(program).kind,
                ErrorKind::Usage
            );
        }
    }
}
