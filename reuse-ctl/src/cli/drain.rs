//! `drain ID…`: withdraws workers, and waits until nothing is left on them.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{
    apps::{self, App},
    args, output,
    progress::{Request, watch},
};
use crate::{
    base::{ErrorKind, Failure, Verb, count, durations::tenths, whole_ms::whole_ms},
    cli::context::Context,
    wire::{DrainRequest, Reply, Status, WorkerStatus},
};

pub(super) async fn run(context: &Context, arguments: &args::Drain) -> Result<(), Failure> {
    let app = apps::connect(context).await?;
    let ids: BTreeSet<u16> = arguments.ids.iter().copied().collect();
    let request = DrainRequest {
        timeout_ms: arguments.timeout.map(whole_ms),
        no_wait: arguments.no_wait,
        force: arguments.force,
    };
    let line = |status: &Status, elapsed: Duration| {
        let timeout = arguments.timeout.or(status.drain_timeout_ms.map(Duration::from_millis));
        drain_line(
            status,
            &ids,
            timeout.map(|timeout| timeout.saturating_sub(elapsed)),
            elapsed,
        )
    };
    let replies = watch(context, &app, line, drain_all(&app, &ids, request), || {
        interrupted(&ids)
    })
    .await?;
    let timed_out: BTreeSet<u16> = replies
        .iter()
        .filter(|(_, reply)| reply.kind == Some(ErrorKind::Timeout))
        .map(|(id, _)| *id)
        .collect();
    let replies = replies.into_iter().map(|(_, reply)| reply).collect();
    let mut result = output::finish_all(context, replies);
    if let Err(failure) = &mut result
        && !timed_out.is_empty()
        && let Ok(status) = app.client.status().await
    {
        failure.left = named(&status, &timed_out).map(left_on).collect();
    }
    result
}

/// Sends one request per worker, all at once. Each ends when its worker is drained.
async fn drain_all(app: &App, ids: &BTreeSet<u16>, request: DrainRequest) -> Result<Vec<(u16, Reply)>, Failure> {
    let mut requests = tokio::task::JoinSet::new();
    for id in ids.iter().copied() {
        let app = app.clone();
        requests.spawn(async move {
            (
                id,
                Request::post(format!("/v1/workers/{id}/drain"), request)
                    .send(&app)
                    .await,
            )
        });
    }
    let mut replies = Vec::new();
    for (id, reply) in requests.join_all().await {
        replies.push((id, reply?));
    }
    replies.sort_by_key(|(id, _)| *id);
    Ok(replies)
}

fn interrupted(ids: &BTreeSet<u16>) -> Failure {
    let ids: Vec<String> = ids.iter().map(u16::to_string).collect();
    Failure::failed(
        "no longer waiting; the workers stay withdrawn, and their connections go on to their end",
        Verb::Undrain.with(ids.join(" ")) + " publishes them again",
    )
}

/// `worker 2: 17 connections left (3 queued), 24.1 s`: with the remaining time, or the elapsed time if no limit is known.
fn drain_line(status: &Status, ids: &BTreeSet<u16>, time_left: Option<Duration>, elapsed: Duration) -> Option<String> {
    let waiting: Vec<String> = named(status, ids)
        .filter(|worker| worker.connections > 0)
        .map(left_on)
        .collect();
    let time = match time_left {
        Some(left) => tenths(left),
        None => format!("{} so far", tenths(elapsed)),
    };
    (!waiting.is_empty()).then(|| format!("{}, {time}", waiting.join("; ")))
}

fn named<'a>(status: &'a Status, ids: &'a BTreeSet<u16>) -> impl Iterator<Item = &'a WorkerStatus> {
    status.workers.iter().filter(|worker| ids.contains(&worker.id))
}

fn left_on(worker: &WorkerStatus) -> String {
    let connections = count(worker.connections, "connection");
    match worker.queue {
        0 => format!("worker {}: {connections} left", worker.id),
        queue => format!("worker {}: {connections} left ({queue} queued)", worker.id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::fake;

    #[test]
    fn the_line_says_what_is_left() {
        let status = fake::status();
        let line = |ids: &[u16], left| {
            drain_line(
                &status,
                &ids.iter().copied().collect(),
                left,
                Duration::from_millis(5900),
            )
        };
        let left = Some(Duration::from_millis(24_100));
        assert_eq!(
            line(&[1], left).as_deref(),
            Some("worker 1: 17 connections left (3 queued), 24.1 s")
        );
        assert_eq!(
            line(&[1], None).as_deref(),
            Some("worker 1: 17 connections left (3 queued), 5.9 s so far")
        );
        assert_eq!(
            line(&[0, 1], left).as_deref(),
            Some("worker 0: 12 connections left; worker 1: 17 connections left (3 queued), 24.1 s")
        );
        assert_eq!(line(&[9], left), None);
    }

    #[tokio::test]
    async fn every_worker_is_asked_and_the_slowest_waited_for() {
        use crate::base::SlotId;
        use reuse_machine::interface::Command;
        let fake = fake::App::start("drain", |command: &Command| {
            let Command::Drain { slot: SlotId(slot), .. } = *command else {
                panic!("only drains are asked for")
            };
            let kind = (slot == 1).then_some(ErrorKind::Timeout);
            std::future::ready(Reply {
                ok: kind.is_none(),
                kind,
                workers: vec![slot],
                ..Reply::default()
            })
        });
        let client = crate::client::Client::connect(&fake.socket())
            .await
            .expect("it listens");
        let entry = crate::process::paths::KnownApp {
            name: "shop".into(),
            pid: None,
            alive: true,
        };
        let ids = [0, 1, 2].into();
        let replies = drain_all(&App { entry, client }, &ids, DrainRequest::default())
            .await
            .expect("all answered");
        let kinds: Vec<_> = replies.iter().map(|(id, reply)| (*id, reply.kind)).collect();
        assert_eq!(kinds, [(0, None), (1, Some(ErrorKind::Timeout)), (2, None)]);
        assert_eq!(fake.asked().len(), 3);
    }
}
