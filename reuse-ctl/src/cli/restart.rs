//! `restart ID…|--all`: replaces workers by new processes, one after the other. Stops at the first that fails.

use std::collections::BTreeSet;

use super::{
    apps, args, output,
    progress::{Request, changing_line, watch},
    reload,
};
use crate::{
    base::{Failure, Verb},
    cli::context::Context,
    wire::RestartRequest,
};

pub(super) async fn run(context: &Context, arguments: &args::Restart) -> Result<(), Failure> {
    if arguments.all {
        return reload::run(
            context,
            &args::Reload {
                stop_first: arguments.stop_first,
                new_address: arguments.new_address,
            },
        )
        .await;
    }
    let app = apps::connect(context).await?;
    let ids: BTreeSet<u16> = arguments.ids.iter().copied().collect();
    let request = RestartRequest {
        stop_first: arguments.stop_first,
        new_address: arguments.new_address,
    };
    let work = async {
        let mut replies = Vec::new();
        for id in ids {
            let reply = Request::post(format!("/v1/workers/{id}/restart"), request)
                .send(&app)
                .await?;
            let is_done = reply.ok;
            replies.push(reply);
            if !is_done {
                break;
            }
        }
        Ok(replies)
    };
    let replies = watch(context, &app, |status, _| changing_line(status), work, interrupted).await?;
    output::finish_all(context, replies)
}

pub(super) fn interrupted() -> Failure {
    Failure::failed(
        "no longer waiting; the controller finishes the replacement that it has begun",
        Verb::Status.with("--watch") + " shows how far it is",
    )
}
