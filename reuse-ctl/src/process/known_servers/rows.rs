//! The table. Data only.
//!
//! How each row was tried: the server was started with one or two workers and its default settings. The signal was sent to its main
//! process, and in a second trial to its main process and its workers at once. One request was in flight that took 2 s; one was half sent,
//! on a new connection and on a keep-alive one, and its end came 0.4 s after the signal; one lay unread in a suspended process that was
//! woken by the signal. nginx, HAProxy, unicorn, Caddy, uvicorn and granian also answered a request of 40 s; the limits of the others were
//! observed.

use std::time::Duration;

use nix::sys::signal::Signal::{SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGWINCH};

use super::recognise::{Needs, Recognised};
use super::{Answer, KnownServer};

const fn program(programs: &'static [&'static str]) -> Recognised {
    Recognised { programs, needs: &[] }
}

const fn run_as(programs: &'static [&'static str], needs: &'static [Needs]) -> Recognised {
    Recognised { programs, needs }
}

const fn seconds(seconds: u64) -> Option<Duration> {
    Some(Duration::from_secs(seconds))
}

const CUTS: Answer = Answer::Cuts;
const FINISHES: Answer = Answer::Finishes { within: None };
const FINISHES_READ: Answer = Answer::FinishesRead { within: None };

const GUNICORN: &[&str] = &["gunicorn"];
const GUNICORN_CLASS: &[&str] = &["-k", "--worker-class"];
const GUNICORN_SIGNALS: &str = "https://docs.gunicorn.org/en/stable/signals.html";
const HYPERCORN: &[&str] = &["hypercorn"];
const HYPERCORN_DOCS: &str = "https://hypercorn.readthedocs.io/en/latest/how_to_guides/configuring.html";

/// The first row that matches a command applies.
pub const ROWS: &[KnownServer] = &[
    KnownServer {
        name: "nginx",
        recognised: program(&["nginx"]),
        signals: &[(SIGQUIT, FINISHES), (SIGTERM, CUTS), (SIGINT, CUTS)],
        advice: None,
        tried: "1.22.1",
        documented: "https://nginx.org/en/docs/control.html",
    },
    KnownServer {
        name: "HAProxy",
        recognised: program(&["haproxy"]),
        signals: &[(SIGUSR1, FINISHES), (SIGTERM, CUTS), (SIGINT, CUTS)],
        advice: None,
        tried: "2.6.12, with and without -W",
        documented: "https://docs.haproxy.org/2.6/management.html#4",
    },
    KnownServer {
        name: "Apache httpd",
        recognised: program(&["apache2", "httpd"]),
        signals: &[(SIGWINCH, FINISHES), (SIGTERM, CUTS), (SIGINT, CUTS)],
        advice: None,
        tried: "2.4.67, MPM event, -DFOREGROUND",
        documented: "https://httpd.apache.org/docs/2.4/stopping.html",
    },
    KnownServer {
        name: "lighttpd",
        recognised: program(&["lighttpd"]),
        signals: &[(SIGINT, Answer::Finishes { within: seconds(8) }), (SIGTERM, CUTS)],
        advice: None,
        tried: "1.4.69; `server.graceful-shutdown-timeout` sets the limit",
        documented: "https://redmine.lighttpd.net/projects/lighttpd/wiki/Server_graceful-shutdown-timeoutDetails",
    },
    KnownServer {
        name: "Caddy",
        recognised: program(&["caddy"]),
        signals: &[(SIGTERM, FINISHES_READ), (SIGINT, FINISHES_READ), (SIGQUIT, CUTS)],
        advice: None,
        tried: "2.6.2; a half-read request on a new connection is answered, on a keep-alive one it is not",
        documented: "https://caddyserver.com/docs/command-line#signals",
    },
    KnownServer {
        name: "unicorn",
        recognised: program(&["unicorn", "unicorn_rails"]),
        signals: &[(SIGQUIT, FINISHES), (SIGTERM, CUTS), (SIGINT, CUTS)],
        advice: None,
        tried: "6.0.0; it has no keep-alive connections",
        documented: "https://yhbt.net/unicorn/SIGNALS.html",
    },
    KnownServer {
        name: "puma",
        recognised: program(&["puma"]),
        signals: &[
            (SIGTERM, Answer::Finishes { within: seconds(30) }),
            (SIGINT, Answer::FinishesRead { within: seconds(30) }),
        ],
        advice: None,
        tried: "5.6.5, with and without `-w 2`; `worker_shutdown_timeout` sets the limit, which is for clusters only",
        documented: "https://github.com/puma/puma/blob/master/docs/signals.md",
    },
    KnownServer {
        name: "gunicorn",
        recognised: run_as(GUNICORN, &[Needs::OneOf(GUNICORN_CLASS, &["sync", "gthread"])]),
        signals: &[(SIGTERM, Answer::Finishes { within: seconds(30) })],
        advice: None,
        tried: "20.1.0, 27.0.1; `--graceful-timeout` sets the limit",
        documented: GUNICORN_SIGNALS,
    },
    KnownServer {
        name: "gunicorn with uvicorn's workers",
        recognised: run_as(GUNICORN, &[Needs::Contains(GUNICORN_CLASS, "uvicorn")]),
        signals: &[(SIGTERM, Answer::FinishesRead { within: seconds(30) })],
        advice: None,
        tried: "27.0.1, uvicorn 0.54.0; `--graceful-timeout` sets the limit",
        documented: GUNICORN_SIGNALS,
    },
    // Its configuration file may name another worker class, so the row promises only what every class that was tried keeps.
    KnownServer {
        name: "gunicorn",
        recognised: run_as(GUNICORN, &[Needs::Without(GUNICORN_CLASS)]),
        signals: &[
            (SIGTERM, Answer::FinishesRead { within: seconds(30) }),
            (SIGQUIT, CUTS),
            (SIGINT, CUTS),
        ],
        advice: None,
        tried: "20.1.0, 27.0.1; half-read requests are answered, too, unless a file or GUNICORN_CMD_ARGS names another worker class",
        documented: GUNICORN_SIGNALS,
    },
    KnownServer {
        name: "uvicorn",
        recognised: program(&["uvicorn"]),
        signals: &[(SIGTERM, FINISHES_READ), (SIGINT, FINISHES_READ)],
        advice: None,
        tried: "0.54.0, with and without `--workers 2`",
        documented: "https://www.uvicorn.org/server-behavior/#graceful-process-shutdown",
    },
    KnownServer {
        name: "hypercorn with several workers",
        recognised: run_as(HYPERCORN, &[Needs::Several(&["-w", "--workers"])]),
        signals: &[(SIGTERM, CUTS), (SIGINT, CUTS)],
        advice: Some("with one worker process (without `-w`, and more of `--workers` here) it finishes them"),
        tried: "0.18.0; 0.13.2 finishes them",
        documented: HYPERCORN_DOCS,
    },
    KnownServer {
        name: "hypercorn",
        recognised: program(HYPERCORN),
        signals: &[
            (SIGTERM, Answer::FinishesRead { within: seconds(3) }),
            (SIGINT, Answer::FinishesRead { within: seconds(3) }),
        ],
        advice: None,
        tried: "0.18.0; `--graceful-timeout` sets the limit",
        documented: HYPERCORN_DOCS,
    },
    KnownServer {
        name: "daphne",
        recognised: program(&["daphne"]),
        signals: &[(SIGTERM, CUTS), (SIGINT, CUTS)],
        advice: None,
        tried: "4.0.0, 4.2.3",
        documented: "https://github.com/django/daphne",
    },
    KnownServer {
        name: "waitress",
        recognised: program(&["waitress-serve", "waitress"]),
        signals: &[(SIGINT, Answer::FinishesRead { within: seconds(5) }), (SIGTERM, CUTS)],
        advice: None,
        tried: "3.0.2",
        documented: "https://docs.pylonsproject.org/projects/waitress/",
    },
    KnownServer {
        name: "granian",
        recognised: program(&["granian"]),
        signals: &[(SIGTERM, FINISHES_READ), (SIGINT, FINISHES_READ)],
        advice: None,
        tried: "2.8.9, ASGI and WSGI; a half-read request on a new connection is answered, on a keep-alive one it is not",
        documented: "https://github.com/emmett-framework/granian",
    },
    KnownServer {
        name: "uWSGI",
        recognised: program(&["uwsgi", "uwsgi-core", "uwsgi_python"]),
        signals: &[(SIGTERM, CUTS), (SIGINT, CUTS), (SIGQUIT, CUTS)],
        advice: Some(
            "`uwsgi --master --hook-master-start 'unix_signal:15 gracefully_kill_them_all'` lets it finish them, and end (without, it starts anew)",
        ),
        tried: "2.0.21, --http-socket, with and without --master and --die-on-term",
        documented: "https://uwsgi-docs.readthedocs.io/en/latest/Management.html",
    },
    KnownServer {
        name: "php-fpm",
        recognised: program(&["php-fpm"]),
        signals: &[(SIGQUIT, CUTS), (SIGTERM, CUTS)],
        advice: Some("`process_control_timeout = 30` in php-fpm.conf with `--stop-signal SIGQUIT` lets it finish them"),
        tried: "8.2.31",
        documented: "https://www.php.net/manual/en/install.fpm.configuration.php#process-control-timeout",
    },
    KnownServer {
        name: "PHP's own server",
        recognised: run_as(&["php"], &[Needs::Option(&["-S"])]),
        signals: &[(SIGINT, FINISHES_READ), (SIGTERM, CUTS)],
        advice: None,
        tried: "8.2.31; not with PHP_CLI_SERVER_WORKERS, with which it does not end",
        documented: "https://www.php.net/manual/en/features.commandline.webserver.php",
    },
    KnownServer {
        name: "deno serve",
        recognised: run_as(&["deno"], &[Needs::First("serve")]),
        signals: &[(SIGTERM, FINISHES_READ)],
        advice: None,
        tried: "2.9.6",
        documented: "https://docs.deno.com/runtime/reference/cli/serve/",
    },
    KnownServer {
        name: "PgBouncer",
        recognised: program(&["pgbouncer"]),
        signals: &[(SIGINT, FINISHES_READ), (SIGTERM, CUTS)],
        advice: None,
        tried: "1.18.0, a query of 2 s; from 1.23 on SIGTERM waits for clients, too",
        documented: "https://www.pgbouncer.org/usage.html#signals",
    },
];
