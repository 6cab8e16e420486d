//! From the arguments of `run` to checked [`RunOptions`].

use std::{ffi::OsStr, time::Duration};

use nix::sys::signal::Signal;
use reuse_machine::interface::{HealthRules, HungRules, MAX_WORKERS, Surge};

use super::{
    arguments::Run,
    bounds,
    names::{checked_name, default_name},
    options::{
        HealthCheck, HealthOptions, LogOptions, ReadyKind, ReadyOptions, RecycleOptions, RolloutOptions, RunOptions,
        StickyOptions, StopOptions, WatchOptions,
    },
    recycling,
    spec::AppSpec,
    words::{check_path, policy_named},
};
use crate::{
    base::{Failure, whole_ms::whole_ms},
    process::{
        cgroup_limits::LimitOptions,
        variables::{EnvironmentOptions, Increment},
    },
};

/// The default stop signal and stop timeout.
const STOP: (Signal, Duration) = (Signal::SIGTERM, Duration::from_secs(10));

/// The same with `--pm2-compat`.
const PM2_STOP: (Signal, Duration) = (Signal::SIGINT, Duration::from_millis(1600));

/// More than a hundred checks per second and worker would be a load, not a check.
const MIN_HEALTH_INTERVAL: Duration = Duration::from_millis(10);

/// Checks what clap has accepted.
///
/// # Errors
/// Usage, with a value that would be right.
pub fn resolve(arguments: Run) -> Result<RunOptions, Failure> {
    let hung = HungRules {
        hung_after_ms: whole_ms(arguments.hung_after),
        rescue_after_ms: whole_ms(arguments.rescue_after),
        replace_after_ms: arguments.replace_hung_after.map(whole_ms),
        at_most_percent: arguments.max_hung,
    };
    let options = RunOptions {
        name: match arguments.name.clone() {
            Some(name) => checked_name(name)?,
            None => default_name(arguments.command.first().map_or(OsStr::new(""), |program| program))?,
        },
        workers: worker_count(&arguments.workers)?,
        policy: policy_named(&arguments.policy)?,
        ports: sorted(&arguments.ports),
        listen: sorted(&arguments.listen),
        when_empty: arguments.when_empty,
        user: arguments.user.clone(),
        ready: ReadyOptions {
            kind: ready_kind(&arguments.ready)?,
            timeout: arguments.ready_timeout,
        },
        stop: stop_options(&arguments)?,
        rollout: RolloutOptions {
            settle: arguments.settle,
            surge: surge(&arguments.surge)?,
        },
        hung,
        health: health_options(&arguments)?,
        recycle: RecycleOptions {
            max_memory_bytes: arguments.max_memory,
            max_age: arguments.max_age,
            max_connections: arguments.max_connections,
            cron: arguments.cron.clone(),
            watch: watch_options(&arguments),
        },
        limits: LimitOptions {
            memory_bytes: arguments.memory_limit,
            cpu_percent: arguments.cpu_limit,
        },
        logs: LogOptions {
            target: arguments.log,
            max_bytes: arguments.log_size,
            keep: arguments.log_keep,
        },
        environment: EnvironmentOptions {
            files: arguments.env_file.clone(),
            variables: Vec::new(),
            increment: arguments.increment_var.as_deref().map(increment).transpose()?,
            port_step: arguments.port_step,
            pm2_names: arguments.pm2_compat,
        },
        control_group: arguments.control_group,
        sticky: StickyOptions {
            prefix4: arguments.sticky_prefix4,
            prefix6: arguments.sticky_prefix6,
            ttl: arguments.sticky_ttl,
            capacity: arguments.sticky_capacity,
        },
        verbosity: arguments.verbose,
        detached: arguments.detached,
        alone: arguments.alone,
        cwd: arguments.cwd,
        command: arguments.command,
        spec: AppSpec::default(),
    };
    bounds::check(&options)?;
    recycling::check(&options.recycle).map_err(|error| Failure::usage(error.to_string(), error.hint()))?;
    match options.listen.iter().find(|address| address.port() == 0) {
        Some(address) => Err(Failure::usage(
            format!("--listen {address}: port 0 is not a port"),
            "give the port that clients use",
        )),
        None => Ok(options),
    }
}

fn sorted<T: Ord + Clone>(values: &[T]) -> Vec<T> {
    let mut values = values.to_vec();
    values.sort_unstable();
    values.dedup();
    values
}

fn ready_kind(text: &str) -> Result<ReadyKind, Failure> {
    match text {
        "listener" => Ok(ReadyKind::Listener),
        "ipc" => Ok(ReadyKind::Ipc),
        "notify" => Ok(ReadyKind::Notify),
        "started" => Ok(ReadyKind::Started),
        other => match other.strip_prefix("http:") {
            Some(path) if check_path(path).is_ok() => Ok(ReadyKind::Http(path.to_owned())),
            _ => Err(Failure::usage(
                format!("--ready {other} is not a kind of readiness"),
                "give `listener`, `ipc`, `notify`, `started`, or a path like http:/ready",
            )),
        },
    }
}

/// Uses PM2's defaults with `--pm2-compat`, where no option says otherwise.
fn stop_options(arguments: &Run) -> Result<StopOptions, Failure> {
    let (signal, timeout) = if arguments.pm2_compat { PM2_STOP } else { STOP };
    Ok(StopOptions {
        drain_timeout: arguments.drain_timeout,
        signal: arguments.stop_signal.as_deref().map_or(Ok(signal), signal_named)?,
        kill_mode: arguments.kill_mode,
        message: arguments.stop_message,
        when: arguments.stop_when,
        timeout: arguments.stop_timeout.unwrap_or(timeout),
    })
}

/// Parses `3` or `25%`.
fn surge(text: &str) -> Result<Surge, Failure> {
    let most = |limit: u16| move |number: &u16| (1..=limit).contains(number);
    let surge = match text.strip_suffix('%') {
        Some(percent) => percent.parse().ok().filter(most(100)).map(|percent: u16| {
            let percent = u8::try_from(percent).expect("at most 100");
            Surge::Percent(percent)
        }),
        None => text.parse().ok().filter(most(MAX_WORKERS)).map(Surge::Workers),
    };
    surge.ok_or_else(|| {
        Failure::usage(
            format!("--surge {text}: at least one worker is replaced at a time, and at most {MAX_WORKERS} or 100%"),
            "give one like `--surge 2` or `--surge 25%`",
        )
    })
}

fn watch_options(arguments: &Run) -> Option<WatchOptions> {
    if arguments.watch.is_empty() {
        return None;
    }
    Some(WatchOptions {
        paths: arguments.watch.clone(),
        ignore: arguments.watch_ignore.clone(),
        delay: arguments.watch_delay,
    })
}

/// Parses `NAME` or `NAME=FIRST`.
fn increment(text: &str) -> Result<Increment, Failure> {
    let (name, first) = match text.split_once('=') {
        Some((name, first)) => (name, first.parse().map(Some)),
        None => (text, Ok(None)),
    };
    match first {
        Ok(first) if !name.is_empty() => Ok(Increment {
            name: name.to_owned(),
            first,
        }),
        _ => Err(Failure::usage(
            format!("--increment-var {text} is not a variable"),
            "give one like `PORT` or `PORT=3000`",
        )),
    }
}

fn health_options(arguments: &Run) -> Result<Option<HealthOptions>, Failure> {
    let Some(health) = &arguments.health else {
        return Ok(None);
    };
    let check = match health.as_str() {
        "tcp" => HealthCheck::Tcp,
        path if check_path(path).is_ok() => HealthCheck::Http(path.to_owned()),
        other => {
            return Err(Failure::usage(
                format!("--health {other} is not a health check"),
                "give `tcp`, or a path like /health",
            ));
        }
    };
    if arguments.health_interval < MIN_HEALTH_INTERVAL || arguments.health_timeout.is_zero() {
        return Err(Failure::usage(
            "--health-interval must be at least 10ms, and --health-timeout more than 0s",
            "use `--health-interval 2s --health-timeout 1s`",
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

fn worker_count(text: &str) -> Result<u16, Failure> {
    if text == "max" {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        return Ok(u16::try_from(processors).unwrap_or(MAX_WORKERS).min(MAX_WORKERS));
    }
    let hint = format!("give a number from 1 to {MAX_WORKERS}, or `max` for one per processor");
    match text.parse() {
        Ok(count @ 1..=MAX_WORKERS) => Ok(count),
        Ok(_) => Err(Failure::usage(format!("--workers {text} is out of range"), hint)),
        Err(_) => Err(Failure::usage(
            format!("--workers {text} is not a number of workers"),
            hint,
        )),
    }
}

/// Parses `SIGTERM`, `TERM`, `term` or `15`.
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
            format!("--stop-signal {text} is not a signal"),
            "give one like SIGTERM, SIGINT or SIGQUIT",
        )
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::app::arguments::{RunLine, RunVerb};
    use crate::{
        app::options::{LogTarget, WhenEmpty},
        base::ErrorKind,
    };
    use reuse_common::Policy;

    fn resolved(line: &str) -> Result<RunOptions, Failure> {
        let arguments = RunLine::try_parse_from(line.split(' ')).map_err(|error| Failure::from(&error))?;
        let RunVerb::Run(arguments) = arguments.verb;
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
            ready: ReadyOptions {
                kind: ReadyKind::Listener,
                timeout: Duration::from_secs(30),
            },
            stop: StopOptions {
                drain_timeout: Duration::from_secs(30),
                signal: Signal::SIGTERM,
                kill_mode: None,
                message: false,
                when: None,
                timeout: Duration::from_secs(10),
            },
            rollout: RolloutOptions {
                settle: Duration::from_secs(1),
                surge: Surge::Percent(25),
            },
            recycle: RecycleOptions::default(),
            limits: LimitOptions::default(),
            logs: LogOptions {
                target: LogTarget::File,
                max_bytes: 32 << 20,
                keep: 1,
            },
            environment: EnvironmentOptions::default(),
            cwd: None,
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
            alone: false,
            command: vec!["./bin/server".into(), "--port".into(), "1".into(), "-d".into()],
            spec: AppSpec::default(),
        };
        assert_eq!(options, expected);
    }

    #[test]
    fn everything_can_be_said() {
        let options = resolved(
            "reuse-ctl run --name my.app_1 --workers 256 --policy sticky --port 81 --port 80 --port 80 --listen [::1]:443 \
             --when-empty refuse --user www --drain-timeout 2m --stop-signal int --stop-timeout 500ms --ready-timeout 1s \
             --settle 0s --surge 3 --hung-after 0s --rescue-after 1s --replace-hung-after 5s --max-hung 100 \
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
            (options.when_empty, options.stop.signal),
            (WhenEmpty::Refuse, Signal::SIGINT)
        );
        assert_eq!(
            (options.stop.drain_timeout, options.stop.timeout),
            (Duration::from_secs(120), Duration::from_millis(500))
        );
        assert_eq!(
            (options.sticky.prefix4, options.sticky.prefix6, options.sticky.capacity),
            (24, 56, 10)
        );
        assert_eq!((options.verbosity, options.control_group.as_deref()), (2, Some("ops")));
        assert_eq!(
            options.rollout,
            RolloutOptions {
                settle: Duration::ZERO,
                surge: Surge::Workers(3),
            }
        );
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
            ("--listen 127.0.0.1:0", "--listen 127.0.0.1:0: port 0 is not a port"),
            ("--stop-signal SIGNAL", "--stop-signal SIGNAL is not a signal"),
            ("--ready soon", "--ready soon is not a kind of readiness"),
            ("--ready http:ready", "--ready http:ready is not a kind of readiness"),
            ("--increment-var =3", "--increment-var =3 is not a variable"),
            ("--increment-var A=x", "--increment-var A=x is not a variable"),
            (
                "--surge 0",
                "--surge 0: at least one worker is replaced at a time, and at most 256 or 100%",
            ),
            (
                "--surge 101%",
                "--surge 101%: at least one worker is replaced at a time, and at most 256 or 100%",
            ),
            (
                "--surge half",
                "--surge half: at least one worker is replaced at a time, and at most 256 or 100%",
            ),
            ("--health nonsense", "--health nonsense is not a health check"),
            ("--health http://x/", "--health http://x/ is not a health check"),
            (
                "--health tcp --health-interval 9ms",
                "--health-interval must be at least 10ms, and --health-timeout more than 0s",
            ),
            (
                "--health /up --health-timeout 0s",
                "--health-interval must be at least 10ms, and --health-timeout more than 0s",
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
