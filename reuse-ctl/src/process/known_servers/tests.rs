//! Which servers are recognised, what is suggested, and that the manual says the same.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::*;
use crate::base::manual::assert_has_table;

fn words(line: &str) -> Vec<OsString> {
    let words = shell_words::split(line).expect("closed quotes");
    words.into_iter().map(OsString::from).collect()
}

fn name(line: &str) -> Option<&'static str> {
    find(&words(line)).map(|server| server.name)
}

#[test]
fn a_server_is_recognised_behind_what_starts_it() {
    for (line, expected) in [
        ("nginx -g 'daemon off;'", Some("nginx")),
        ("/usr/sbin/nginx -c x.conf", Some("nginx")),
        ("nice -n 5 env -u HOME A=1 B=2 nginx", Some("nginx")),
        ("taskset 0x3 nginx", Some("nginx")),
        ("taskset -c 0,2-3 nginx", Some("nginx")),
        (
            "sh -c 'prefix=/tmp/$$; mkdir -p $prefix && exec nginx -p \"$prefix\"'",
            Some("nginx"),
        ),
        ("bash -ec 'exec gunicorn app:app'", Some("gunicorn")),
        ("sh -c 'nginx; true'", None),
        ("sh -c 'exec nginx; true'", None),
        ("sh -c 'echo exec nginx'", None),
        ("sh run.sh", None),
        ("python3 -m gunicorn app:app", Some("gunicorn")),
        ("python3.11 -X dev -u venv/bin/gunicorn app:app", Some("gunicorn")),
        ("python3 -c 'import gunicorn'", None),
        ("python3 server.py", None),
        ("python3", None),
        ("venv/bin/uvicorn --workers 2 app:app", Some("uvicorn")),
        ("ruby -I lib /usr/bin/unicorn -c x.rb", Some("unicorn")),
        ("bundle exec puma -C config.rb", Some("puma")),
        ("bundle install", None),
        ("php-fpm8.2 -F", Some("php-fpm")),
        ("php8.2 -S 127.0.0.1:80", Some("PHP's own server")),
        ("php worker.php", None),
        ("deno serve main.ts", Some("deno serve")),
        ("deno run serve", None),
        ("node nginx", None),
        ("", None),
    ] {
        assert_eq!(name(line), expected, "{line}");
    }
}

#[test]
fn options_tell_ways_to_run_apart() {
    let term = |line: &str| find(&words(line)).map(|server| server.finishes(Signal::SIGTERM));
    let (all, read) = (
        Some(Answer::Finishes {
            within: Some(Duration::from_secs(30)),
        }),
        Some(Answer::FinishesRead {
            within: Some(Duration::from_secs(30)),
        }),
    );
    for (line, expected) in [
        ("gunicorn -k gthread app", all),
        ("gunicorn --worker-class=sync app", all),
        ("gunicorn app", read),
        ("gunicorn -c conf.py app", read),
        ("gunicorn -k uvicorn.workers.UvicornWorker app", read),
        ("gunicorn -k uvicorn_worker.UvicornWorker app", read),
        ("gunicorn -k gevent app", None),
        ("hypercorn -w 2 app", Some(Answer::Cuts)),
        ("hypercorn --workers=2 app", Some(Answer::Cuts)),
        ("hypercorn -w2 app", Some(Answer::Cuts)),
    ] {
        assert_eq!(term(line), expected, "{line}");
    }
    assert_eq!(name("hypercorn -w 1 app"), Some("hypercorn"));
    assert_eq!(name("hypercorn app -- -w 2"), Some("hypercorn"));
    assert_eq!(name("hypercorn -w 3 -w 1 app"), Some("hypercorn"), "the last counts");
}

#[test]
fn a_signal_is_suggested_only_where_it_loses_less() {
    let suggest = |line, signal| suggestion(&words(line), signal);
    assert_eq!(
        suggest("nginx", Signal::SIGTERM).as_deref(),
        Some("nginx drops requests on SIGTERM; `--stop-signal SIGQUIT` lets it finish them")
    );
    assert_eq!(
        suggest("uwsgi --ini x", Signal::SIGTERM).as_deref(),
        Some(
            "uWSGI drops requests on SIGTERM; `uwsgi --master --hook-master-start 'unix_signal:15 gracefully_kill_them_all'` \
             lets it finish them, and end (without, it starts anew)"
        )
    );
    for (line, signal) in [
        ("nginx", Signal::SIGQUIT),
        ("nginx", Signal::SIGUSR2),
        ("gunicorn app", Signal::SIGTERM),
        ("daphne app", Signal::SIGTERM),
        ("node server.js", Signal::SIGTERM),
    ] {
        assert_eq!(suggest(line, signal), None, "{line}");
    }
}

#[test]
fn every_row_can_be_reached_and_says_something() {
    for row in ROWS {
        assert!(!row.signals.is_empty() && !row.tried.is_empty(), "{}", row.name);
        assert!(row.documented.starts_with("https://"), "{}", row.name);
        let signals: BTreeSet<_> = row.signals.iter().map(|(signal, _)| signal.as_str()).collect();
        assert_eq!(signals.len(), row.signals.len(), "{} names a signal twice", row.name);
        assert!(
            row.signals.iter().all(|(_, answer)| *answer != Answer::Unknown),
            "{}",
            row.name
        );
        assert_eq!(row.finishes(Signal::SIGUSR2), Answer::Unknown);
    }
}

#[test]
fn the_manual_has_the_stop_signals() {
    assert_has_table("stop-signals.md", &manual_table(), "known_servers/rows.rs");
}

fn manual_table() -> String {
    let mut text =
        String::from("| server | recognised as | finishes on | drops requests on | tried |\n|---|---|---|---|---|\n");
    for row in ROWS {
        let (mut finishes, mut cuts) = (Vec::new(), Vec::new());
        for (signal, answer) in row.signals {
            match answer {
                Answer::Finishes { within } => finishes.push(format!("**{signal}**{}", limit(*within))),
                Answer::FinishesRead { within } => {
                    finishes.push(format!("{signal}{}, what it has read", limit(*within)));
                }
                Answer::Cuts => cuts.push(signal.to_string()),
                Answer::Unknown => unreachable!("no row says so"),
            }
        }
        let advice = row.advice.filter(|_| finishes.is_empty());
        let finishes = match advice {
            Some(advice) => format!("none; {advice}"),
            None if finishes.is_empty() => "none".to_owned(),
            None => finishes.join("; "),
        };
        let cuts = if cuts.is_empty() {
            "–".to_owned()
        } else {
            cuts.join(", ")
        };
        writeln!(
            text,
            "| [{}]({}) | {} | {finishes} | {cuts} | {} |",
            row.name,
            row.documented,
            row.recognised.words().replace('|', "\\|"),
            row.tried,
        )
        .expect("a string takes everything");
    }
    text
}

fn limit(within: Option<Duration>) -> String {
    within.map_or_else(String::new, |within| format!(" (up to {} s)", within.as_secs()))
}
