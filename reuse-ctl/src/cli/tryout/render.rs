//! A report as text and as JSON.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use super::judge::{Recommendation, cuts_requests};
use super::report::{Fate, Http, ListenerKind, Report, What};
use crate::base::durations::tenths;

const GREEN: &str = "\x1b[32m";
const YELLOW: &str = "\x1b[33m";
const PLAIN: &str = "\x1b[0m";

/// A line for each thing that was seen, the recommendations, and the command to run.
///
/// `given`: the options of the trial that `run` needs as well.
pub(crate) fn render(report: &Report, recommendations: &[Recommendation], given: &str, colour: bool) -> String {
    let lines = lines(report);
    let width = lines.iter().map(|line| line.name.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for ReportLine { good, name, detail } in &lines {
        let (mark, paint) = if *good { ("✓", GREEN) } else { ("!", YELLOW) };
        let mark = if colour {
            format!("{paint}{mark}{PLAIN}")
        } else {
            mark.to_owned()
        };
        say(&mut text, format_args!("{mark} {name:width$}  {detail}"));
    }
    say(&mut text, format_args!(""));
    if let Some(meaning) = meaning(report) {
        say(&mut text, format_args!("{meaning}"));
    }
    for Recommendation { option, reason } in recommendations {
        match option {
            Some(option) => say(&mut text, format_args!("→ {option}: {reason}")),
            None => say(&mut text, format_args!("→ {reason}")),
        }
    }
    say(
        &mut text,
        format_args!(
            "It works under reuse-ctl, with one worker for each processor:\n  {}",
            command_line(report, recommendations, given)
        ),
    );
    text
}

/// What the lines above mean for requests, if that is known or can be found out.
fn meaning(report: &Report) -> Option<String> {
    let signal = &report.ending.signal;
    if cuts_requests(report) {
        return Some(format!(
            "{signal} cuts off the requests that this server works on. That is no problem: `run` waits until there are none before it sends {signal}."
        ));
    }
    match (report.http, report.fate(What::InFlight)) {
        (Http::Answered { .. }, None) => Some(
            "What happens to a request that takes a while was not tried: `--slow-path /PATH` names one that takes a second or more.".into(),
        ),
        (Http::Silent, _) | (_, Some(_)) => None,
    }
}

/// `{"ok", "report", "recommendations", "cuts_requests", "command"}`.
pub(crate) fn to_json(report: &Report, recommendations: &[Recommendation], given: &str) -> Value {
    json!({
        "ok": true,
        "report": report,
        "recommendations": recommendations,
        "cuts_requests": cuts_requests(report),
        "command": command_line(report, recommendations, given),
    })
}

struct ReportLine {
    good: bool,
    name: &'static str,
    detail: String,
}

fn lines(report: &Report) -> Vec<ReportLine> {
    let mut lines = vec![ReportLine {
        good: true,
        name: "ready",
        detail: format!("it listened after {}", time(report.ready_ms)),
    }];
    for listener in &report.listeners {
        let (name, meaning) = match listener.kind {
            ListenerKind::Shared => (
                "listener",
                "all workers share it, and reuse-ctl spreads the connections",
            ),
            ListenerKind::Private => ("listener", "each worker has its own, which reuse-ctl leaves alone"),
            ListenerKind::Udp => (
                "UDP",
                "reuse-ctl leaves it alone; workers must set SO_REUSEPORT to share it",
            ),
            ListenerKind::Unix => ("unix socket", "reuse-ctl leaves it alone; workers can't share it"),
        };
        lines.push(ReportLine {
            good: listener.kind == ListenerKind::Shared,
            name,
            detail: format!("{} ({}): {meaning}", listener.address, listener.program),
        });
    }
    lines.push(match report.wrappers.as_slice() {
        [] => ReportLine {
            good: true,
            name: "process",
            detail: "the one that is started is the server".into(),
        },
        wrappers => ReportLine {
            good: true,
            name: "process",
            detail: format!("the server is started through {}", wrappers.join(" → ")),
        },
    });
    lines.push(http(report.http));
    lines.extend(report.clients.iter().filter_map(|client| {
        let (name, detail) = (of(client.what), fate(client.what, client.fate)?);
        let good = match client.what {
            What::InFlight | What::HalfRead | What::JustSent => !client.fate.is_cut(),
            What::Idle => !matches!(client.fate, Fate::Reset { .. } | Fate::LeftOpen),
            What::WebSocket => matches!(client.fate, Fate::ClosedWith { .. }),
        };
        Some(ReportLine { good, name, detail })
    }));
    let ending = &report.ending;
    lines.push(ReportLine {
        good: !ending.killed,
        name: "end",
        detail: if ending.killed {
            format!(
                "it did not end on {}, and was killed after {}",
                ending.signal,
                time(ending.took_ms)
            )
        } else {
            let handler = if ending.caught {
                ""
            } else {
                ", for which it has no handler"
            };
            let (took, signal) = (time(ending.took_ms), &ending.signal);
            match report.wrappers.first() {
                // Naming the same signal twice would read like two signals.
                None if ending.how.ends_with(signal.as_str()) => format!("{signal} ended it after {took}{handler}"),
                None => format!("it {}, {took} after {signal}{handler}", ending.how),
                Some(first) => format!(
                    "all of it had ended {took} after {signal}{handler} ({first} {})",
                    ending.how
                ),
            }
        },
    });
    lines.extend(left(report));
    lines
}

fn http(http: Http) -> ReportLine {
    match http {
        Http::Answered {
            status,
            first_answer_ms,
            keeps_alive,
        } => ReportLine {
            good: status < 500,
            name: "HTTP",
            detail: format!(
                "answered with {status} after {}{}",
                time(first_answer_ms),
                if keeps_alive {
                    ""
                } else {
                    ", and closes each connection"
                }
            ),
        },
        Http::Silent => ReportLine {
            good: true,
            name: "HTTP",
            detail: "no answer to GET: what happens to requests was not tried".into(),
        },
    }
}

fn of(what: What) -> &'static str {
    match what {
        What::InFlight => "request in flight",
        What::HalfRead => "half-sent request",
        What::JustSent => "request just sent",
        What::Idle => "idle connection",
        What::WebSocket => "WebSocket",
    }
}

/// `None` if nothing was learned.
fn fate(what: What, fate: Fate) -> Option<String> {
    let owed = match what {
        What::InFlight | What::HalfRead | What::JustSent => " without an answer",
        What::WebSocket => " without a close frame",
        What::Idle => "",
    };
    Some(match fate {
        Fate::Answered { status, after_ms } => format!("answered with {status}, {} after the signal", time(after_ms)),
        Fate::Closed {
            after_ms,
            partly_answered,
        } => {
            let owed = if partly_answered {
                " in the middle of the answer"
            } else {
                owed
            };
            format!("closed{owed}, {} after the signal", time(after_ms))
        }
        Fate::ClosedWith { code, after_ms } => format!("closed with code {code}, {} after the signal", time(after_ms)),
        Fate::Reset { after_ms } => format!("reset{owed}, {} after the signal", time(after_ms)),
        Fate::LeftOpen => "left open".into(),
        Fate::TooFast | Fate::NotTried => return None,
    })
}

fn left(report: &Report) -> Vec<ReportLine> {
    let kinds = [
        ("process", &report.left.processes),
        ("socket file", &report.left.sockets),
        ("listener", &report.left.listeners),
    ];
    let some = kinds.into_iter().filter(|(_, names)| !names.is_empty());
    let mut lines: Vec<ReportLine> = some
        .map(|(kind, names)| ReportLine {
            good: false,
            name: "left behind",
            detail: format!("{kind} {}", names.join(", ")),
        })
        .collect();
    if lines.is_empty() {
        lines.push(ReportLine {
            good: true,
            name: "left behind",
            detail: "nothing".into(),
        });
    }
    lines
}

fn command_line(report: &Report, recommendations: &[Recommendation], given: &str) -> String {
    let options = recommendations
        .iter()
        .filter_map(|recommendation| recommendation.option.as_deref());
    let options: String = options.map(|option| format!(" {option}")).collect();
    let command: Vec<&str> = report.command.iter().map(String::as_str).collect();
    format!(
        "sudo reuse-ctl run --workers max{given}{options} -- {}",
        shell_words::join(command)
    )
}

/// "80 ms", "2.4 s".
fn time(ms: u64) -> String {
    if ms < 1000 {
        format!("{ms} ms")
    } else {
        tenths(Duration::from_millis(ms))
    }
}

fn say(text: &mut String, content: std::fmt::Arguments<'_>) {
    writeln!(text, "{content}").expect("a String takes everything");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::tryout::report::{Client, Ending, Left, Listener};

    fn report() -> Report {
        let client = |what, fate| Client { what, fate };
        Report {
            command: vec!["nginx".into(), "-g".into(), "daemon off;".into()],
            ready_ms: 40,
            listeners: vec![
                Listener {
                    address: "0.0.0.0:8080".into(),
                    kind: ListenerKind::Shared,
                    program: "nginx".into(),
                },
                Listener {
                    address: "0.0.0.0:53".into(),
                    kind: ListenerKind::Udp,
                    program: "nginx".into(),
                },
            ],
            wrappers: vec!["npm start".into(), "sh".into()],
            http: Http::Answered {
                status: 200,
                first_answer_ms: 3,
                keeps_alive: true,
            },
            ending: Ending {
                signal: "SIGTERM".into(),
                caught: true,
                took_ms: 1250,
                killed: false,
                how: "exited with code 0".into(),
            },
            clients: vec![
                client(
                    What::InFlight,
                    Fate::Closed {
                        after_ms: 3,
                        partly_answered: false,
                    },
                ),
                client(What::HalfRead, Fate::NotTried),
                client(What::JustSent, Fate::TooFast),
                client(
                    What::Idle,
                    Fate::Closed {
                        after_ms: 3,
                        partly_answered: false,
                    },
                ),
                client(
                    What::WebSocket,
                    Fate::ClosedWith {
                        code: 1001,
                        after_ms: 2,
                    },
                ),
            ],
            left: Left::default(),
        }
    }

    #[test]
    fn a_person_reads_what_was_seen_and_what_to_type() {
        let recommendations = [Recommendation {
            option: Some("--stop-signal SIGQUIT".into()),
            reason: "because".into(),
        }];
        insta::assert_snapshot!(render(&report(), &recommendations, " --port 8080", false), @"
        ✓ ready              it listened after 40 ms
        ✓ listener           0.0.0.0:8080 (nginx): all workers share it, and reuse-ctl spreads the connections
        ! UDP                0.0.0.0:53 (nginx): reuse-ctl leaves it alone; workers must set SO_REUSEPORT to share it
        ✓ process            the server is started through npm start → sh
        ✓ HTTP               answered with 200 after 3 ms
        ! request in flight  closed without an answer, 3 ms after the signal
        ✓ idle connection    closed, 3 ms after the signal
        ✓ WebSocket          closed with code 1001, 2 ms after the signal
        ✓ end                all of it had ended 1.2 s after SIGTERM (npm start exited with code 0)
        ✓ left behind        nothing

        SIGTERM cuts off the requests that this server works on. That is no problem: `run` waits until there are none before it sends SIGTERM.
        → --stop-signal SIGQUIT: because
        It works under reuse-ctl, with one worker for each processor:
          sudo reuse-ctl run --workers max --port 8080 --stop-signal SIGQUIT -- nginx -g 'daemon off;'
        ");
    }

    #[test]
    fn what_was_not_tried_is_said_and_no_signal_is_named_twice() {
        let mut quiet = report();
        quiet.clients.clear();
        quiet.wrappers.clear();
        quiet.ending.how = "was killed by SIGTERM".into();
        let text = render(&quiet, &[], "", false);
        assert!(text.contains("was not tried: `--slow-path /PATH`"), "{text}");
        assert!(text.contains("SIGTERM ended it after 1.2 s\n"), "{text}");
        quiet.http = Http::Silent;
        assert!(!render(&quiet, &[], "", false).contains("--slow-path"));
    }

    #[test]
    fn json_has_the_same() {
        let json = to_json(&report(), &[], "");
        assert_eq!((&json["ok"], &json["cuts_requests"]), (&json!(true), &json!(true)));
        assert_eq!(json["report"]["listeners"][0]["kind"], "shared");
        assert_eq!(
            json["report"]["clients"][4]["fate"],
            json!({"is": "closed_with", "code": 1001, "after_ms": 2})
        );
        assert_eq!(
            json["command"],
            "sudo reuse-ctl run --workers max -- nginx -g 'daemon off;'"
        );
    }
}
