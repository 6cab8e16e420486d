//! `stop`: stops the app, and returns when its controller has ended as well, so that nothing is left.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    apps, args, output,
    progress::{Request, watch},
};
use crate::{
    base::{Failure, count, durations::tenths, whole_ms::whole_ms},
    cli::context::Context,
    controller::leftovers,
    process::paths::KnownApp,
    wire::{Reply, Status, StopRequest},
};

/// Time that a controller has to clean up after its workers have ended.
const CLEAN_UP: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);

pub(super) async fn run(context: &Context, arguments: &args::Stop) -> Result<(), Failure> {
    if let Some(name) = apps::dead_one(context.app.as_deref())? {
        return output::finish(context, clear_away(&name).await?);
    }
    if arguments.leftovers {
        return output::finish(
            context,
            Reply {
                ok: true,
                message: Some("nothing was left behind".into()),
                ..Reply::default()
            },
        );
    }
    let app = apps::connect(context).await?;
    let request = Request::post(
        "/v1/stop",
        StopRequest {
            timeout_ms: arguments.timeout.map(whole_ms),
        },
    );
    let line = |status: &Status, elapsed: Duration| {
        let timeout = arguments.timeout.or(status.drain_timeout_ms.map(Duration::from_millis));
        stop_line(status, timeout.map(|timeout| timeout.saturating_sub(elapsed)))
    };
    let work = async {
        let reply = request.send(&app).await?;
        if reply.ok {
            wait_until_gone(&app.entry).await?;
        }
        Ok(reply)
    };
    let interrupted = || {
        Failure::failed(
            "no longer waiting; the app goes on stopping",
            "`reuse-ctl ls` shows whether it still runs",
        )
    };
    let reply = watch(context, &app, line, work, interrupted).await?;
    output::finish(context, reply)
}

/// Removes what an app's killed controller has left behind.
async fn clear_away(name: &str) -> Result<Reply, Failure> {
    crate::cli::context::require_root("stop, when the controller was killed,")?;
    let ended = leftovers::clear(name).await?;
    let message = format!(
        "the controller of {name} was gone; {} ended",
        if ended == 1 {
            "1 process".into()
        } else {
            format!("{ended} processes")
        }
    );
    Ok(Reply {
        ok: true,
        message: Some(message),
        ..Reply::default()
    })
}

async fn wait_until_gone(controller: &KnownApp) -> Result<(), Failure> {
    let deadline = Instant::now() + CLEAN_UP;
    while apps::is_alive(controller)? {
        if Instant::now() > deadline {
            let (name, seconds) = (&controller.name, CLEAN_UP.as_secs());
            return Err(Failure::timeout(
                format!("the workers of {name} have ended, but its controller is still there after {seconds} s"),
                "its log shows why; `reuse-ctl ls` names its pid",
            ));
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}

fn stop_line(status: &Status, time_left: Option<Duration>) -> Option<String> {
    let workers = status.workers.iter().filter(|worker| worker.pid.is_some()).count();
    let connections: u64 = status.workers.iter().map(|worker| u64::from(worker.connections)).sum();
    let time = time_left.map(|left| format!(", {}", tenths(left))).unwrap_or_default();
    (workers > 0).then(|| {
        let workers = count(workers, "worker");
        format!("{workers} to end, {} left{time}", count(connections, "connection"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_what_is_left() {
        let status = crate::server::fake::status();
        let left = Some(Duration::from_millis(9_950));
        assert_eq!(
            stop_line(&status, left).as_deref(),
            Some("2 workers to end, 29 connections left, 9.9 s")
        );
        assert_eq!(
            stop_line(
                &Status {
                    workers: vec![],
                    ..status
                },
                left
            ),
            None
        );
    }
}
