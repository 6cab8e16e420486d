//! The recommendations that follow from a report: options, each with its reason.

use std::ffi::OsString;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde::Serialize;

use super::report::{Fate, Http, Listener, ListenerKind, Report, What};
use crate::app::options::StopOptions;
use crate::base::durations::tenths;

/// A server whose first answer comes this much later than its listener was not ready when it listened.
const SLOW_START_MS: u64 = 500;

/// A recommended option, and the reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Recommendation {
    /// The option, such as `--stop-signal SIGQUIT`; `None` if the server itself should be changed.
    pub option: Option<String>,
    /// The reason, in one line.
    pub reason: String,
}

/// The options in force during the trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InForce<'a> {
    /// How the server was stopped.
    pub stop: &'a StopOptions,
    /// The requested path.
    pub path: &'a str,
    /// Whether `--port` was given.
    pub port_given: bool,
}

/// All recommendations, the most important first. Empty if the defaults are right.
pub(crate) fn recommend(report: &Report, in_force: InForce<'_>) -> Vec<Recommendation> {
    let rules: [fn(&Report, InForce<'_>) -> Option<Recommendation>; 7] =
        [port, slow_start, signal, swallowed, never_ends, at_once, slow_end];
    rules.iter().filter_map(|rule| rule(report, in_force)).collect()
}

/// Whether the signal cuts a request that was sent completely or partly: one got no answer, or no process of the server handles the signal.
pub(crate) fn cuts_requests(report: &Report) -> bool {
    let is_cut = [What::InFlight, What::HalfRead, What::JustSent]
        .into_iter()
        .filter_map(|what| report.fate(what))
        .any(Fate::is_cut);
    let serves_http = match report.http {
        Http::Answered { .. } => true,
        Http::Silent => false,
    };
    is_cut || (serves_http && !report.ending.caught)
}

/// The port that clients use can be recommended only if the others can't be it.
fn port(report: &Report, in_force: InForce<'_>) -> Option<Recommendation> {
    let shared: Vec<&str> = report.shared().map(|listener| listener.address.as_str()).collect();
    let is_private = |listener: &Listener| listener.kind == ListenerKind::Private;
    let has_others = report.listeners.iter().any(is_private);
    match shared.as_slice() {
        _ if in_force.port_given => None,
        [] => None,
        [only] => has_others.then(|| Recommendation {
            option: only.rsplit(':').next().map(|port| format!("--port {port}")),
            reason: "it also listens on a port that the kernel picked, which workers can't share".into(),
        }),
        [_, ..] => Some(Recommendation {
            option: None,
            reason: format!(
                "it listens on {}: name the port that clients use with `--port P`; what is left out is each worker's own",
                shared.join(" and ")
            ),
        }),
    }
}

fn slow_start(report: &Report, in_force: InForce<'_>) -> Option<Recommendation> {
    let Http::Answered {
        first_answer_ms,
        status,
        ..
    } = report.http
    else {
        return None;
    };
    let is_proof = (200..400).contains(&status);
    (first_answer_ms > SLOW_START_MS && is_proof).then(|| Recommendation {
        option: Some(format!("--ready http:{}", in_force.path)),
        reason: format!("its first answer came {first_answer_ms} ms after it listened: wait for an answer instead"),
    })
}

/// A better signal for a known server.
fn signal(report: &Report, in_force: InForce<'_>) -> Option<Recommendation> {
    let command: Vec<OsString> = report.command.iter().map(OsString::from).collect();
    let reason = in_force.stop.suggestion(&command)?;
    let best = crate::process::known_servers::find(&command)?.best_signal();
    Some(Recommendation {
        option: best.map(|(signal, _)| format!("--stop-signal {signal}")),
        reason,
    })
}

/// The started process is not the server, and some process did not end. The signal reaches the server in any case, so requests that were
/// cut are the server's own doing.
fn swallowed(report: &Report, _: InForce<'_>) -> Option<Recommendation> {
    if report.wrappers.is_empty() || !report.ending.killed {
        return None;
    }
    Some(Recommendation {
        option: None,
        reason: format!(
            "it did not end on {}: it is started through {}; start the server itself if you can",
            report.ending.signal,
            report.wrappers.join(" → ")
        ),
    })
}

fn never_ends(report: &Report, in_force: InForce<'_>) -> Option<Recommendation> {
    if !report.ending.killed || !report.wrappers.is_empty() {
        return None;
    }
    let other = match in_force.stop.signal {
        Signal::SIGTERM => Signal::SIGINT,
        _ => Signal::SIGTERM,
    };
    Some(Recommendation {
        option: None,
        reason: format!(
            "it did not end within {} of {}: it waits for connections to close, or ignores the signal; try `--stop-signal {other}`",
            tenths(in_force.stop.timeout + in_force.stop.drain_timeout),
            report.ending.signal
        ),
    })
}

/// If the server finishes everything by itself, waiting before the signal gains nothing.
fn at_once(report: &Report, _: InForce<'_>) -> Option<Recommendation> {
    let finishes = |what| matches!(report.fate(what), Some(Fate::Answered { .. }));
    let does = finishes(What::InFlight) && finishes(What::HalfRead) && !cuts_requests(report) && !report.ending.killed;
    does.then(|| Recommendation {
        option: Some("--stop-when at-once".into()),
        reason: format!(
            "it finishes its requests on {}, so that it need not be waited for first: faster when clients are busy",
            report.ending.signal
        ),
    })
}

fn slow_end(report: &Report, in_force: InForce<'_>) -> Option<Recommendation> {
    let took = Duration::from_millis(report.ending.took_ms);
    (!report.ending.killed && took > in_force.stop.timeout / 2).then(|| Recommendation {
        option: Some(format!("--stop-timeout {}s", (took * 2).as_secs() + 1)),
        reason: format!("it took {} to end", tenths(took)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::tryout::report::{Client, Ending, Left};

    const STOP: StopOptions = StopOptions {
        drain_timeout: Duration::from_secs(10),
        signal: Signal::SIGTERM,
        message: false,
        kill_mode: None,
        when: None,
        timeout: Duration::from_secs(10),
    };

    const DEFAULTS: InForce<'_> = InForce {
        stop: &STOP,
        path: "/",
        port_given: false,
    };

    const ANSWERED: Fate = Fate::Answered {
        status: 200,
        after_ms: 5,
    };

    fn report(command: &str, fate: Fate) -> Report {
        let clients = [What::InFlight, What::HalfRead].map(|what| Client { what, fate });
        Report {
            command: command.split(' ').map(str::to_owned).collect(),
            ready_ms: 100,
            listeners: vec![listener("0.0.0.0:8080", ListenerKind::Shared)],
            wrappers: Vec::new(),
            http: Http::Answered {
                status: 200,
                first_answer_ms: 3,
                keeps_alive: true,
            },
            ending: Ending {
                signal: "SIGTERM".into(),
                caught: true,
                took_ms: 20,
                killed: false,
                how: "exited with code 0".into(),
            },
            clients: clients.to_vec(),
            left: Left::default(),
        }
    }

    fn listener(address: &str, kind: ListenerKind) -> Listener {
        Listener {
            address: address.into(),
            kind,
            program: "x".into(),
        }
    }

    fn options(report: &Report, in_force: InForce<'_>) -> Vec<Option<String>> {
        let all = recommend(report, in_force);
        all.into_iter().map(|recommendation| recommendation.option).collect()
    }

    fn named(option: &str) -> Vec<Option<String>> {
        vec![Some(option.to_owned())]
    }

    #[test]
    fn a_server_that_cuts_needs_nothing_but_the_default() {
        let cuts = report("node server.js", Fate::Reset { after_ms: 3 });
        assert!(cuts_requests(&cuts));
        assert_eq!(recommend(&cuts, DEFAULTS), []);
    }

    #[test]
    fn a_signal_without_a_handler_cuts_whatever_was_seen() {
        let mut uncaught = report("python3 -m http.server", Fate::NotTried);
        assert!(!cuts_requests(&uncaught));
        uncaught.ending.caught = false;
        assert!(cuts_requests(&uncaught));
        uncaught.http = Http::Silent;
        assert!(!cuts_requests(&uncaught));
    }

    #[test]
    fn a_server_that_finishes_may_be_told_at_once() {
        let finishes = report("node server.js", ANSWERED);
        assert_eq!(options(&finishes, DEFAULTS), named("--stop-when at-once"));
        let unknown = report("node server.js", Fate::TooFast);
        assert_eq!(recommend(&unknown, DEFAULTS), []);
    }

    #[test]
    fn a_known_server_has_a_better_signal() {
        let nginx = report("nginx -c x", Fate::Reset { after_ms: 3 });
        assert_eq!(options(&nginx, DEFAULTS), named("--stop-signal SIGQUIT"));
        assert_eq!(
            recommend(&nginx, DEFAULTS)[0].reason,
            "nginx drops requests on SIGTERM; `--stop-signal SIGQUIT` lets it finish them"
        );
        let fpm = report("php-fpm -F", Fate::Reset { after_ms: 3 });
        assert_eq!(options(&fpm, DEFAULTS), [None], "the server itself is to be changed");
    }

    #[test]
    fn what_stands_in_between_is_named_only_if_it_does_harm() {
        let mut wrapped = report("npm start", Fate::Reset { after_ms: 3 });
        wrapped.wrappers = vec!["npm start".into(), "sh".into()];
        assert_eq!(
            recommend(&wrapped, DEFAULTS),
            [],
            "the server gets the signal all the same"
        );
        wrapped.clients.iter_mut().for_each(|client| client.fate = ANSWERED);
        assert_eq!(options(&wrapped, DEFAULTS), named("--stop-when at-once"));
        wrapped.ending.killed = true;
        assert_eq!(options(&wrapped, DEFAULTS), [None]);
    }

    #[test]
    fn ports_are_named_where_there_are_several() {
        let mut several = report("x", Fate::NotTried);
        several.listeners.push(listener("0.0.0.0:9090", ListenerKind::Shared));
        assert_eq!(options(&several, DEFAULTS), [None], "nobody knows which");
        several.listeners[1] = listener("0.0.0.0:41234", ListenerKind::Private);
        assert_eq!(options(&several, DEFAULTS), named("--port 8080"));
        several.listeners[1] = listener("/run/x.sock", ListenerKind::Unix);
        assert_eq!(recommend(&several, DEFAULTS), []);
        several.listeners.push(listener("[::]:9090", ListenerKind::Shared));
        let given = InForce {
            port_given: true,
            ..DEFAULTS
        };
        assert_eq!(recommend(&several, given), []);
    }

    #[test]
    fn times_that_are_long_are_named() {
        let mut slow = report("x", Fate::NotTried);
        slow.ending.took_ms = 6_000;
        slow.http = Http::Answered {
            status: 200,
            first_answer_ms: 900,
            keeps_alive: true,
        };
        let expected = ["--ready http:/", "--stop-timeout 13s"].map(|option| Some(option.to_owned()));
        assert_eq!(options(&slow, DEFAULTS), expected);
        slow.http = Http::Silent;
        slow.ending.killed = true;
        assert_eq!(options(&slow, DEFAULTS), [None]);
    }
}
