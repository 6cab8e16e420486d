//! `ls`: lists the running apps, and those that left something behind.

use super::{
    apps, output,
    table::{Align, Cell, table},
    terminal::{Paint, Tone},
};
use std::time::Duration;

use serde::Serialize;

use crate::{
    app::names::paths_of,
    base::{Failure, WorkerState, durations::short_duration},
    cli::context::Context,
    client::{Client, ClientError},
    process::paths::KnownApp,
    wire::Status,
};

/// A controller that doesn't answer within this time is listed without details.
const PATIENCE: Duration = Duration::from_secs(2);

pub(super) async fn run(context: &Context) -> Result<(), Failure> {
    let mut rows = Vec::new();
    for entry in apps::list()? {
        rows.push(AppRow::look(entry).await);
    }
    if context.json {
        #[derive(Serialize)]
        struct Apps {
            apps: Vec<AppRow>,
        }
        return output::print_json(&output::Okay::new(Apps { apps: rows }));
    }
    output::print(&render(&rows, context.terminal.paint))
}

/// One app, with the details that are known.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
struct AppRow {
    app: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    active: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    workers: Option<usize>,
    addresses: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uptime_s: Option<u64>,
    /// Why no worker serves, if none will until a user intervenes.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
    /// Why there are no details.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl AppRow {
    async fn look(entry: KnownApp) -> Self {
        let Ok(paths) = paths_of(&entry.name) else {
            return Self::silent(&entry, "its name can't be an app's".into());
        };
        let ask = async { Client::connect(&paths.control_socket()).await?.status().await };
        match tokio::time::timeout(PATIENCE, ask).await {
            Ok(Ok(status)) => Self::from(&status),
            Ok(Err(error)) => Self::silent(
                &entry,
                if entry.alive {
                    apps::explain(&entry, error).error
                } else {
                    "its controller is gone".into()
                },
            ),
            Err(_) => {
                let silent = ClientError::Silent(paths.control_socket());
                Self::silent(&entry, apps::explain(&entry, silent).error)
            }
        }
    }

    fn silent(entry: &KnownApp, error: String) -> Self {
        Self {
            app: entry.name.clone(),
            pid: entry.pid,
            error: Some(error),
            ..Self::default()
        }
    }
}

impl From<&Status> for AppRow {
    fn from(status: &Status) -> Self {
        Self {
            app: status.app.clone(),
            pid: Some(status.pid),
            policy: Some(status.policy.clone()),
            active: Some(
                status
                    .workers
                    .iter()
                    .filter(|worker| worker.state == WorkerState::Active)
                    .count(),
            ),
            workers: Some(status.workers.len()),
            addresses: status.groups.iter().map(|group| group.addr.clone()).collect(),
            uptime_s: Some(status.uptime_s),
            problem: status.problem.clone(),
            error: None,
        }
    }
}

fn render(rows: &[AppRow], paint: Paint) -> String {
    if rows.is_empty() {
        return "no app is running; `sudo reuse-ctl run -- ./server` starts one\n".into();
    }
    let header = [
        ("APP", Align::Left),
        ("PID", Align::Right),
        ("POLICY", Align::Left),
        ("ACTIVE", Align::Right),
        ("UPTIME", Align::Right),
        ("ADDRESSES", Align::Left),
    ];
    let cells: Vec<[Cell; 6]> = rows
        .iter()
        .map(|row| {
            let active = row.active.zip(row.workers);
            let tone = match (active, &row.problem) {
                (_, Some(_)) => Tone::Bad,
                (Some((active, workers)), None) if active == workers => Tone::Good,
                (Some(_) | None, None) => Tone::Changing,
            };
            let addresses = row.addresses.join(" ");
            let last = match (&row.error, &row.problem) {
                (Some(error), _) => Cell::toned(Tone::Bad, error),
                (None, Some(problem)) if addresses.is_empty() => Cell::toned(Tone::Bad, problem),
                (None, Some(problem)) => Cell::toned(Tone::Bad, format!("{addresses}: {problem}")),
                (None, None) => Cell::new(addresses),
            };
            [
                Cell::toned(Tone::Strong, &row.app),
                Cell::new(row.pid.map(|pid| pid.to_string()).unwrap_or_default()),
                Cell::new(row.policy.clone().unwrap_or_default()),
                Cell::toned(
                    tone,
                    active
                        .map(|(active, workers)| format!("{active}/{workers}"))
                        .unwrap_or_default(),
                ),
                Cell::new(row.uptime_s.map(short_duration).unwrap_or_default()),
                last,
            ]
        })
        .collect();
    table(header, &cells, paint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apps_and_what_is_left_of_them() {
        let dead = KnownApp {
            name: "old-one".into(),
            pid: Some(99),
            alive: false,
        };
        let rows = [
            AppRow::from(&crate::server::fake::status()),
            AppRow::silent(&dead, "its controller is gone".into()),
        ];
        insta::assert_snapshot!(render(&rows, Paint::OFF), @r"
        APP       PID  POLICY  ACTIVE  UPTIME  ADDRESSES
        shop     4711  sticky     1/3   1h 2m  0.0.0.0:8080 [::]:8443
        old-one    99                          its controller is gone
        ");
        let failed = Status {
            problem: Some("every worker has failed: exited with code 1".into()),
            ..crate::server::fake::status()
        };
        let shown = render(&[AppRow::from(&failed)], Paint::OFF);
        assert!(
            shown.contains("0.0.0.0:8080 [::]:8443: every worker has failed: exited with code 1"),
            "{shown}"
        );
        assert!(render(&[], Paint::OFF).starts_with("no app is running"));
    }
}
